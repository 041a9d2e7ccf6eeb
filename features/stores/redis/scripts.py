"""What a Redis server does in one step: scripts in its own language, Lua.

A script runs alone on its server and reaches one slot of a cluster. It makes all its checks before
it writes, because Redis cannot undo a write.

The first argument of a script that takes an update is its head, in msgpack. Numbers are text in it,
since Lua has 53 bits for them; bytes are the places of arguments that follow, since its msgpack has
no bytes. The rows come last.
"""

_GROW = """
local function step(length)  -- goes up by one with each quarter that a value grows
  return math.floor(math.log(length) * 4.4814)
end

local function places(rows, size, length)  -- adds to the sum of a value that is so long
  local sum = 0
  for last = size, #rows, size do
    local checksum = struct.unpack('<I4', rows, last - 7) % 16777216
    sum = sum + checksum * ((length + last) / 4 % 134217728)
    sum = sum % 4294967296
  end
  return sum
end

local function append(key, rows, empty, size)  -- the length of the value
  local length = redis.call('APPEND', key, rows)
  local before = length - #rows
  if before == 0 then
    local sum = struct.pack('>I4', places(rows, size, #empty))
    redis.call('SET', key, string.sub(empty, 1, 40) .. sum .. rows)
    return #empty + #rows
  end
  if before % 8 == 4 then  -- a value with a sum: all others are multiples of eight bytes
    redis.call('BITFIELD', key, 'INCRBY', 'u32', 320, places(rows, size, before))
  end
  return length
end

local function grow(head)  -- appends rows to values; the keys that have grown a good deal
  local i, grown = head.fixed, {}
  for _, view in ipairs(head.views) do
    for _ = 1, view.count do
      i = i + 1
      local rows = ARGV[head.last + i - head.fixed]
      local length = append(KEYS[i], rows, ARGV[view.empty], view.size)
      if length > 1024 and step(length) > step(length - #rows) then
        grown[#grown + 1] = i - head.fixed - 1
      end
    end
  end
  return grown
end

local function move(key, moves)
  for _, m in ipairs(moves) do
    redis.call('HSET', key, m.name, m.stop)
    if m.newest then redis.call('HSET', key, 'newest:' .. m.name, m.newest) end
  end
end

local head = cmsgpack.unpack(ARGV[1])
"""

COMMIT = (
    _GROW
    + """
local generation, positions, schemas, declared, redo, pending = unpack(KEYS, 1, 6)
if (redis.call('GET', generation) or '0') ~= head.generation then return {'emptied'} end
if head.id and redis.call('HEXISTS', redo, head.id) == 1 then return {'done', {}} end
for _, m in ipairs(head.moves) do
  local at = redis.call('HGET', positions, m.name) or '0'
  if at ~= m.start then return {'moved', m.name, at} end
  if redis.call('HEXISTS', pending, m.name) == 1 then return {'pending', m.name} end
end
for _, view in ipairs(head.views) do
  local schema = redis.call('HGET', declared, view.name)
  if schema and schema ~= view.schema then return {'other', view.name} end
end

local grown = grow(head)
move(positions, head.moves)
for _, view in ipairs(head.views) do redis.call('HSET', declared, view.name, view.schema) end
redis.call('DEL', schemas)
for _, s in ipairs(head.schemas) do redis.call('HSET', schemas, s[1], s[2]) end
for _, s in ipairs(head.seen) do redis.call('HSET', KEYS[s[1]], s[2], ARGV[s[3]]) end
for _, s in ipairs(head.forget) do redis.call('HDEL', KEYS[s[1]], s[2]) end
if head.id then
  redis.call('HSET', redo, head.id, ARGV[head.redo])
  for _, m in ipairs(head.moves) do redis.call('HSET', pending, m.name, head.id) end
end
return {'done', grown}
"""
)
"""Apply an update on one server. On a cluster: apply the first shard's part, which decides it.

KEYS: generation, positions, schemas, declared, redo, pending, those of seen ids, then of values.
"""

FOLLOW = (
    _GROW
    + """
local before, after = 0, 0
for _, m in ipairs(head.moves) do
  local at = redis.call('HGET', KEYS[1], m.name) or '0'
  if at == m.start then before = before + 1
  elseif tonumber(at) >= tonumber(m.stop) then after = after + 1
  else return {'astray', m.name, at} end
end
if after == #head.moves then return {'done', {}} end
if before ~= #head.moves then return {'astray', head.moves[1].name, '?'} end
local grown = grow(head)
move(KEYS[1], head.moves)
return {'done', grown}
"""
)
"""Apply another shard's part of a decided update, at most once.

KEYS: the shard's positions, then those of values.
"""

FINISH = """
redis.call('HDEL', KEYS[1], ARGV[1])
for i = 2, #ARGV do
  if redis.call('HGET', KEYS[2], ARGV[i]) == ARGV[1] then redis.call('HDEL', KEYS[2], ARGV[i]) end
end
return {'done'}
"""
"""Delete the redo record of an update that every shard has applied.

KEYS: redo, pending. ARGV: its id, the names of its partitions.
"""

BEGIN = """
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
"""Replace the current generation. KEYS: generation. ARGV: the current one, the new one."""

SWAP = """
local changed = {}
for i, key in ipairs(KEYS) do
  local value = redis.call('GET', key)
  if value and redis.sha1hex(value) == ARGV[2 * i - 1] then redis.call('SET', key, ARGV[2 * i])
  else changed[#changed + 1] = i - 1 end
end
return changed
"""
"""Replace values by their compacted form; returns the indexes of the keys that have changed since.

KEYS: those of values. ARGV: for each, the SHA-1 of the value that was compacted, and the new value.
"""

DECLARE = """
local generation, schemas, declared, declarations = unpack(KEYS)
if (redis.call('GET', generation) or '0') ~= ARGV[1] then return {'emptied'} end
for i = 2, #ARGV, 4 do
  local stored = redis.call('HGET', schemas, ARGV[i]) or ''
  if stored ~= ARGV[i + 1] then return {'moved'} end
end
for i = 2, #ARGV, 4 do
  local view, before, id, content = unpack(ARGV, i, i + 3)
  redis.call('HSET', declarations, view, content)
  if before ~= '' then
    redis.call('HSET', schemas, view, id)
    redis.call('HSET', declared, view, id)
  end
end
return {'done'}
"""
"""Record declarations, and give the views that are maintained their new ids.

KEYS: generation, schemas, declared, declarations. ARGV: the generation, then for each view its
name, its id (empty if it is not maintained), the new id, what is recorded.
"""

ALL = (COMMIT, FOLLOW, BEGIN, FINISH, SWAP, DECLARE)
