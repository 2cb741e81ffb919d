-- Posts the lines of a file, one after the other and then again from the first. ARGUMENTS: the path to post to, the file.

local requests = {}
local next_request = 0

function init(arguments)
  for line in io.lines(arguments[2]) do
    requests[#requests + 1] = "POST " .. arguments[1] .. " HTTP/1.1\r\nHost: 127.0.0.1\r\n" ..
      "Content-Type: application/json\r\nContent-Length: " .. #line .. "\r\n\r\n" .. line
  end
end

function request()
  next_request = next_request % #requests + 1
  return requests[next_request]
end

dofile(os.getenv("BENCH_WRK_FOLDER") .. "/report.lua")
