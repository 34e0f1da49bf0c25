#!lua flags=allow-oom
-- renew.lua: renews leases, each under all of its limits or under none. A lease that is lost, whose token was
-- revoked or is over, is given back under every limit. The step is that of src/engine/leases.rs.
--
-- KEYS  leases and revocations, named by number in ARGV[1].
-- ARGV  [1] MessagePack of a list: for each lease limits, id, subject, issued_at, foreign, ends, lease id, then for each
--       limit key, ttl, px, shadow (1: renewed where it is held, never decides). `id`, `subject`, `foreign` are numbers of KEYS or 0; issued_at is in seconds, -1 when
--       unknown; `ends` is the token's end in microseconds or 0; ttl is in microseconds, px in milliseconds.
-- reply a string with a byte for each lease: H held, L lost, R revoked, E expired.
--
-- Complexity: O(limits · log leases). A key of another type holds no lease: lost. A revocation that cannot be read
-- counts as one in force.
local call = redis.call
local time = redis.call('TIME') -- the store's clock
local now = time[1] * 1000000 + time[2]
local now_text = string.format('%.0f', now)
local stream, KEYS = cmsgpack.unpack(ARGV[1]), KEYS

local CLOCK_JUMP = 1000000 -- of engine/units.rs
-- Drops what has ended and shortens ends far beyond a ttl from now (the clock jumped back), once a key.
local settled = {}
local function settle(k, ttl)
  if settled[k] ~= nil then return settled[k] end
  local key, latest = KEYS[k], string.format('%.0f', now + ttl)
  local gone = redis.pcall('ZREMRANGEBYSCORE', key, '-inf', now_text)
  if type(gone) == 'table' then
    settled[k] = false
    return false
  end
  local last = call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  if last and last - now > ttl + CLOCK_JUMP then
    local late = call('ZRANGEBYSCORE', key, '(' .. latest, '+inf')
    for m = 1, #late do call('ZADD', key, 'XX', latest, late[m]) end
  end
  settled[k] = true
  return true
end

local function in_force(k, issued_at)
  local text = redis.pcall('GET', KEYS[k])
  if not text then return false end
  if type(text) == 'table' then return true end
  local at, ends = string.match(text, '^(%d+) (%d+)$')
  if not at then return true end
  if tonumber(ends) <= now then return false end
  at = tonumber(at)
  return not issued_at or issued_at < 0 or issued_at <= (at - at % 1000000) / 1000000
end

local function revoked(i)
  local id, subject, issued_at, foreign = stream[i + 1], stream[i + 2], stream[i + 3], stream[i + 4]
  return foreign > 0 and call('EXISTS', KEYS[foreign]) == 1
    or id > 0 and in_force(id) or subject > 0 and in_force(subject, issued_at)
end

local out, i, last = {}, 1, #stream
while i <= last do
  local limits, token_ends, id = stream[i], stream[i + 5], stream[i + 6]
  local became = 'H'
  if revoked(i) then became = 'R'
  elseif token_ends > 0 and token_ends <= now then became = 'E' end
  for m = 1, limits do
    local k = stream[i + 3 + 4 * m]
    if not settle(k, stream[i + 4 + 4 * m]) or not call('ZSCORE', KEYS[k], id) then
      if became == 'H' and stream[i + 6 + 4 * m] == 0 then became = 'L' end
    end
  end
  for m = 1, limits do
    local k, ttl, px = stream[i + 3 + 4 * m], stream[i + 4 + 4 * m], stream[i + 5 + 4 * m]
    if became == 'H' and settled[k] then
      call('ZADD', KEYS[k], 'XX', string.format('%.0f', now + ttl), id)
      call('PEXPIRE', KEYS[k], px)
    elseif settled[k] then
      call('ZREM', KEYS[k], id)
    end
  end
  out[#out + 1] = became
  i = i + 7 + 4 * limits
end
return table.concat(out)
