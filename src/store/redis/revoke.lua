#!lua
-- revoke.lua: keeps a revocation; of two the one that lasts longer holds. See src/engine/revocation.rs.
--
-- KEYS  [1] the revocation of a token id or of a subject.
-- ARGV  [1] 'id' or 'subject'. [2] 'until' or 'for'. [3] the moment, or the span from now, in microseconds.
--       [4] milliseconds that the key outlives its end.
-- reply 1, or 0 when it was in force already: for a token id, in force; for a subject, in force for the same second.
--
-- The value is the text '<moment> <end>' in microseconds: what was issued up to the moment is refused until the end.
--
-- Complexity: O(1). A value that is not ours is replaced: it could not be read.
local time = redis.call('TIME') -- the store's clock
local now = time[1] * 1000000 + time[2]
local ends = tonumber(ARGV[3])
if ARGV[2] == 'for' then ends = now + ends end
if ends <= now then return 1 end

local moment, newly = now, 1
local known = redis.pcall('GET', KEYS[1])
if type(known) == 'string' then
  local at, until_then = string.match(known, '^(%d+) (%d+)$')
  at, until_then = tonumber(at), tonumber(until_then)
  if at and until_then > now then
    if ARGV[1] == 'id' or (now - now % 1000000) <= (at - at % 1000000) then newly = 0 end
    if at > moment then moment = at end
    if until_then > ends then ends = until_then end
  end
end
local life = string.format('%.0f', math.ceil((ends - now) / 1000) + ARGV[4])
redis.call('SET', KEYS[1], string.format('%.0f %.0f', moment, ends), 'PX', life)
return newly
