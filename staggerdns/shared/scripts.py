"""What a store does in one step, in Lua: nothing else happens between a value and its time."""

from __future__ import annotations

from staggerdns.shared.flushes import MAX_ENTRY, MAX_EPOCH

# What stands there may be anything. Half of all numbers are left for flushes, so that nobody can
# have the store begin where it ends.
_EPOCH = """
local now = redis.call('TIME')
local time = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'list' and kind ~= 'none' then redis.call('DEL', KEYS[2]) end
local epoch = redis.pcall('GET', KEYS[1])
local number = type(epoch) == 'string' and string.match(epoch, '^[1-9]%d*$') and tonumber(epoch)
if not number or number < tonumber(ARGV[1]) or number > MAX_STORED then
  epoch = ARGV[1] ~= '0' and ARGV[1] or time
  redis.call('SET', KEYS[1], epoch)
  redis.call('LPUSH', KEYS[2], epoch .. ' ' .. ARGV[1] .. ' ' .. time .. ' !')
  redis.call('LTRIM', KEYS[2], 0, ARGV[2] - 1)
end
local function flushes()
  local found = {}
  for _, one in ipairs(redis.call('LRANGE', KEYS[2], 0, ARGV[2] - 1)) do
    if #one <= MAX_ENTRY then found[#found + 1] = one end
  end
  return found
end
""".replace("MAX_STORED", str(MAX_EPOCH // 2)).replace("MAX_ENTRY", str(MAX_ENTRY))
POLL = (
    _EPOCH
    + """
redis.call('TOUCH', KEYS[2])
return {epoch, time, epoch ~= ARGV[1] and flushes() or {}}
"""
)
"""With the keys of the epoch and of the flushes, the epoch that is known, 0 for none, and how many
flushes there are at most: the epoch, the time in milliseconds, and the flushes if the epoch is
another one. That counts as use of the flushes: a store that is full forgets what is used least, and
whoever was away must find them.
"""
FLUSH = (
    _EPOCH
    + """
for place = 3, #ARGV do
  local before = epoch
  epoch = string.format('%.0f', math.max(tonumber(epoch) + 1, tonumber(time)))
  redis.call('LPUSH', KEYS[2], epoch .. ' ' .. before .. ' ' .. time .. ' ' .. ARGV[place])
end
redis.call('SET', KEYS[1], epoch)
redis.call('LTRIM', KEYS[2], 0, ARGV[2] - 1)
return {epoch, time, flushes()}
"""
)
"""With the same, and what was flushed: the same."""

FORMAT = 1
"""The version of keys and values; each looks for its own alone."""
PREFIX = f"staggerdns:{FORMAT}:".encode()
"""What all keys begin with."""
MAX_VALUE = 65_536
"""Octets of a value; a longer one is none of ours, and need not come over the network."""
_VALUE = f"""
local function value_of(key)
  local length = redis.pcall('STRLEN', key)
  if type(length) == 'table' or length > {MAX_VALUE} then return '' end
  return redis.call('GET', key)
end
"""
READ = (
    _VALUE
    + """
local found = {}
for place, key in ipairs(KEYS) do
  local value = value_of(key)
  found[2 * place - 1] = value
  found[2 * place] = value and redis.call('PTTL', key) or 0
end
return found
"""
)
"""For each key its value, nil if there is none, and the milliseconds that it still has. What is no
string, or too long, is empty.
"""
REPLACE = (
    _VALUE
    + """
local value = value_of(KEYS[1])
if value and value ~= ARGV[1] then return {value, redis.call('PTTL', KEYS[1])} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return {}
"""
)
"""With the value that is expected, the new one, and milliseconds: what is there instead, if it is
something else, or nothing if it was replaced.
"""
WRITE = """
for place, key in ipairs(KEYS) do redis.call('SET', key, ARGV[place + 1], 'PX', ARGV[1]) end
return {}
"""
"""With milliseconds, and a value for each key: nothing."""
