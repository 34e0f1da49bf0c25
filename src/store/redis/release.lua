#!lua flags=allow-oom
-- release.lua: gives a lease back under all of its limits. The step is that of src/engine/leases.rs.
--
-- KEYS  one a limit: the sorted sets of leases by end.
-- ARGV  [1] the lease id; then for each limit its ttl in microseconds.
-- reply 1, or 0 when there was nothing to give back.
--
-- Complexity: O(limits · log leases). A key of another type holds no lease.
local time = redis.call('TIME') -- the store's clock
local now = time[1] * 1000000 + time[2]
local CLOCK_JUMP = 1000000 -- of engine/units.rs
local now_text, released = string.format('%.0f', now), 0
for k = 1, #KEYS do
  local key = KEYS[k]
  local gone = redis.pcall('ZREMRANGEBYSCORE', key, '-inf', now_text)
  if type(gone) ~= 'table' then
    local latest, last = now + ARGV[k + 1], redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
    if last and last - latest > CLOCK_JUMP then
      latest = string.format('%.0f', latest)
      local late = redis.call('ZRANGEBYSCORE', key, '(' .. latest, '+inf')
      for m = 1, #late do redis.call('ZADD', key, 'XX', latest, late[m]) end
    end
    if redis.call('ZREM', key, ARGV[1]) == 1 then released = 1 end
  end
end
return released
