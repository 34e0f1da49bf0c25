#!lua
-- one.lua: decides a single ask of one demand on one counter. It is take.lua for the case that nothing waits, written
-- straight on: tables and functions would cost more than the decision itself. State, numbers and steps are the same.
--
-- KEYS  [1] the counter.
-- ARGV  [1] struct '<BBdddddds' of kind, take (0 to 3), need, keep, four numbers, px; as a group of take.lua.
-- reply as one ask of a group of take.lua, after now.
--
-- Complexity: O(entries) a window, at most 64 of them but for edited limits. Everything is checked before the write.
local get, put = struct.unpack, struct.pack
local time = redis.call('TIME') -- the store's clock
local now = time[1] * 1000000 + time[2]
local key, TOO_LARGE = KEYS[1], 9007199254740992 -- 2^53
local CLOCK_JUMP = 1000000 -- of engine/units.rs
local kind, take, need, keep, n1, n2, n3, n4, px = get('<BBdddddds', ARGV[1])
local s = redis.pcall('GET', key) -- a table for a key of another type, whose length is 0

if kind == 2 then
  local at, ends, mended = now, 0, false
  if s then
    if #s ~= 16 and #s ~= 24 then return put('<dd', now, -2) end
    local most = n1
    at, ends = get('<dd', s)
    if #s == 24 then most, ends = n1 * (1 + get('<d', s, 17)), 0 end -- in debt for so many bursts
    if not (at >= 0 and at < TOO_LARGE) then return put('<dd', now, -2) end
    if at > now + most + CLOCK_JUMP then at, ends, mended = now + n1, 0, true end
    if at < now then at = now end
  end
  local offset = at - now
  if offset + n2 <= n1 then at = at + n2
  elseif not mended then take = 1 end
  if take == 0 then
    if ends < now + need then redis.call('SET', key, put('<dd', at, now + keep), 'PX', px)
    else redis.call('SETRANGE', key, '0', put('<d', at)) end
  end
  return put('<dd', now, offset)
end

if kind == 3 then
  local start, units, ends, current, later, mended = 0, 0, 0, now - now % n3, 0, false
  if s then
    if #s ~= 24 then return put('<ddd', now, -2, 0) end
    start, units, ends = get('<ddd', s)
    if not (start >= 0 and start < TOO_LARGE and units >= 0 and units < TOO_LARGE) then
      return put('<ddd', now, -2, 0)
    end
    if start < current then units = 0
    elseif start - now > math.max(n3, CLOCK_JUMP) then mended = true -- the clock jumped back
    elseif start > now then current, later = start, start - now end -- no time has passed
  end
  local used = units
  if take == 3 then
    if used == 0 and not mended then take = 1 end
    units = used > n2 and used - n2 or 0
  elseif take == 2 or used + n2 <= n1 then
    units = used + n2 < TOO_LARGE and used + n2 or TOO_LARGE - 1
  elseif not mended then take = 1 end
  if take ~= 1 then
    if start ~= current or ends < now + need then
      redis.call('SET', key, put('<ddd', current, units, now + keep), 'PX', px)
    else
      redis.call('SETRANGE', key, '8', put('<d', units))
    end
  end
  return put('<ddd', now, used, later)
end

local slot, at, total, before, ends, from, size, mended = now - now % n4, false, 0, 0, 0, 17, 16, false
if s then
  size = #s
  if size < 32 or size % 16 ~= 0 then return put('<dddd', now, -2, 0, 0) end
  ends, before = get('<dd', s)
  at, total = get('<dd', s, size - 15)
  if not (at >= 0 and at < TOO_LARGE and total >= before and total < TOO_LARGE) then
    return put('<dddd', now, -2, 0, 0)
  end
  local newest = at - at % n4
  if newest > slot and newest - now <= CLOCK_JUMP then slot = newest -- no time has passed
  elseif newest > slot then -- the clock jumped back: entries from the future become one of now
    local last = size - 15
    while last > 17 do
      local earlier = get('<d', s, last - 16)
      if earlier - earlier % n4 <= slot then break end
      last = last - 16
    end
    at = slot + n4 - 1
    s = string.sub(s, 1, last - 1) .. put('<dd', at, total)
    size, ends, mended = last + 15, 0, true
  end
  if at - at % n4 + n3 <= slot then
    at, total, before, ends, size = false, 0, 0, 0, 16
  else
    local oldest = get('<d', s, 17)
    while oldest - oldest % n4 + n3 <= slot do
      before, ends, from = get('<d', s, from + 8), 0, from + 16
      if from > size then return put('<dddd', now, -2, 0, 0) end
      oldest = get('<d', s, from)
    end
    if not (total >= before) then return put('<dddd', now, -2, 0, 0) end
  end
end

local used, reset = total - before, at and at - at % n4 + n3 - now or 0
if used + n2 > n1 then
  local retry = 0
  if n2 <= n1 then
    local target, entry, freed = total + n2 - n1, from, at
    while entry < size - 15 do
      if get('<d', s, entry + 8) >= target then
        freed = get('<d', s, entry)
        break
      end
      entry = entry + 16
    end
    retry = freed - freed % n4 + n3 - now
  end
  if mended and take == 0 then
    redis.call('SET', key, put('<dd', now + keep, before) .. string.sub(s, from), 'PX', px)
  end
  return put('<dddd', now, used, retry, reset)
end
if take == 1 then return put('<dddd', now, used, 0, reset) end

total = total + n2
local grows = at and at - at % n4 == slot
if not grows then at = slot + n4 - 1 end
if ends >= now + need then
  if grows then redis.call('SETRANGE', key, size - 8, put('<d', total))
  else redis.call('APPEND', key, put('<dd', at, total)) end
else
  local entries = size > 16 and string.sub(s, from, grows and size - 16 or size) or ''
  if total > TOO_LARGE / 2 then -- begin the totals anew
    local parts = {}
    for i = 1, #entries, 16 do
      local moment, sum = get('<dd', entries, i)
      parts[#parts + 1] = put('<dd', moment, sum - before)
    end
    entries, total, before = table.concat(parts), total - before, 0
  end
  redis.call('SET', key, put('<dd', now + keep, before) .. entries .. put('<dd', at, total), 'PX', px)
end
return put('<dddd', now, used, 0, reset)
