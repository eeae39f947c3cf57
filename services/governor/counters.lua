-- What is reserved and spent under all budgets, changed in one step for a batch of
-- items. Each item is decided with what the items before it reserved; a counter is
-- read once and written once a batch.
--
-- KEYS[1] is what every key here begins with. It carries a hash tag and so leads a
-- cluster to the place where all of these are:
--   <counter>          hash: spent, reserved (what calls under way are likely to cost),
--                      committed (the most that they can), usage (six figures); `from`, the place in
--                      the journal up to which the ledger's balance that it began with
--                      was complete; `opened`, when that was (ms), or when its window begins,
--                      where that is later (of a task's cap: 0 where its task had spent nothing
--                      then); `written`, the place of the newest word on its
--                      budget that whoever opened it knew; `limit`, of a task's cap; `era`, in
--                      which it was opened
--   pending:<era>:<written>:<counter>  list: "<place in the journal> <1|-1> <cost> <six figures>" of what was
--                      settled, or taken back, before the counter was opened
--   call:<tenant>/<key>  string, one of
--                      "reserved <micros> <most> <expires ms> <level> <decided by|-> <counter> ..."
--                      "settled <era> <place> <cost> <newest key of this call> <six figures> <model>"
--   call:lease:<tenant>/<lease>  the same of a lease: none is ever taken for a call of that name
--   expiry             sorted set: <tenant>/<key>, by the time at which the reservation expires
--   budgets            string: the place of the newest budget that somebody set
--   journal            string: "<era> <streams> <place>": the age of the streams of the journal and of
--                      budgets, and the last place of the journal that was counted. Where a caller
--                      knows younger streams, or has seen a later place (Redis came back older
--                      than it was), another era begins: no counter of an earlier one is believed
--
-- ARGV: operation, present time (ms; 0 for Redis' own), how many expired reservations may be swept, the place up
-- to which the caller knows the budgets, the age of the streams, the last place that it has seen here,
-- counters C, C times "<id> <written> <shutoff> <throttle> <degrade> <careful> <opens itself> <keep ms> <keep
-- for ms after its last reservation>" (a line of 0 is not drawn), then by operation; items name counters by number
--   reserve, weigh  time to keep (ms), how long to remember (ms); items "<likely> <most>
--            <interactive> <can degrade> <spent elsewhere|-1> <counter,...> <call>".
--            `weigh` only says what would be decided
--   lend     time to keep (ms); items "<micros> <counter,...> <call>"
--   settle   how long to remember (ms), leases L, L times <call>; items "<cost> <place> <called
--            ms> <leased> <lease> <0|1 its place is
--            that of its first record|2 that was before> <task's counter|-> <counter,...> <six figures> <length of
--            model> <model><call>"
--   release  items "<keep> <call>"
--   open     the era in which the ledger was asked; items "<counter> <place> <begins ms> <spent> <six figures>"
--   sweep    nothing; the answer says whether more may have expired
--   read     items "<counter>"
--   forget   items "<counter> <place>"
--   note     the place of a budget that was set
-- A counter is fed while its budget is in force as it is. One that was opened before the newest word
-- on its budget may have missed something: what was spent in it is forgotten, and it is opened anew.
-- The answer: the ids of counters that are not there, and an array for each item whose
-- first element says what happened. `backlog` means: nothing yet, more has expired than
-- may be swept; try again. Or else the place of budgets that the caller does not know yet.

local prefix, operation, now, sweep_limit = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local expiry, calls = prefix .. 'expiry', prefix .. 'call:'
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
-- Clocks of callers and governors differ by less.
local margin_ms = 2000

local function int(number) return string.format('%.0f', number) end

-- The counters of this batch, by number, and what each was written by its id.
local terms, written, arguments, known = {}, {}, 8 + ARGV[7], tonumber(ARGV[4])
local newest_here = known
for i = 8, arguments - 1 do
  local id, place, shutoff, throttle, degrade, careful, own, keep_window, keep_for =
    string.match(ARGV[i], '^(%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d) (%d+) (%d+)$')
  place = tonumber(place)
  terms[#terms + 1] = {
    id = id, shutoff = tonumber(shutoff), throttle = tonumber(throttle), degrade = tonumber(degrade),
    careful = tonumber(careful), own = own == '1', keep_window = tonumber(keep_window), keep_for = tonumber(keep_for),
  }
  written[id] = place
  newest_here = math.max(newest_here, place)
end

local journal_key, streams, seen = prefix .. 'journal', tonumber(ARGV[5]), tonumber(ARGV[6])
local era, its_streams, counted = string.match(redis.call('GET', journal_key) or '', '^(%d+) (%d+) (%d+)$')
era, its_streams, counted = tonumber(era or 0), tonumber(its_streams or 0), tonumber(counted or 0)
local function write_journal()
  redis.call('SET', journal_key, int(era) .. ' ' .. int(streams) .. ' ' .. int(counted))
end
-- All that the journal has up to there is counted, or on its way.
local function count_to(place)
  if place > counted then
    counted = place
    write_journal()
  end
end
if streams < its_streams then return 'streams' end
if era == 0 or streams > its_streams or seen > counted then
  -- One that there never was, also not in a Redis that is lost.
  local time = redis.call('TIME')
  era = math.max(era + 1, time[1] * 1000000 + time[2])
  if streams > its_streams then redis.call('DEL', prefix .. 'budgets') end
  counted = seen
  write_journal()
end

-- Who counts under a budget is known here before anything is done under it: from then on nobody
-- settles who does not know it, and so nothing is settled beside it.
local newest = tonumber(redis.call('GET', prefix .. 'budgets') or 0)
if newest_here > newest then
  newest = newest_here
  redis.call('SET', prefix .. 'budgets', int(newest))
end
if operation == 'note' then return {{}, {}, era, counted} end
if operation ~= 'release' and operation ~= 'open' and operation ~= 'sweep' and newest > known then return newest end

local counters, missing = {}, {}

local function counter(id)
  local found = counters[id]
  if not found then
    local stored = redis.call('HMGET', prefix .. id, 'spent', 'reserved', 'committed', 'usage', 'from', 'opened', 'written', 'era')
    found = {
      id = id,
      -- It is there; and it has missed nothing.
      stored = stored[2] ~= false,
      exists = stored[1] ~= false and tonumber(stored[7] or 0) >= (written[id] or 0)
        and tonumber(stored[8] or 0) == era,
      spent = tonumber(stored[1] or 0),
      reserved = tonumber(stored[2] or 0),
      committed = tonumber(stored[3] or 0),
      usage = stored[4] or '0 0 0 0 0 0',
      from = tonumber(stored[5] or 0),
      opened = tonumber(stored[6] or 0),
    }
    counters[id] = found
  end
  return found
end

-- Never below zero, which would be room that there is not: a counter may be gone, as where Redis'
-- clock is put forward by days, and be begun anew before what was reserved under it is given back.
local function change_reserved(found, micros, most)
  found.reserved, found.committed = math.max(found.reserved + micros, 0), math.max(found.committed + most, 0)
  found.changed = true
end

-- From now on it is kept.
local function begin(found, terms, spent, usage, from, opened)
  found.exists, found.stored, found.changed, found.begun = true, true, true, true
  found.spent, found.usage, found.from, found.opened = spent, usage, from, opened
  if terms.own then found.limit = terms.shutoff end
  found.keep_ms = terms.keep_for > 0 and terms.keep_for or terms.keep_window
end

local function write_counters()
  for id, found in pairs(counters) do
    -- A counter whose window is long over is gone, and must not come back.
    if found.stored and found.changed then
      local key = prefix .. id
      if found.sums then found.usage = string.format('%.0f %.0f %.0f %.0f %.0f %.0f', unpack(found.sums)) end
      redis.call('HSET', key, 'reserved', int(found.reserved), 'committed', int(found.committed))
      if found.exists then redis.call('HSET', key, 'spent', int(found.spent), 'usage', found.usage) end
      if found.forgotten and not found.exists then redis.call('HDEL', key, 'spent') end
      if found.begun then
        redis.call('HSET', key, 'from', int(found.from), 'opened', int(found.opened),
          'written', int(written[id] or 0), 'era', int(era))
      end
      if found.limit then redis.call('HSET', key, 'limit', int(found.limit)) end
    end
    if found.exists and found.keep_ms then redis.call('PEXPIRE', prefix .. id, int(found.keep_ms)) end
  end
end

local function miss(found)
  missing[found.id] = true
end

-- It has to be opened anew; what is reserved stays.
local function forget(found)
  found.exists, found.changed, found.forgotten = false, true, true
  miss(found)
end

-- Six figures, as numbers.
local function parsed(figures)
  local found = {}
  for figure in string.gmatch(figures, '%-?%d+') do found[#found + 1] = tonumber(figure) end
  return found
end

local function add_usage(found, figures, sign)
  local sums = found.sums
  if not sums then
    sums = parsed(found.usage)
    found.sums = sums
  end
  for i = 1, 6 do sums[i] = sums[i] + sign * figures[i] end
end

local function reservation(stored)
  local micros, most, expires, level, by, ids =
    string.match(stored, '^reserved (%d+) (%d+) (%d+) (%d) (%S+) (.*)$')
  return {
    micros = tonumber(micros), most = tonumber(most), expires = tonumber(expires), level = tonumber(level), by = by, ids = ids,
  }
end

local function stored_as(held)
  return table.concat(
    {'reserved', int(held.micros), int(held.most), int(held.expires), held.level, held.by, held.ids}, ' '
  )
end

local function take_off(held, micros, most)
  for id in string.gmatch(held.ids, '%S+') do change_reserved(counter(id), -micros, -most) end
  held.micros, held.most = held.micros - micros, held.most - most
end

local function give_back(held)
  take_off(held, held.micros, held.most)
end

local function pending_key(id)
  return prefix .. 'pending:' .. int(era) .. ':' .. int(written[id] or 0) .. ':' .. id
end

-- Gives expired reservations back; true if some may be left.
local function sweep()
  local due = redis.call('ZRANGEBYSCORE', expiry, '-inf', now, 'LIMIT', 0, sweep_limit)
  for _, call in ipairs(due) do
    local stored = redis.call('GET', calls .. call)
    if stored and string.sub(stored, 1, 8) == 'reserved' then
      local held = reservation(stored)
      give_back(held)
      redis.call('DEL', calls .. call)
    end
  end
  if #due > 0 then redis.call('ZREM', expiry, unpack(due)) end
  return #due == sweep_limit
end

local backlog = sweep()

-- The reservation of a call, or else its settlement as stored; an expired one that
-- awaits its sweep is given back.
local function look_up(call)
  local stored = redis.call('GET', calls .. call)
  if not stored then return nil, nil end
  if string.sub(stored, 1, 7) == 'settled' then return nil, stored end
  local held = reservation(stored)
  if held.expires > now then return held, nil end
  give_back(held)
  redis.call('DEL', calls .. call)
  redis.call('ZREM', expiry, call)
  return nil, nil
end

local numbered = {}

-- The terms of the counters that an item names, such as `1,2,5`.
local function named(list)
  local found = numbered[list]
  if not found then
    found = {}
    for number in string.gmatch(list, '%d+') do found[#found + 1] = terms[tonumber(number)] end
    numbered[list] = found
  end
  return found
end

-- Whether each of these is there; one that opens itself begins with what is known elsewhere.
local function all_there(scopes, elsewhere)
  local all = true
  for _, each in ipairs(scopes) do
    local found = counter(each.id)
    if not found.exists then
      if each.own then
        if operation ~= 'weigh' then
          begin(found, each, math.max(elsewhere, 0), found.usage, 0, elsewhere > 0 and now or 0)
        end
      else
        miss(found)
        all = false
      end
    end
  end
  return all
end

local function hold(call, held, scopes)
  local ids = {}
  for _, each in ipairs(scopes) do
    local found = counter(each.id)
    -- Each time, since it must outlive each of its reservations.
    if each.keep_for > 0 then found.keep_ms = each.keep_for end
    change_reserved(found, held.micros, held.most)
    ids[#ids + 1] = each.id
  end
  held.ids = table.concat(ids, ' ')
  redis.call('SET', calls .. call, stored_as(held))
  redis.call('ZADD', expiry, int(held.expires), call)
end

local function held_answer(call, held)
  local by = held.level > 0 and counter(held.by) or {spent = 0, reserved = 0}
  return {'held', call, held.micros, held.expires, held.level, held.by, by.spent, by.reserved}
end

-- The call under which another one is made whose first is settled.
local function next_call(call, settlement, remember)
  local its_era, place, cost, newest, rest = string.match(settlement, '^settled (%d+) (%d+) (%d+) (%d+) (.*)$')
  newest = tonumber(newest)
  local again = call .. '#' .. newest
  local held, settled = nil, newest == 1 and settlement or nil
  if newest > 1 then held, settled = look_up(again) end
  if settled then
    newest = newest + 1
    again = call .. '#' .. newest
    held = look_up(again)
  end
  redis.call('SET', calls .. call, table.concat({'settled', its_era, place, cost, newest, rest}, ' '),
    'PX', int(math.max(remember, redis.call('PTTL', calls .. call))))
  return again, held
end

-- What the lines of these counters say to so much more; the hardest word counts, and of equal
-- ones the first.
local function decide(scopes, most, interactive, can_degrade, elsewhere)
  local level, by, careful = 0, nil, false
  for i, each in ipairs(scopes) do
    local found = counter(each.id)
    local spent = i == 1 and math.max(found.spent, elsewhere) or found.spent
    local sum, reserved, says = spent + found.reserved + most, found.reserved, 0
    -- No call may use more than its most, and so what is spent in the end is within the limit.
    if spent + found.committed + most > each.shutoff then says, reserved = 3, found.committed
    elseif each.throttle > 0 and sum > each.throttle and not interactive then says = 2
    elseif each.degrade > 0 and sum > each.degrade and can_degrade then says = 1 end
    if says > level then level, by = says, {id = each.id, spent = spent, reserved = reserved} end
    careful = careful or sum > each.careful
  end
  return level, by, careful
end

local function reserve()
  local expires, remember, answers = now + ARGV[arguments], ARGV[arguments + 1], {}

  local function reserve_item(item)
    local likely, most, interactive, can_degrade, elsewhere, list, call =
      string.match(item, '^(%d+) (%d+) (%d) (%d) (%-?%d+) (%S+) (.*)$')
    local scopes = named(list)
    elsewhere = tonumber(elsewhere)
    if operation == 'reserve' then
      local held, settlement = look_up(call)
      if settlement then call, held = next_call(call, settlement, remember) end
      if held then return held_answer(call, held) end
    end
    if not all_there(scopes, elsewhere) then return {'unopened'} end
    local level, by, careful =
      decide(scopes, tonumber(most), interactive == '1', can_degrade == '1', elsewhere)
    if level > 0 and backlog then return {'backlog'} end
    if level > 1 then return {'refused', level, by.id, by.spent, by.reserved} end
    local held = {
      micros = tonumber(careful and most or likely), most = tonumber(most), expires = expires, level = level,
      by = by and by.id or '-',
    }
    if operation == 'reserve' then hold(call, held, scopes) end
    return held_answer(call, held)
  end

  for i = arguments + 2, #ARGV do answers[#answers + 1] = reserve_item(ARGV[i]) end
  return answers
end

local function lend()
  local expires, answers = now + ARGV[arguments], {}

  local function lend_item(item)
    local asked, list, call = string.match(item, '^(%d+) (%S+) (.*)$')
    local held, settlement = look_up(call)
    if held then return held_answer(call, held) end
    local scopes = named(list)
    if not all_there(scopes, 0) then return {'unopened'} end
    asked = tonumber(asked)
    -- Others want a lease, too: a quarter of what there is goes to one.
    local grant = asked
    for _, each in ipairs(scopes) do
      local found = counter(each.id)
      grant = math.min(grant, math.floor((each.careful - found.spent - found.committed) / 4))
    end
    held = {micros = grant, most = grant, expires = expires, level = 0, by = '-'}
    -- A crumb is soon used up, and whoever has it asks again and again.
    if settlement or grant < math.max(1, asked / 16) then
      if backlog then return {'backlog'} end
      held.micros = 0
    else
      hold(call, held, scopes)
    end
    return held_answer(call, held)
  end

  for i = arguments + 1, #ARGV do answers[#answers + 1] = lend_item(ARGV[i]) end
  return answers
end

local function settle()
  local remember, leases, answers, last_place = ARGV[arguments], {}, {}, 0
  local first = arguments + 2 + ARGV[arguments + 1]

  local function lease(number)
    local found = leases[number]
    if not found then
      local call = ARGV[arguments + 1 + number]
      found = {call = call, held = look_up(call)}
      leases[number] = found
    end
    return found
  end

  -- What was in the journal before it was opened is in what it was opened with.
  local function add(found, place, cost, figures, sign)
    if place > found.from then
      found.spent, found.changed = found.spent + sign * cost, true
      add_usage(found, figures, sign)
    end
  end

  local function count(scopes, task, called, place, cost, figures, sign)
    -- A task without a cap has no counter and gets none. What had ended when one was begun with what
    -- the task had spent by its log is a part of that.
    local cap = task ~= '-' and counter(task)
    if cap and cap.exists and (called == 0 or called > cap.opened - margin_ms) then
      add(cap, place, cost, figures, sign)
    end
    for _, each in ipairs(scopes) do
      local found = counter(each.id)
      if found.exists then
        add(found, place, cost, figures, sign)
      else
        miss(found)
        local pending = pending_key(each.id)
        redis.call('RPUSH', pending, table.concat({int(place), sign, int(cost), unpack(figures)}, ' '))
        redis.call('PEXPIRE', pending, remember)
      end
    end
  end

  -- Whether that it was settled before may be forgotten by now.
  local function is_old(called)
    return called <= now - remember + margin_ms
  end

  -- Whether the journal may have had the call before one of these was opened.
  local function is_unsure(scopes, called)
    if is_old(called) then return true end
    for _, each in ipairs(scopes) do
      local found = counter(each.id)
      if not found.exists or called <= found.opened + margin_ms then return true end
    end
    return false
  end

  local function settle_item(item)
    local cost, place, called, leased, number, is_first, task, list, figures, length, rest = string.match(
      item, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d) (%S+) (%S+) (%d+ %d+ %d+ %d+ %d+ %d+) (%d+) (.*)$'
    )
    local model, call = string.sub(rest, 1, tonumber(length)), string.sub(rest, tonumber(length) + 1)
    cost, place, called = tonumber(cost), tonumber(place), tonumber(called)
    local scopes, stored = named(list), redis.call('GET', calls .. call)
    local newest = '1'
    if stored and string.sub(stored, 1, 7) == 'settled' then
      local era_before, place_before, cost_before, newest_before, figures_before, model_before =
        string.match(stored, '^settled (%d+) (%d+) (%d+) (%d+) (%d+ %d+ %d+ %d+ %d+ %d+) (.*)$')
      cost_before, place_before, newest = tonumber(cost_before), tonumber(place_before), newest_before
      last_place = math.max(last_place, place)
      if figures_before == figures and model_before == model then return {'repeated', cost_before} end
      if place_before <= place or tonumber(era_before) ~= era then return {'conflict', cost_before} end
      -- Two said different things at once, and the journal heard this one first: it counts.
      count(scopes, task, called, place_before, cost_before, parsed(figures_before), -1)
    elseif is_first == '0' and is_unsure(scopes, called) then
      return {'unsure'}
    elseif stored then
      local held = reservation(stored)
      give_back(held)
      redis.call('ZREM', expiry, call)
    end
    if number ~= '0' then
      local of = lease(tonumber(number))
      if of.held then
        local micros = math.min(tonumber(leased), of.held.micros)
        take_off(of.held, micros, micros)
        of.changed = of.changed or micros > 0
      end
    end
    if is_first == '2' and is_old(called) then
      -- The journal had it long ago. Whether it was counted then nobody knows but the ledger.
      for _, each in ipairs(scopes) do forget(counter(each.id)) end
    else
      count(scopes, task, called, place, cost, parsed(figures), 1)
    end
    -- By whose clock it ended later than now, by that it is old later, too.
    redis.call('SET', calls .. call,
      table.concat({'settled', int(era), int(place), int(cost), newest, figures, model}, ' '),
      'PX', int(remember + math.max(called - now, 0)))
    last_place = math.max(last_place, place)
    return {'settled', cost}
  end

  for i = first, #ARGV do answers[#answers + 1] = settle_item(ARGV[i]) end
  count_to(last_place)
  for _, each in pairs(leases) do
    if each.changed then redis.call('SET', calls .. each.call, stored_as(each.held)) end
  end
  return answers
end

local function release()
  local answers = {}
  for i = arguments, #ARGV do
    local keep, call = string.match(ARGV[i], '^(%d+) (.*)$')
    local held, settlement = look_up(call)
    if not held then
      held = look_up('lease:' .. call)
      if held then call, settlement = 'lease:' .. call, nil end
    end
    local given = 0
    if held then
      keep = tonumber(keep)
      given = math.max(held.micros - keep, 0)
      local most = math.max(held.most - keep, 0)
      take_off(held, given, most)
      if held.most == 0 then
        redis.call('DEL', calls .. call)
        redis.call('ZREM', expiry, call)
      elseif most > 0 then
        redis.call('SET', calls .. call, stored_as(held))
      end
    end
    answers[#answers + 1] = settlement and {'settled'} or {'released', given}
  end
  return answers
end

local function open()
  local answers = {}
  if tonumber(ARGV[arguments]) ~= era then return {{'past'}} end
  for i = arguments + 1, #ARGV do
    local number, place, begins, spent, figures = string.match(ARGV[i], '^(%d+) (%d+) (%d+) (%d+) (.*)$')
    local of = terms[tonumber(number)]
    local found, pending = counter(of.id), pending_key(of.id)
    if not found.exists then
      -- What ended before its window begins may be in the journal in the one before, however
      -- early this is opened.
      begin(found, of, tonumber(spent), figures, tonumber(place), math.max(now, tonumber(begins)))
      for _, each in ipairs(redis.call('LRANGE', pending, 0, -1)) do
        local later, sign, cost, more = string.match(each, '^(%d+) (%-?1) (%d+) (.*)$')
        if tonumber(later) > found.from then
          found.spent = found.spent + sign * tonumber(cost)
          add_usage(found, parsed(more), tonumber(sign))
        end
      end
      redis.call('DEL', pending)
    end
    answers[#answers + 1] = {'open'}
  end
  return answers
end

-- Answered for all counters at once: none of them is right before the sweep is.
local function read()
  local answers = {}
  for i = arguments, #ARGV do
    local found = counter(terms[tonumber(ARGV[i])].id)
    if backlog then answers[#answers + 1] = {'backlog'}
    elseif found.exists then
      local limit = redis.call('HGET', prefix .. found.id, 'limit') or '0'
      answers[#answers + 1] = {'read', found.spent, found.reserved, found.usage, limit, found.committed}
    else answers[#answers + 1] = {'missing'} end
  end
  return answers
end

-- What was opened with all up to that place is right.
local function forget_older()
  local answers = {}
  for i = arguments, #ARGV do
    local number, place = string.match(ARGV[i], '^(%d+) (%d+)$')
    local found = counter(terms[tonumber(number)].id)
    if found.exists and found.from < tonumber(place) then forget(found) end
    count_to(tonumber(place))
    answers[#answers + 1] = {'forgotten'}
  end
  return answers
end

local operations = {
  reserve = reserve, weigh = reserve, lend = lend, settle = settle, release = release, open = open, read = read, forget = forget_older,
  sweep = function() return {backlog and 1 or 0} end,
}
local answers = operations[operation]()
write_counters()
local absent = {}
for id in pairs(missing) do absent[#absent + 1] = id end
return {absent, answers, era, counted}
