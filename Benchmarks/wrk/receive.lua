-- Writes records: each request another URI, rotating over 10,000, and another value. ARGUMENT: a number to start with.

local head = "POST /api/v1/receive HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
local filler = string.rep("x", 174)
local next_record = 0

function init(arguments)
  next_record = tonumber(arguments[1]) or 0
end

function request()
  next_record = next_record + 1
  -- 200 bytes of JSON, whatever the number.
  local body = string.format(
    '{"tx":["mutable://open/written/record-%05d",{"n":%d,"text":"%s"}]}', next_record % 10000, 1000000000 + next_record, filler)
  return head .. #body .. "\r\n\r\n" .. body
end

dofile(os.getenv("BENCH_WRK_FOLDER") .. "/report.lua")
