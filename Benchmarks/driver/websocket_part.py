"""WebSocket: round trips beside HTTP on the same node, and ten thousand subscribers."""

import json
import os
import resource
import subprocess

from figures import median
from http_part import RECORD
from load import wrk
from processes import Missing, exchange, node

NEEDS = ("backplane", "WebSocketBenchmark")
CONNECTIONS = 64
SUBSCRIBERS = 10_000
RATE = 2


def run(settings, report):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report.title(
        f"WebSocket, {CONNECTIONS} connections, beside HTTP reads of the same record: medians of {settings.runs} runs of "
        f"{settings.seconds} s; and {SUBSCRIBERS:,} subscribers")
    folder = os.path.join(settings.scratch, "websocket")
    with node(settings, "websocket", folder, "memory://", core=settings.server_core) as server:
        server.wait("/health")
        body = json.dumps({"tx": ["mutable://open/bench", json.loads(RECORD)]})
        exchange(server.port, "POST", "/api/v1/receive", body.encode())
        trips(settings, report, server)
        observers(settings, report, server)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def command(settings, *arguments):
    return ["taskset", "-c", str(settings.load_core), settings.product("WebSocketBenchmark"), *map(str, arguments)]


def trips(settings, report, server):
    socket, http = [], []
    for _ in range(settings.runs):
        done = subprocess.run(
            command(settings, "trips", server.port, CONNECTIONS, settings.seconds), capture_output=True, text=True,
            check=False)
        if done.returncode != 0:
            raise Missing(f"WebSocketBenchmark failed: {done.stdout.strip()[-300:]}")
        socket.append(json.loads(done.stdout))
        http.append(wrk(settings, server, "/api/v1/read/mutable/open/bench", "report.lua", CONNECTIONS,
                        settings.seconds))
    ours = median([run["rate"] for run in socket])
    beside = median([run["rate"] for run in http])
    report.add("round trips (reads); limit: HTTP", ours, "/s", beside, ours / beside)
    report.add("round trip, p99", median([run["p99_us"] for run in socket]), "us")


def observers(settings, report, server):
    before = server.memory_mib()[0]
    with subprocess.Popen(
            command(settings, "observers", server.port, SUBSCRIBERS, RATE, settings.seconds), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True) as client:
        said = client.stdout.readline().strip()
        if said != "ready":
            raise Missing(f"{SUBSCRIBERS} subscribers did not come about: {said}")
        report.add("memory for a subscriber", (server.memory_mib()[0] - before) * 1024 / SUBSCRIBERS, "KiB", digits=1)
        client.stdin.write("\n")
        client.stdin.flush()
        found = json.loads(client.stdout.readline())
    if "error" in found:
        raise Missing(f"WebSocketBenchmark failed: {found['error']}")
    report.add(f"event at {RATE} messages/s, p50", found["p50_us"] / 1e3, "ms", digits=1)
    report.add(f"event at {RATE} messages/s, p99", found["p99_us"] / 1e3, "ms", digits=1)
    report.add("events handed out", found["events_per_second"], "/s")
