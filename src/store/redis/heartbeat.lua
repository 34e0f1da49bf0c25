#!lua flags=allow-oom
-- heartbeat.lua: says that a replica lives, and counts those that do.
--
-- KEYS  [1] the sorted set of replicas by the end of their word.
-- ARGV  [1] the replica's id. [2] milliseconds that its word holds.
-- reply how many live, this one included.
--
-- Complexity: O(log replicas).
local time = redis.call('TIME') -- the store's clock
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2] * 1000), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
