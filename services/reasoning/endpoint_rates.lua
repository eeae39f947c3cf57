-- Hands out of an endpoint's requests and tokens, for all processes that call it.
--
-- KEYS[1]  hash: `requests` and `tokens` that are left, and `at`, when they were so many
--          (ms of this server's clock)
-- ARGV     requests and tokens that come in a second (0 for no limit), for how many seconds
--          they are kept; requests and tokens that are wanted; tokens that are needed
-- The answer: requests, tokens, and ms until there is something where there is nothing now.
-- Tokens may be overdrawn by what is needed: a call may need more than ever is there at once.

local request_rate, token_rate, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local want_requests, want_tokens, need_tokens =
  tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local most_requests = math.max(1, request_rate * kept)
local most_tokens = math.max(1, token_rate * kept)
local stored = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'at')
-- A clock that was set back gives nothing, and takes nothing away.
local passed = math.max(0, now - tonumber(stored[3] or now)) / 1000
local requests = math.min(most_requests, tonumber(stored[1] or most_requests) + passed * request_rate)
local tokens = math.min(most_tokens, tonumber(stored[2] or most_tokens) + passed * token_rate)

local wait = 0
if request_rate > 0 and requests < 1 then wait = (1 - requests) / request_rate end
if token_rate > 0 and tokens < 1 then wait = math.max(wait, (1 - tokens) / token_rate) end
local given_requests, given_tokens = 0, 0
if wait == 0 then
  if request_rate > 0 then given_requests = math.min(want_requests, math.floor(requests)) end
  if token_rate > 0 then
    given_tokens = math.max(need_tokens, math.min(want_tokens, math.floor(tokens)))
  end
end
requests, tokens = requests - given_requests, tokens - given_tokens

redis.call('HSET', KEYS[1], 'requests', string.format('%.6f', requests),
  'tokens', string.format('%.6f', tokens), 'at', now)
-- By then all is full, and nothing stored means full.
local full_in = 1
if request_rate > 0 then full_in = math.max(full_in, (most_requests - requests) / request_rate) end
if token_rate > 0 then full_in = math.max(full_in, (most_tokens - tokens) / token_rate) end
redis.call('PEXPIRE', KEYS[1], math.ceil(full_in * 1000) + 1000)
return { given_requests, given_tokens, math.ceil(wait * 1000) }
