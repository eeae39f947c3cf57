-- How one endpoint stands, for all processes that call it.
--
-- KEYS[1]  hash: `probing_at`, when probes may go out (ms of this server's clock; none while
--          the breaker is closed), `openings`, `closed_at`, `slowed_until`
-- KEYS[2]  hash: calls `c<second>` and failures `f<second>` of the last seconds
-- KEYS[3]  sorted set: the probes that are out, by when they count as lost
-- ARGV[1]  what is said: `report`, `probe`, `probed` or `slow`
-- ARGV[2..8]   the window (s), the least failures and their least share (%) that open it,
--          the first pause and the longest (ms), probes at a time, how long one is lent (ms)
-- ARGV[9]  by what a pause that begins now is stretched
-- ARGV[10..11] report: calls, failures · probe: its name · probed: its name, and `worked`,
--          `failed` or nothing · slow: for how long (ms)
-- The answer: is it open, ms until probes, openings, ms for which it is slowed, is a probe lent.

local said = ARGV[1]
local window, least, share = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local first_pause, longest_pause = tonumber(ARGV[5]), tonumber(ARGV[6])
local probes, lent_for = tonumber(ARGV[7]), tonumber(ARGV[8])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local stored = redis.call('HMGET', KEYS[1], 'probing_at', 'openings', 'closed_at', 'slowed_until')
local probing_at, openings = tonumber(stored[1]), tonumber(stored[2] or 0)
local closed_at, slowed_until = tonumber(stored[3] or 0), tonumber(stored[4] or 0)
local lent = 0

local function keep(key)
  redis.call('PEXPIRE', key, 2 * longest_pause + 600000)
end

local function open()
  -- One that worked for longer than the longest pause starts anew.
  if not probing_at and now - closed_at > longest_pause then openings = 0 end
  openings = openings + 1
  local pause = math.min(longest_pause, first_pause * 2 ^ math.min(openings - 1, 30))
  probing_at = now + math.ceil(pause * tonumber(ARGV[9]))
  redis.call('HSET', KEYS[1], 'probing_at', probing_at, 'openings', openings)
  -- Probes that are still out keep their places.
  redis.call('DEL', KEYS[2])
  keep(KEYS[1])
end

if said == 'report' then
  -- What still fails of calls made before it opened is no news.
  if not probing_at then
    local second = tonumber(time[1])
    redis.call('HINCRBY', KEYS[2], 'c' .. second, ARGV[10])
    redis.call('HINCRBY', KEYS[2], 'f' .. second, ARGV[11])
    redis.call('EXPIRE', KEYS[2], window + 1)
    local calls, failures = 0, 0
    local counts = redis.call('HGETALL', KEYS[2])
    for at = 1, #counts, 2 do
      local name, count = counts[at], tonumber(counts[at + 1])
      if tonumber(string.sub(name, 2)) <= second - window then
        redis.call('HDEL', KEYS[2], name)
      elseif string.sub(name, 1, 1) == 'c' then
        calls = calls + count
      else
        failures = failures + count
      end
    end
    if failures >= least and failures * 100 >= share * calls then open() end
  end
elseif said == 'probe' then
  if probing_at and now >= probing_at then
    redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
    if redis.call('ZCARD', KEYS[3]) < probes then
      redis.call('ZADD', KEYS[3], now + lent_for, ARGV[10])
      keep(KEYS[3])
      lent = 1
    end
  end
elseif said == 'probed' then
  local lost_at = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[10]) or 0)
  redis.call('ZREM', KEYS[3], ARGV[10])
  -- One that was lent before it last opened, or closed, says nothing.
  local speaks = lost_at > now and probing_at and lost_at - lent_for >= probing_at
  if speaks and ARGV[11] == 'worked' then
    redis.call('HDEL', KEYS[1], 'probing_at')
    redis.call('HSET', KEYS[1], 'closed_at', now)
    probing_at = nil
  elseif speaks and ARGV[11] == 'failed' then
    open()
  end
elseif said == 'slow' then
  slowed_until = math.max(slowed_until, now + tonumber(ARGV[10]))
  redis.call('HSET', KEYS[1], 'slowed_until', slowed_until)
  redis.call('PEXPIRE', KEYS[1], math.max(slowed_until - now, 2 * longest_pause) + 600000)
end

return {
  probing_at and 1 or 0,
  math.max(0, (probing_at or 0) - now),
  openings,
  math.max(0, slowed_until - now),
  lent,
}
