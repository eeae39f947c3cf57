-- The counters of one tenant, changed in one step for a batch of items. Each
-- item is decided with what the items before it reserved; the counters
-- themselves are read once and written once a batch.
--
-- KEYS[1] is what every key here begins with. It carries the tenant's hash tag
-- and so leads a cluster to the place where all of these are:
--   reservations  hash: key -> "<micros> <expires ms> <counter> ..."
--   expiry        sorted set: key, by the time at which the reservation expires
--   settled:<key> string: "<digest of the figures> <cost>"
--   <counter>     hash: `spent`, `reserved`, and usage by field
--
-- ARGV: operation, present time (ms), how many expired reservations may be
-- swept, then by operation
--   reserve  time of expiry (ms), windows W, W times (counter, limit, keep ms);
--            items "<micros> <task counter|-> <limit> <spent elsewhere> <keep ms> <key>"
--   settle   how long to remember (ms), windows W, W times (counter, keep ms);
--            items "<digest> <cost> <six usage figures> <task counter|-> <key>"
--   release  items "<key>"
--   read     counters
-- The answer has an array for each item; its first element says what happened.
-- `backlog` means: nothing yet, more has expired than may be swept; try again.

local prefix, operation, now, sweep_limit = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local reservations, expiry = prefix .. 'reservations', prefix .. 'expiry'
local usage_fields = {
  'input_tokens', 'output_tokens', 'model_calls', 'tool_calls', 'cache_hits', 'cached_input_tokens'
}

local counters = {}

local function counter(name)
  local found = counters[name]
  if not found then
    local stored = redis.call('HMGET', prefix .. name, 'spent', 'reserved')
    found = {
      exists = stored[1] ~= false,
      spent = tonumber(stored[1] or 0),
      reserved = tonumber(stored[2] or 0),
      changes = {},
    }
    counters[name] = found
  end
  return found
end

local function change(found, field, amount)
  found.changes[field] = (found.changes[field] or 0) + amount
end

local function change_reserved(found, amount)
  found.reserved = found.reserved + amount
  change(found, 'reserved', amount)
end

-- From now on it is kept, for that long, even if it did not exist.
local function open(found, keep_ms)
  found.exists, found.keep_ms = true, keep_ms
end

local function write_counters()
  for name, found in pairs(counters) do
    -- A counter whose window is long over is gone, and must not come back.
    if found.exists then
      local key = prefix .. name
      if found.keep_ms then
        -- Both fields stand for the existence of the counter.
        change(found, 'spent', 0)
        change(found, 'reserved', 0)
      end
      for field, amount in pairs(found.changes) do redis.call('HINCRBY', key, field, amount) end
      if found.keep_ms then redis.call('PEXPIRE', key, found.keep_ms) end
    end
  end
end

local function drop(key, stored)
  redis.call('HDEL', reservations, key)
  redis.call('ZREM', expiry, key)
  local micros, names = string.match(stored, '^(%d+) %d+ (.*)$')
  for name in string.gmatch(names, '%S+') do change_reserved(counter(name), -tonumber(micros)) end
end

-- Gives expired reservations back; true if some may be left.
local function sweep()
  local due = redis.call('ZRANGEBYSCORE', expiry, '-inf', now, 'LIMIT', 0, sweep_limit)
  for _, key in ipairs(due) do
    drop(key, redis.call('HGET', reservations, key) or '0 0 ')
  end
  return #due == sweep_limit
end

-- The stored reservation, unless there is none or it expired and awaits its sweep.
local function live_reservation(key)
  local stored = redis.call('HGET', reservations, key)
  if not stored then return nil end
  local micros, expires, names = string.match(stored, '^(%d+) (%d+) (.*)$')
  if tonumber(expires) <= now then
    drop(key, stored)
    return nil
  end
  return {stored = stored, micros = tonumber(micros), expires = tonumber(expires), names = names}
end

