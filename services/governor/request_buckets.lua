-- Takes a token from a tenant's bucket of requests, which all gateways share.
--
-- KEYS[1]  hash: `tokens`, and `at`, when they were so many (ms of this server's clock)
-- ARGV     tokens that come in a second, and the most that the bucket holds
-- The answer is 1 where there was one, else 0.

local per_second, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local stored = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(stored[1] or most), tonumber(stored[2] or now)

-- A clock that was set back gives nothing, and takes nothing away.
tokens = math.min(most, tokens + math.max(0, now - at) * per_second / 1000)
local taken = tokens >= 1
if taken then tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', now)
-- By then it is full, and no bucket is a full one.
redis.call('PEXPIRE', KEYS[1], math.ceil(most / per_second * 1000) + 1000)
return taken and 1 or 0
