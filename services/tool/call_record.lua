-- One record of a call, changed in one step.
--
-- KEYS[1]  hash: state (started | finished), digest, lease (until when, ms), answer
-- ARGV[1]  begin | finish | abandon | forget
-- begin:   digest, now (ms), lease until (ms), keep (ms), take over (0 | 1)
-- finish:  answer, keep (ms)

local record, operation = KEYS[1], ARGV[1]

local function begin()
  local digest, now, lease, keep, take_over = unpack(ARGV, 2)
  local stored = redis.call('HMGET', record, 'state', 'digest', 'lease', 'answer')
  if not stored[1] then
    redis.call('HSET', record, 'state', 'started', 'digest', digest, 'lease', lease)
    redis.call('PEXPIRE', record, keep)
    return {'begun'}
  end
  if stored[2] ~= digest then return {'other'} end
  if stored[1] == 'finished' then return {'finished', stored[4]} end
  if tonumber(stored[3]) > tonumber(now) then return {'running'} end
  if take_over == '0' then return {'interrupted'} end
  redis.call('HSET', record, 'lease', lease)
  return {'begun'}
end

if operation == 'begin' then return begin() end
-- What is gone, or has its answer, stays as it is.
if redis.call('HGET', record, 'state') ~= 'started' then return {'unchanged'} end
if operation == 'finish' then
  redis.call('HSET', record, 'state', 'finished', 'answer', ARGV[2])
  redis.call('PEXPIRE', record, ARGV[3])
elseif operation == 'forget' then
  redis.call('DEL', record)
else
  redis.call('HSET', record, 'lease', 0)
end
return {'changed'}
