#!lua flags=no-writes
-- probe.lua: whether scripts may run, and the clock.
--
-- KEYS  none.
-- ARGV  none.
-- reply microseconds since the epoch, as text.
--
-- Complexity: O(1).
local time = redis.call('TIME')
return string.format('%.0f', time[1] * 1000000 + time[2])
