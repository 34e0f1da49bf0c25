#!lua
-- take.lua: decides a batch of independent asks, each atomically: all of its enforced demands fit and everything
-- that fits is charged, or nothing is. The steps are those of src/engine/{window,bucket,fixed,leases}.rs.
-- Most asks are one demand on a counter: those come first, grouped by rule, so that a rule is read once and a
-- counter is read and written once for all the asks that it has in the batch.
--
-- KEYS  the counters of the groups, in order, each once; then what ARGV[2] names by number.
-- ARGV  [1] struct '<BI2' of the kinds in it (1 windows, 2 buckets, 4 fixed, summed) and the number of counters;
--           then groups by kind, '<BBI2dddddds' of kind, flags, keys, need, keep, four numbers, px; with flag 4 a
--           byte follows for each key: its asks. Flags: what to take (0 charge, 1 peek, and of kind 3: 2 count also
--           what does not fit, 3 refund), with 4 for counts. Times and spans are microseconds. After
--           a charge a key must have `need` to live, else it gets `px` milliseconds and so ends `keep` after now.
--             1 sliding window  limit, cost, memory, grain
--             2 token bucket    tolerance, increment, 0, 0
--             3 fixed window    limit, cost, window, 0
--       [2] when there are other asks, MessagePack of {rows, stream}:
--             rows    {kind, flags, px, need, keep, four numbers}, flags as above, but 4 is shadow, and 8: where more
--                     than its limit was used before, nothing of its ask is charged; kind 4 is leases:
--                     need 0, keep 0, limit, ttl, 0, 0
--             stream  for each ask: demands, id, subject, issued_at, foreign, kept, px, keep, then for each demand
--                     row, key and, for leases, the lease id. `id`, `subject`, `foreign`, `kept` are numbers of
--                     KEYS or 0; issued_at is in seconds, -1 when unknown. The answer is kept for `keep`, a denial for
--                     as long as its retry offset at most, and in a key of `px` less what it is shorter.
-- reply doubles, little-endian: now, then each ask of the groups; offsets are from now:
--             1 used, retry offset or 0, reset offset
--             2 arrival time's offset, at least 0
--             3 used, offset of the window's start or 0: above 0 in a later window, before which the clock went back
--           and -2 and zeros for a key of another type, or with no value of ours: nothing is charged.
--           Then each ask of ARGV[2], by its state: 0, then for each demand: 1 when it fits or 0, level, retry offset
--           or 0, reset offset; a bucket's level is an offset. -1, revoked. -2, key: as above. -3, now, how many
--           numbers, and they: the answer that was kept, whatever rule was in force then.
--
-- Values are doubles, all of them integers: window {ends, base, (at, running total)...} from the oldest, bucket
-- {arrival time, ends} or, after a settlement beyond its burst, {arrival time, 0, bursts of debt}, fixed {start, units, ends}; `ends` is when the key's expiry falls due. Leases are a sorted
-- set by end; revocations are text, see revoke.lua; a kept answer is {ends, now, numbers...}.
--
-- A clock that goes back by no more than CLOCK_JUMP (a fixed window's: by no more than a window) changes nothing. One that
-- jumped: what lies in the future is brought back to now and written so unless it is only peeked at; the engine's modules
-- say why, and what holds.
--
-- Complexity: O(KEYS), and O(log entries) a window or lease. Reads and checks come before an ask's first write.
local call, get, put = redis.call, struct.unpack, struct.pack
local time = redis.call('TIME') -- the store's clock
local now = time[1] * 1000000 + time[2]
local KEYS, groups, rest = KEYS, ARGV[1], ARGV[2]
local TOO_LARGE = 9007199254740992 -- 2^53
local CLOCK_JUMP = 1000000 -- of engine/units.rs
local kinds, counters, value, values = string.byte(groups), #KEYS, nil, nil

-- A key of another type reads as a table here; no load below takes it for a value of ours.
if counters == 1 then
  value = redis.pcall('GET', KEYS[1])
elseif kinds > 0 then
  counters = get('<I2', groups, 2)
  values = call('MGET', unpack(KEYS, 1, counters))
  local absent = {}
  for k = 1, counters do
    if not values[k] then absent[#absent + 1] = KEYS[k] end
  end
  if #absent > 0 and call('EXISTS', unpack(absent)) > 0 then -- MGET shows a key of another type as absent
    for k = 1, counters do
      if not values[k] then values[k] = redis.pcall('GET', KEYS[k]) end
    end
  end
end

-- Functions are made only where they are needed: to make one costs as much as a short step.
local load_window, retry_offset, write_window, load_bucket, write_bucket, load_fixed, write_fixed, more_or_less

if rest or kinds % 2 == 1 then
  -- The first entry after `low`, up to `high`, with a field (1 moment's slot, 9 running total) above `bound`.
  local function first_above(s, low, high, field, grain, bound)
    while high - low > 1 do
      local middle = low + high
      middle = (middle - middle % 2) / 2
      local number = get('<d', s, 16 * middle + field)
      if number - number % grain > bound then high = middle else low = middle end
    end
    return high
  end

  -- What counts of a window's value: newest moment (false: nothing), running total, total before the oldest entry
  -- that counts, byte of that entry, whether it must be written whole, the value, whether it was mended, the slot that it
  -- is read in. Nil when it is not ours. After a clock that jumped back, entries from the future are brought to now.
  load_window = function(s, need, memory, grain)
    if not s then return false, 0, 0, 17, true, '', false, now - now % grain end
    local size = #s
    if size < 32 or size % 16 ~= 0 then return nil end
    local ends, before = get('<dd', s)
    local at, total = get('<dd', s, size - 15)
    if not (at >= 0 and at < TOO_LARGE and total >= before and total < TOO_LARGE) then return nil end
    local slot, from, whole, mended = now - now % grain, 17, ends < now + need, false
    local newest = at - at % grain
    if newest > slot and newest - now <= CLOCK_JUMP then slot = newest
    elseif newest > slot then
      at = slot + grain - 1
      s = string.sub(s, 1, 16 * first_above(s, 0, size / 16 - 1, 1, grain, slot)) .. put('<dd', at, total)
      size, whole, mended = #s, true, true
    end
    if at - at % grain + memory <= slot then return false, 0, 0, 17, true, '', mended, slot end
    local first = get('<d', s, 17)
    if first - first % grain + memory <= slot then
      local oldest = first_above(s, 1, size / 16 - 1, 1, grain, slot - memory)
      before, from, whole = get('<d', s, 16 * oldest - 7), 16 * oldest + 1, true
      if not (total >= before) then return nil end
    end
    return at, total, before, from, whole, s, mended, slot
  end

  -- The offset of the moment at which the running total before the oldest entry that counts reaches `target`.
  retry_offset = function(s, from, at, target, memory, grain)
    local high = first_above(s, (from - 17) / 16, #s / 16, 9, 1, target - 1)
    if 16 * high < #s then at = get('<d', s, 16 * high + 1) end
    return at - at % grain + memory - now
  end

  local offsets = {}
  -- Writes a window. `how`: 1, the newest entry is new; 2, it grew; 0, it is as it was.
  write_window = function(key, s, from, how, at, total, before, whole, keep, px)
    if not whole then
      if how == 1 then return call('APPEND', key, put('<dd', at, total)) end
      local offset = offsets[#s] or string.format('%d', #s - 8)
      offsets[#s] = offset
      return call('SETRANGE', key, offset, put('<d', total))
    end
    local entries = string.sub(s, from, how == 2 and #s - 16 or #s)
    if total > TOO_LARGE / 2 then -- begin the totals anew
      local parts = {}
      for i = 1, #entries, 16 do
        local moment, sum = get('<dd', entries, i)
        parts[#parts + 1] = put('<dd', moment, sum - before)
      end
      entries, total, before = table.concat(parts), total - before, 0
    end
    if how > 0 then entries = entries .. put('<dd', at, total) end
    call('SET', key, put('<dd', now + keep, before) .. entries, 'PX', px)
  end
end

if rest or kinds % 4 >= 2 then
  -- A bucket's arrival time, whether the value must be written whole, whether it was mended; nil when it is not
  -- ours.
  load_bucket = function(s, need, tolerance)
    if not s then return 0, true, false end
    if #s ~= 16 and #s ~= 24 then return nil end
    local at, ends = get('<dd', s)
    local most = tolerance
    if #s == 24 then most, ends = tolerance * (1 + get('<d', s, 17)), 0 end -- in debt: written whole, without it
    if not (at >= 0 and at < TOO_LARGE) then return nil end
    if at > now + most + CLOCK_JUMP then return now + tolerance, true, true end
    return at, ends < now + need, false
  end

  write_bucket = function(key, at, whole, keep, px)
    if whole then call('SET', key, put('<dd', at, now + keep), 'PX', px)
    else call('SETRANGE', key, '0', put('<d', at)) end
  end
end

if rest or kinds >= 4 then
  -- The units of the current window, whether the value must be written whole, whether it was mended, the window's start;
  -- nil when it is not ours.
  load_fixed = function(s, need, window)
    local current = now - now % window
    if not s then return 0, true, false, current end
    if #s ~= 24 then return nil end
    local start, units, ends = get('<ddd', s)
    if not (start >= 0 and start < TOO_LARGE and units >= 0 and units < TOO_LARGE) then return nil end
    if start - now > math.max(window, CLOCK_JUMP) then return units, true, true, current end
    if start > now then return units, ends < now + need, false, start end
    return start >= current and units or 0, start ~= current or ends < now + need, false, current
  end

  -- The units after `n` more, below what a double holds; or after `n` less.
  more_or_less = function(take, units, n)
    if take == 3 then return units > n and units - n or 0 end
    return units + n < TOO_LARGE and units + n or TOO_LARGE - 1
  end

  write_fixed = function(key, units, whole, start, keep, px)
    if whole then call('SET', key, put('<ddd', start, units, now + keep), 'PX', px)
    else call('SETRANGE', key, '8', put('<d', units)) end
  end
end

local k, out, asks, position, length = 0, {}, 0, 4, #groups
while position <= length do
  local kind, flags, keys, need, keep, n1, n2, n3, n4, px, body = get('<BBI2dddddds', groups, position)
  local take, counts, count = flags % 4, flags >= 4, 1
  local peek = take == 1
  position = counts and body + keys or body
  for i = 1, keys do
    k = k + 1
    local key, s = KEYS[k], value or values and values[k]
    if counts then count = string.byte(groups, body + i - 1) end
    if kind == 1 then
      local at, total, before, from, whole, text, mended, slot = load_window(s, need, n3, n4)
      if at == nil then
        for _ = 1, count do asks = asks + 1 out[asks] = put('<ddd', -2, 0, 0) end
      else
        local how = 0
        for _ = 1, count do
          local over, retry = total - before + n2 - n1, 0
          if over > 0 and n2 <= n1 then retry = retry_offset(text, from, at, before + over, n3, n4) end
          asks = asks + 1
          out[asks] = put('<ddd', total - before, retry, at and at - at % n4 + n3 - now or 0)
          if over <= 0 and not peek then
            total = total + n2
            if not (at and at - at % n4 == slot) then at, how = slot + n4 - 1, 1
            elseif how == 0 then how = 2 end
          end
        end
        if how > 0 or mended and not peek then
          write_window(key, text, from, how, at, total, before, whole, keep, px)
        end
      end
    elseif kind == 2 then
      local at, whole, mended = load_bucket(s, need, n1)
      if not at then
        for _ = 1, count do asks = asks + 1 out[asks] = put('<d', -2) end
      else
        local latest, charged = now + n1 - n2, mended
        for _ = 1, count do
          local offset = at > now and at - now or 0
          asks = asks + 1
          out[asks] = put('<d', offset)
          if now + offset <= latest and not peek then at, charged = now + offset + n2, true end
        end
        if charged and not peek then write_bucket(key, at, whole, keep, px) end
      end
    else
      local units, whole, mended, start = load_fixed(s, need, n3)
      if not units then
        for _ = 1, count do asks = asks + 1 out[asks] = put('<dd', -2, 0) end
      else
        local charged = mended
        for _ = 1, count do
          asks = asks + 1
          out[asks] = put('<dd', units, start > now and start - now or 0)
          if take >= 2 and (take == 2 or units > 0) or units + n2 <= n1 and take == 0 then
            units, charged = more_or_less(take, units, n2), true
          end
        end
        if charged and not peek then write_fixed(key, units, whole, start, keep, px) end
      end
    end
  end
end
if not rest then return put('<d', now) .. (asks == 1 and out[1] or table.concat(out)) end

local plan = cmsgpack.unpack(rest)
local rows, stream = plan[1], plan[2]
local now_text = string.format('%.0f', now)
local numbers, size -- of the ask at hand

-- Notes what a demand saw; returns whether it fits.
local function saw(fits, level, retry, reset)
  numbers[size + 1], numbers[size + 2], numbers[size + 3], numbers[size + 4] = fits and 1 or 0, level, retry, reset
  size = size + 4
  return fits
end

-- What taking a lease sees; nil for a key of another type. When one ends later than a ttl from now by more than CLOCK_JUMP
-- (the clock jumped back, or the policy's ttl became shorter), all ends count as a ttl from now at most, and the second
-- result says so.
local function read_lease(row, key, id)
  local latest, limit = now + row[7], row[6]
  local live = redis.pcall('ZCOUNT', key, '(' .. now_text, '+inf')
  if type(live) == 'table' then return nil end
  local own, first, last, late = 0, 0, 0, false
  if live > 0 then
    own = tonumber(call('ZSCORE', key, id) or 0) > now and 1 or 0
    last = tonumber(call('ZRANGE', key, -1, -1, 'WITHSCORES')[2])
    if last > latest + CLOCK_JUMP then last, late = latest, true end
    last = last - now
  end
  local fits = own == 1 or live < limit
  if not fits then
    -- Of more than the limit (it was lowered) so many must end.
    first = tonumber(call('ZRANGEBYSCORE', key, '(' .. now_text, '+inf', 'WITHSCORES', 'LIMIT', live - limit, 1)[2])
    if late and first > latest then first = latest end
    first = first - now
  end
  saw(fits, live - own, first, last)
  return fits, late
end

local function write_lease(row, key, id, fits, late)
  local ends = string.format('%.0f', now + row[7])
  if late then
    local members = call('ZRANGEBYSCORE', key, '(' .. ends, '+inf')
    for m = 1, #members do call('ZADD', key, 'XX', ends, members[m]) end
  end
  if fits then
    call('ZREMRANGEBYSCORE', key, '-inf', now_text)
    call('ZADD', key, ends, id)
    call('PEXPIRE', key, row[3])
  end
end

-- Reads what a demand sees into `numbers`; whether it fits (nil for a bad key), and a function that writes it:
-- charged when it is given true, else only mended after a clock that jumped back.
local function consider(row, k, id)
  local kind, px, need, keep, n1, n2, n3, n4 = row[1], row[3], row[4], row[5], row[6], row[7], row[8], row[9]
  local key = KEYS[k]
  if kind == 4 then
    local fits, late = read_lease(row, key, id)
    return fits, function(charge)
      if charge or late then write_lease(row, key, id, charge, late) end
    end
  end
  local s = redis.pcall('GET', key)
  if kind == 1 then
    local at, total, before, from, whole, text, mended, slot = load_window(s, need, n3, n4)
    if at == nil then return nil end
    local over, retry = total - before + n2 - n1, 0
    if over > 0 and n2 <= n1 then retry = retry_offset(text, from, at, before + over, n3, n4) end
    return saw(over <= 0, total - before, retry, at and at - at % n4 + n3 - now or 0), function(charge)
      local how = 0
      if charge then
        total = total + n2
        how = at and at - at % n4 == slot and 2 or 1
        if how == 1 then at = slot + n4 - 1 end
      end
      if charge or mended then write_window(key, text, from, how, at, total, before, whole, keep, px) end
    end
  end
  if kind == 2 then
    local at, whole, mended = load_bucket(s, need, n1)
    if not at then return nil end
    local later = at > now and at or now
    local over = later + n2 - n1 - now
    return saw(over <= 0, later - now, over > 0 and n2 <= n1 and over or 0, later - now), function(charge)
      if charge then write_bucket(key, later + n2, whole, keep, px)
      elseif mended then write_bucket(key, at, whole, keep, px) end
    end
  end
  local units, whole, mended, start = load_fixed(s, need, n3)
  if not units then return nil end
  local take, edge = row[2] % 4, start + n3 - now
  local fits = take == 3 or units + n2 <= n1
  local retry = not fits and n2 <= n1 and edge or 0
  return saw(fits, units, retry, units > 0 and edge or 0), function(charge)
    if charge and (take < 3 or units > 0) then
      write_fixed(key, more_or_less(take, units, n2), whole, start, keep, px)
    elseif mended then write_fixed(key, units, whole, start, keep, px) end
  end
end

-- The moment of a revocation that is in force, 0 for none, nil for a value that is not ours.
local function revocation(k)
  local text = redis.pcall('GET', KEYS[k])
  if not text then return 0 end
  local at, ends = string.match(type(text) == 'string' and text or '', '^(%d+) (%d+)$')
  if not at then return nil end
  return tonumber(ends) > now and tonumber(at) or 0
end

-- Whether a token is revoked; for a bad key nil and its number.
local function revoked(id, subject, issued_at, foreign)
  if foreign > 0 and call('EXISTS', KEYS[foreign]) == 1 then return true end
  if id > 0 then
    local at = revocation(id)
    if not at then return nil, id end
    if at > 0 then return true end
  end
  if subject > 0 then
    local at = revocation(subject)
    if not at then return nil, subject end
    return at > 0 and (issued_at < 0 or issued_at <= (at - at % 1000000) / 1000000)
  end
  return false
end

-- How long a denial of the ask that begins at `i` is kept, at most `life`: until its retry-at, and not at all when
-- waiting cannot help. Of each demand `numbers` has four, the third of them the retry offset.
local function denial_life(i, fit, life)
  local at, wait = i + 8, 0
  for m = 1, stream[i] do
    local row = rows[stream[at]]
    if not fit[m] and row[2] % 8 < 4 then
      local retry = numbers[4 * m]
      if retry == 0 then return 0 end
      if retry > wait then wait = retry end
    end
    at = at + (row[1] == 4 and 3 or 2)
  end
  return wait < life and wait or life
end

-- The answer to an ask that begins at `i`, as a list of numbers.
local function answer(i)
  local demands, kept = stream[i], stream[i + 5]
  local is_revoked, bad = revoked(stream[i + 1], stream[i + 2], stream[i + 3], stream[i + 4])
  if bad then return { -2, bad } end
  if is_revoked then return { -1 } end
  if kept > 0 then
    local value = redis.pcall('GET', KEYS[kept])
    if value then
      if type(value) == 'table' or #value < 16 or #value % 8 ~= 0 then return { -2, kept } end
      local ends, first_now = get('<dd', value)
      if ends > now then
        numbers, size = { -3, first_now, #value / 8 - 2 }, 3
        for m = 17, #value, 8 do
          size = size + 1
          numbers[size] = get('<d', value, m)
        end
        return numbers
      end
    end
  end
  numbers, size = { 0 }, 1
  local at, passed, stopped, fit, write = i + 8, true, false, {}, {}
  for m = 1, demands do
    local row, k = rows[stream[at]], stream[at + 1]
    fit[m], write[m] = consider(row, k, stream[at + 2])
    if fit[m] == nil then return { -2, k } end
    if not fit[m] and row[2] % 8 < 4 then passed = false end
    if row[2] >= 8 and numbers[4 * m - 1] > row[6] then stopped = true end
    at = at + (row[1] == 4 and 3 or 2)
  end
  at = i + 8
  for m = 1, demands do
    local row = rows[stream[at]]
    local take = row[2] % 4
    local charge = take == 2 and (not fit[m] or row[2] % 8 >= 4) or take == 3 or fit[m] and passed
    if take ~= 1 then write[m](charge and not stopped) end
    at = at + (row[1] == 4 and 3 or 2)
  end
  local life = kept > 0 and stream[i + 7] or 0
  if not passed then life = denial_life(i, fit, life) end
  if life > 0 then
    local value = put('<dd', now + life, now)
    for m = 2, size do value = value .. put('<d', numbers[m]) end
    local shorter = stream[i + 7] - life
    call('SET', KEYS[kept], value, 'PX', stream[i + 6] - (shorter - shorter % 1000) / 1000)
  end
  return numbers
end

local i = 1
while i <= #stream do
  local list, demands = answer(i), stream[i]
  asks = asks + 1
  out[asks] = put('<' .. string.rep('d', #list), unpack(list))
  i = i + 8
  for _ = 1, demands do i = i + (rows[stream[i]][1] == 4 and 3 or 2) end
end
return put('<d', now) .. table.concat(out)
