#!lua
-- settle.lua: moves counters from what a reservation charged to what it cost, once. The steps are those of
-- src/engine/{window,bucket,fixed}.rs.
--
-- KEYS  [1] what is remembered of the settlement. [2...] the counters.
-- ARGV  [1] struct '<dddd' of when the reservation was charged, when its time is over, until when it is remembered, and
--           what a key outlives what it says by, in microseconds. [2] 1 when there is room to remember it, else 0.
--       [3...] for each counter struct '<Bdddddds' of kind, reserved, cost, three numbers, keep, px:
--             1 sliding window  limit, memory, grain
--             2 token bucket    tolerance, emission, the least of it and that at the charge
--             3 fixed window    limit, window, 0
--             0 none            of a policy that is gone or counts otherwise; nothing is moved
--           Times and spans are microseconds. After a change a key gets `px` milliseconds, `keep` in microseconds.
-- reply doubles, little-endian: now, state (1 settled, 2 repeated, 3 too late, 4 no room), then for each counter: cost,
--           returned, charged, and what a demand of one unit sees: level, retry offset or 0, reset offset. A state of -2 and
--           a number of KEYS: a key of another type, or with no value of ours; nothing is changed.
--
-- Values as in take.lua; the record is doubles: its end, then for each counter cost, returned, charged.
--
-- Complexity: O(entries) a window, at most 64 of them but for edited limits. Everything is checked before the first write.
local get, put = struct.unpack, struct.pack
local time = redis.call('TIME') -- the store's clock
local now = time[1] * 1000000 + time[2]
local TOO_LARGE = 9007199254740992 -- 2^53
local CLOCK_JUMP = 1000000 -- of engine/units.rs
local MAX_DEBT = 2047 -- of engine/bucket.rs
local charged_at, over, remembered, margin = get('<dddd', ARGV[1])
local counters = #KEYS - 1

