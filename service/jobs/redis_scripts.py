"""The Lua scripts that change jobs in Redis (service/jobs/redis_store.py), each in one step.

KEYS of every script: stream, job, request, response. A script answers 0 when it changed nothing.
"""

# Jobs stored by earlier gateways use the name `told`.
_WEBHOOK_STATUS = (
    "(redis.call('HGET', KEYS[2], 'webhook_status') or redis.call('HGET', KEYS[2], 'told'))"
)
_ADD = """
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
local entry = redis.call('XADD', KEYS[1], '*', 'id', ARGV[4])
redis.call('HSET', KEYS[2], 'fixed', ARGV[5], 'status', 'queued',
           'webhook_status', ARGV[6], 'expires', ARGV[7], 'entry', entry)
redis.call('PEXPIRE', KEYS[2], 2 * ARGV[3])
return 1
"""
_BEGIN = f"""
local status, webhook = redis.call('HGET', KEYS[2], 'status'), {_WEBHOOK_STATUS}
local open = status == 'queued' or status == 'running'
local ended = status == 'done' or status == 'failed'
if (open and redis.call('EXISTS', KEYS[3]) == 1) or (ended and webhook == 'waiting') then
  redis.call('HSET', KEYS[2], 'token', ARGV[2], 'entry', ARGV[1])
  if open then
    redis.call('HSET', KEYS[2], 'status', 'running', 'started', ARGV[3], 'done', 0)
    redis.call('HINCRBY', KEYS[2], 'attempts', 1)
  end
  return 1
end
if open then redis.call('HSET', KEYS[2], 'status', 'expired') end
redis.call('XACK', KEYS[1], ARGV[4], ARGV[1])
redis.call('XDEL', KEYS[1], ARGV[1])
return 0
"""
# Those below begin with the token, the group and the entry of a lease.
_HELD = "if redis.call('HGET', KEYS[2], 'token') ~= ARGV[1] then return 0 end\n"
_RUNNING = f"{_HELD}if redis.call('HGET', KEYS[2], 'status') ~= 'running' then return 0 end\n"
_REMOVE_ENTRY = """
redis.call('XACK', KEYS[1], ARGV[2], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
"""
_HEARTBEAT = f"""{_HELD}
redis.call('XCLAIM', KEYS[1], ARGV[2], ARGV[4], 0, ARGV[3], 'JUSTID')
if ARGV[5] ~= '' then redis.call('HSET', KEYS[2], 'done', ARGV[5]) end
return 1
"""
_FINISH = f"""{_RUNNING}
redis.call('SET', KEYS[4], ARGV[4], 'PX', ARGV[5])
redis.call('DEL', KEYS[3])
redis.call('HSET', KEYS[2], 'status', ARGV[6], 'finished', ARGV[7], 'expires', ARGV[8])
redis.call('PEXPIRE', KEYS[2], 2 * ARGV[5])
if {_WEBHOOK_STATUS} ~= 'waiting' then {_REMOVE_ENTRY} end
return 1
"""
_RECORD_WEBHOOK = f"""{_HELD}
redis.call('HSET', KEYS[2], 'webhook_status', ARGV[4])
redis.call('HDEL', KEYS[2], 'token')
{_REMOVE_ENTRY}
return 1
"""
_REQUEUE = f"""{_RUNNING}
{_REMOVE_ENTRY}
local entry = redis.call('XADD', KEYS[1], '*', 'id', ARGV[4])
redis.call('HSET', KEYS[2], 'status', 'queued', 'done', 0, 'entry', entry)
redis.call('HINCRBY', KEYS[2], 'attempts', -1)
redis.call('HDEL', KEYS[2], 'token', 'started')
return 1
"""
# And these without a lease.
_CANCEL = """
local status, entry = unpack(redis.call('HMGET', KEYS[2], 'status', 'entry'))
if not status then return 0 end
redis.call('DEL', KEYS[3], KEYS[4])
if status == 'queued' or status == 'running' then
  redis.call('HSET', KEYS[2], 'status', 'cancelled', 'finished', ARGV[1],
             'webhook_status', 'none')
elseif status ~= 'cancelled' then
  redis.call('HSET', KEYS[2], 'status', 'expired')
end
redis.call('HDEL', KEYS[2], 'token')
redis.call('XACK', KEYS[1], ARGV[2], entry)
redis.call('XDEL', KEYS[1], entry)
return 1
"""
_LEAVE = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
"""
SCRIPTS = {
    "add": _ADD,
    "begin": _BEGIN,
    "heartbeat": _HEARTBEAT,
    "finish": _FINISH,
    "record_webhook": _RECORD_WEBHOOK,
    "requeue": _REQUEUE,
    "cancel": _CANCEL,
    "leave": _LEAVE,
}
