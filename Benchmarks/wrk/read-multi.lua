-- Reads many records at once, others each time. ARGUMENTS: how many at once, and of how many.

local head = "POST /api/v1/read-multi HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
local count, records, next_record

function init(arguments)
  count = tonumber(arguments[1])
  records = tonumber(arguments[2])
  next_record = 0
end

function request()
  local uris = {}
  for index = 1, count do
    -- Far apart, so that no two lie side by side in the backend.
    next_record = (next_record + 7919) % records
    uris[index] = string.format('"mutable://open/listed/record-%07d"', next_record)
  end
  local body = '{"uris":[' .. table.concat(uris, ",") .. "]}"
  return head .. #body .. "\r\n\r\n" .. body
end

dofile(os.getenv("BENCH_WRK_FOLDER") .. "/report.lua")