-- A window's entries that count, as lists of moments and units, the slot that it is read in, and whether the clock jumped
-- back; nil when it is not ours.
local function load_window(s, memory, grain)
  local slot, moments, units, mended = now - now % grain, {}, {}, false
  if not s then return moments, units, slot, mended end
  if type(s) == 'table' or #s < 32 or #s % 16 ~= 0 then return nil end
  local newest = get('<d', s, #s - 15)
  if not (newest >= 0 and newest < TOO_LARGE) then return nil end
  newest = newest - newest % grain
  if newest > slot and newest - now <= CLOCK_JUMP then slot = newest end
  local before, n = get('<d', s, 9), 0
  for i = 17, #s, 16 do
    local at, total = get('<dd', s, i)
    if not (at >= 0 and total >= before and total < TOO_LARGE) then return nil end
    if at - at % grain > slot then at, mended = slot + grain - 1, true end
    if at - at % grain + memory > slot then
      if moments[n] and moments[n] - moments[n] % grain == at - at % grain then
        units[n] = units[n] + total - before
      else
        n = n + 1
        moments[n], units[n] = at, total - before
      end
    end
    before = total
  end
  return moments, units, slot, mended
end

-- Takes up to `excess` off the newest entries that are not later than the charge.
local function give_back_window(moments, units, excess, grain)
  local left, slot = excess, charged_at - charged_at % grain
  for n = #moments, 1, -1 do
    if moments[n] - moments[n] % grain <= slot then
      local taken = math.min(left, units[n])
      units[n], left = units[n] - taken, left - taken
    end
  end
  return excess - left
end

-- What a demand of one unit sees of a window.
local function see_window(moments, units, limit, memory, grain)
  local used, last = 0, nil
  for n = 1, #moments do
    if units[n] > 0 then used, last = used + units[n], moments[n] end
  end
  local missing, retry = used + 1 - limit, 0
  for n = 1, #moments do
    if missing <= 0 then break end
    missing = missing - units[n]
    if missing <= 0 then retry = moments[n] - moments[n] % grain + memory - now end
  end
  return used, retry, last and last - last % grain + memory - now or 0
end

local function write_window(key, moments, units, keep, px)
  local parts, total = { put('<dd', now + keep, 0) }, 0
  for n = 1, #moments do
    if units[n] > 0 then
      total = math.min(total + units[n], TOO_LARGE - 1)
      parts[#parts + 1] = put('<dd', moments[n], total)
    end
  end
  if #parts == 1 then redis.call('DEL', key)
  else redis.call('SET', key, table.concat(parts), 'PX', px) end
end

-- Each returns nil for a value that is not ours; else whether the clock jumped back, and three functions: one that moves
-- it and says how many whole units were returned and whether anything was, one that says what a demand of one unit sees, and one that writes it.
local function window(key, s, row)
  local moments, units, slot, mended = load_window(s, row.n2, row.n3)
  if not moments then return nil end
  return {
    mended = mended,
    move = function(excess, shortfall)
      if shortfall > 0 then
        local last = #moments
        if moments[last] and moments[last] - moments[last] % row.n3 == slot then
          units[last] = units[last] + shortfall
        else
          moments[last + 1], units[last + 1] = slot + row.n3 - 1, shortfall
        end
        return 0
      end
      return s and give_back_window(moments, units, excess, row.n3) or 0
    end,
    see = function() return see_window(moments, units, row.n1, row.n2, row.n3) end,
    write = function() write_window(key, moments, units, row.keep, row.px) end,
  }
end

local function bucket(key, s, row)
  local at, mended, tolerance, emission = 0, false, row.n1, row.n2
  if s then
    if type(s) == 'table' or #s ~= 16 and #s ~= 24 then return nil end
    at = get('<d', s)
    if not (at >= 0 and at < TOO_LARGE) then return nil end
    local most = #s == 24 and tolerance * (1 + get('<d', s, 17)) or tolerance
    if at > now + most + CLOCK_JUMP then at, mended = now + tolerance, true end
  end
  return {
    mended = mended,
    move = function(excess, shortfall)
      if shortfall > 0 then
        at = math.min(math.max(at, now) + shortfall * emission, now + MAX_DEBT * tolerance, TOO_LARGE - 1)
        return 0
      end
      local left = math.min(charged_at + row.reserved * row.n3, at) - now
      local back = math.max(math.min(excess * row.n3, left), 0)
      at = at - back
      return (back - back % row.n3) / row.n3, back > 0
    end,
    see = function()
      local wanted, later = math.max(at, now) + emission, math.max(at - now, 0)
      return later, wanted > now + tolerance and wanted - tolerance - now or 0, later
    end,
    write = function()
      local beyond = at - now - tolerance
      local life = math.max(at - now, 0) + margin
      local px = string.format('%.0f', math.ceil(life / 1000))
      if beyond > 0 then
        redis.call('SET', key, put('<ddd', at, 0, math.min(math.ceil(beyond / tolerance), MAX_DEBT)), 'PX', px)
      else redis.call('SET', key, put('<dd', at, now + life), 'PX', px) end
    end,
  }
end

local function fixed(key, s, row)
  local limit, length = row.n1, row.n2
  local current, units, mended = now - now % length, 0, false
  if s then
    if type(s) == 'table' or #s ~= 24 then return nil end
    local start, stored = get('<dd', s)
    if not (start >= 0 and start < TOO_LARGE and stored >= 0 and stored < TOO_LARGE) then return nil end
    if start - now > math.max(length, CLOCK_JUMP) then units, mended = stored, true
    elseif start > now then current, units = start, stored
    elseif start >= current then units = stored end
  end
  return {
    mended = mended,
    move = function(excess, shortfall)
      if shortfall > 0 then
        units = math.min(units + shortfall, TOO_LARGE - 1)
        return 0
      end
      if current ~= charged_at - charged_at % length then return 0 end
      local returned = math.min(excess, units)
      units = units - returned
      return returned
    end,
    see = function()
      local edge = current + length - now
      return units, units + 1 > limit and 1 <= limit and edge or 0, units > 0 and edge or 0
    end,
    write = function() redis.call('SET', key, put('<ddd', current, units, now + row.keep), 'PX', row.px) end,
  }
end

local function gone()
  return { mended = false, move = function() return 0 end, see = function() return 0, 0, 0 end, write = function() end }
end

local kinds = { [0] = gone, window, bucket, fixed }
local rows, states = {}, {}
for k = 1, counters do
  local row = {}
  row.kind, row.reserved, row.cost, row.n1, row.n2, row.n3, row.keep, row.px = get('<Bdddddds', ARGV[k + 2])
  rows[k] = row
  states[k] = kinds[row.kind](KEYS[k + 1], redis.pcall('GET', KEYS[k + 1]), row)
  if not states[k] then return put('<ddd', now, -2, k + 1) end
end

local state, moved = 1, {}
local record = redis.pcall('GET', KEYS[1])
if type(record) == 'table' or record and (#record ~= 8 + 24 * counters) then return put('<ddd', now, -2, 1) end
if record and get('<d', record) > now then
  state = 2
  for k = 1, counters do moved[k] = string.sub(record, 24 * k - 15, 24 * k + 8) end
elseif over <= now or charged_at - now > CLOCK_JUMP then state = 3
elseif ARGV[2] ~= '1' then state = 4 end

for k = 1, counters do
  local row = rows[k]
  if state == 1 then
    local excess, shortfall = math.max(row.reserved - row.cost, 0), math.max(row.cost - row.reserved, 0)
    local returned, changed = 0, false
    if excess > 0 or shortfall > 0 then
      returned, changed = states[k].move(excess, shortfall)
      if changed or returned > 0 or shortfall > 0 or states[k].mended then states[k].write() end
    end
    moved[k] = put('<ddd', row.cost, returned, shortfall)
  elseif state > 2 then moved[k] = put('<ddd', row.reserved, 0, 0) end
end
if state == 1 then
  local px = string.format('%.0f', math.ceil((remembered - now + margin) / 1000))
  redis.call('SET', KEYS[1], put('<d', remembered) .. table.concat(moved), 'PX', px)
end
local out = { put('<dd', now, state) }
for k = 1, counters do out[#out + 1] = moved[k] .. put('<ddd', states[k].see()) end
return table.concat(out)