-- The windows from ARGV[first] on, each of `width` arguments, and where the items begin.
local function read_windows(first, width)
  local windows = {}
  local items = first + 1 + ARGV[first] * width
  for i = first + 1, items - 1, width do
    windows[#windows + 1] = {name = ARGV[i], a = ARGV[i + 1], b = ARGV[i + 2]}
  end
  return windows, items
end

local function reserve()
  local backlog, answers, expires = sweep(), {}, ARGV[4]
  local windows, first = read_windows(5, 3)

  local function reserve_item(item)
    local amount, task, limit, elsewhere, keep, key =
      string.match(item, '^(%d+) (%S+) (%d+) (%d+) (%d+) (.*)$')
    local held = live_reservation(key)
    if held then return {'held', held.micros, held.expires} end
    local micros, scopes = tonumber(amount), {}
    if task ~= '-' then
      scopes[1] = {name = task, limit = tonumber(limit), elsewhere = tonumber(elsewhere), keep = keep}
    end
    for _, window in ipairs(windows) do
      scopes[#scopes + 1] = {
        name = window.name, limit = tonumber(window.a), elsewhere = 0, keep = window.b
      }
    end
    for _, scope in ipairs(scopes) do
      local found = counter(scope.name)
      local spent = math.max(found.spent, scope.elsewhere)
      if spent + found.reserved + micros > scope.limit then
        if backlog then return {'backlog'} end
        return {'refused', scope.name, spent, found.reserved}
      end
    end
    local stored = {amount, expires}
    for _, scope in ipairs(scopes) do
      local found = counter(scope.name)
      -- Every time, since it must outlive each of its reservations.
      open(found, scope.keep)
      change_reserved(found, micros)
      stored[#stored + 1] = scope.name
    end
    redis.call('HSET', reservations, key, table.concat(stored, ' '))
    redis.call('ZADD', expiry, expires, key)
    return {'held', micros, tonumber(expires)}
  end

  for i = first, #ARGV do answers[#answers + 1] = reserve_item(ARGV[i]) end
  return answers
end

local function settle()
  sweep()
  local answers, remember = {}, ARGV[4]
  local windows, first = read_windows(5, 2)

  -- Where to count what has no reservation (any more).
  local function present_counters(task)
    local found = {}
    for _, window in ipairs(windows) do
      found[#found + 1] = counter(window.name)
      open(found[#found], window.a)
    end
    -- A task without a cap has no counter and gets none.
    if task ~= '-' and counter(task).exists then found[#found + 1] = counter(task) end
    return found
  end

  local function settle_item(item)
    local digest, cost, usage, task, key =
      string.match(item, '^(%S+) (%d+) (%d+ %d+ %d+ %d+ %d+ %d+) (%S+) (.*)$')
    local settlement = prefix .. 'settled:' .. key
    local held, charged = live_reservation(key), {}
    -- A settled key with a reservation was admitted again: this is another spending.
    local earlier = not held and redis.call('GET', settlement)
    if earlier then
      local before, cost_before = string.match(earlier, '(%S+) (%S+)')
      return {before == digest and 'repeated' or 'conflict', tonumber(cost_before)}
    end
    if held then
      -- Counted where it was reserved, though the window may have ended since.
      drop(key, held.stored)
      for name in string.gmatch(held.names, '%S+') do charged[#charged + 1] = counter(name) end
    else
      charged = present_counters(task)
    end
    local figures = {}
    for figure in string.gmatch(usage, '%d+') do figures[#figures + 1] = tonumber(figure) end
    for _, found in ipairs(charged) do
      found.spent = found.spent + tonumber(cost)
      change(found, 'spent', tonumber(cost))
      for i, figure in ipairs(figures) do
        if figure ~= 0 then change(found, usage_fields[i], figure) end
      end
    end
    redis.call('SET', settlement, digest .. ' ' .. cost, 'PX', remember)
    return {'settled', tonumber(cost)}
  end

  for i = first, #ARGV do answers[#answers + 1] = settle_item(ARGV[i]) end
  return answers
end

local function release()
  sweep()
  local answers = {}
  for i = 4, #ARGV do
    local key = ARGV[i]
    local held = live_reservation(key)
    if held then
      drop(key, held.stored)
      answers[#answers + 1] = {'released', held.micros}
    elseif redis.call('EXISTS', prefix .. 'settled:' .. key) == 1 then
      answers[#answers + 1] = {'settled'}
    else
      answers[#answers + 1] = {'released', 0}
    end
  end
  return answers
end

-- Answered for all counters at once: none of them is right before the sweep is.
local function read()
  local answers, backlog = {}, sweep()
  write_counters()
  counters = {}
  for i = 4, #ARGV do
    answers[#answers + 1] = backlog and {'backlog'} or {
      'read',
      redis.call('HMGET', prefix .. ARGV[i], 'spent', 'reserved', unpack(usage_fields)),
    }
  end
  return answers
end

local operations = {reserve = reserve, settle = settle, release = release, read = read}
local answers = operations[operation]()
write_counters()
return answers
