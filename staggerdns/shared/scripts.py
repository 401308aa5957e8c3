"""What a store does in one step, in Lua: nothing else happens between a value and its time."""

from __future__ import annotations

READ = """
local found = {}
for place, key in ipairs(KEYS) do
  local value = redis.pcall('GET', key)
  if type(value) == 'table' then value = '' end
  found[2 * place - 1] = value
  found[2 * place] = value and redis.call('PTTL', key) or 0
end
return found
"""
"""For each key its value, nil if there is none, and the milliseconds that it still has. What is no
string is empty.
"""
REPLACE = """
local value = redis.pcall('GET', KEYS[1])
if type(value) == 'table' then value = '' end
if value and value ~= ARGV[1] then return {value, redis.call('PTTL', KEYS[1])} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return {}
"""
"""With the value that is expected, the new one, and milliseconds: what is there instead, if it is
something else, or nothing if it was replaced.
"""
