"""Lists of many records, and reads of many at once."""

import contextlib
import json
import os
import time

from figures import median
from http_part import RECORD
from load import wrk
from processes import Missing, exchange, node

NEEDS = ("backplane",)

RECORDS = 100_000
RECORDS_MANY = 1_000_000
# Records of one message while the node is filled.
FILL = 1_000
READ_MULTI = 50
# What listing a million records may add to the node's memory.
GROWTH_MIB_MAX = 32

LISTS = {
    "50": "limit=50",
    "1000": "limit=1000",
    "1000, page 50": "limit=1000&page=50",
    "50 by name": "limit=50&sortBy=name",
    "50 by time, newest first": "limit=50&sortBy=timestamp&sortOrder=desc",
    "50 with a pattern": "limit=50&pattern=7$",
}


def run(settings, report):
    report.title(
        f"Lists of {RECORDS:,} records of 200 bytes and reads of many: medians of {settings.runs} runs of "
        f"{settings.seconds} s")
    with contextlib.ExitStack() as stack:
        nodes = {name: stack.enter_context(started(settings, name, "lists")) for name in ("memory", "sqlite")}
        for server in nodes.values():
            fill(server, RECORDS)
        lists(settings, report, nodes)
        read_multi(settings, report, nodes)
    for name in ("memory", "sqlite"):
        with started(settings, name, "many") as server:
            many(report, server)


def started(settings, name, folder):
    folder = os.path.join(settings.scratch, f"{folder}-{name}")
    url = "memory://" if name == "memory" else f"sqlite://{folder}/records.sqlite"
    return node(settings, name, folder, url, core=settings.server_core)


def fill(server, records):
    """Messages of many records, because one at a time would take minutes."""
    server.wait("/health")
    value = json.loads(RECORD)
    for first in range(0, records, FILL):
        outputs = [[f"mutable://open/listed/record-{index:07}", value] for index in range(first, first + FILL)]
        body = json.dumps(
            {"tx": [f"mutable://open/filled/{first:07}", {"payload": {"inputs": [], "outputs": outputs}}]})
        answer = exchange(server.port, "POST", "/api/v1/receive", body.encode())
        if not answer.startswith(b"HTTP/1.1 200"):
            raise Missing(f"the {server.name} node refused {FILL} records: {answer[:300]!r}")


def lists(settings, report, nodes):
    results = {}
    for _ in range(settings.runs):
        for name, server in nodes.items():
            for what, query in LISTS.items():
                path = f"/api/v1/list/mutable/open/listed?{query}"
                result = wrk(settings, server, path, "report.lua", 4, settings.seconds)
                results.setdefault((name, what), []).append(result)
    for (name, what), runs in results.items():
        rate, p99 = (median([run[key] for run in runs]) for key in ("rate", "p99_us"))
        report.add(f"list of {what}, {name}", rate, "/s", digits=1)
        print(f"    p50 {median([run['p50_us'] for run in runs]) / 1e3:,.2f} ms, p99 {p99 / 1e3:,.2f} ms")
        failed = sum(run["failed"] for run in runs)
        if failed:
            report.note(f"list of {what}, {name}: {failed} requests failed")
        report.measurements.append({"workload": f"list of {what} of {RECORDS}", "server": name, "runs": runs})


def read_multi(settings, report, nodes):
    """Records per second: one request for fifty against fifty requests."""
    results = {}
    for _ in range(settings.runs):
        for name, server in nodes.items():
            single = wrk(settings, server, "/api/v1/read/mutable/open/listed/record-0000007", "report.lua", 16,
                         settings.seconds)
            together = wrk(settings, server, "/api/v1/read-multi", "read-multi.lua", 4, settings.seconds,
                           (READ_MULTI, RECORDS))
            results.setdefault(name, []).append((single, together))
    for name, runs in results.items():
        single = median([run[0]["rate"] for run in runs])
        together = median([run[1]["rate"] for run in runs]) * READ_MULTI
        report.add(
            f"records read {READ_MULTI} at once, {name}", together, "/s", single, together / single, at_least=1)
        print(f"    p99 {median([run[1]['p99_us'] for run in runs]) / 1e3:,.2f} ms")


def many(report, server):
    """The node's memory while a million records are listed, and how long it takes."""
    fill(server, RECORDS_MANY)
    path = "/api/v1/list/mutable/open/listed?"
    for what, query in LISTS.items():
        before = peak_mib(server, starts_anew=True)
        start = time.monotonic()
        answer = exchange(server.port, "GET", path + query)
        seconds = time.monotonic() - start
        if not answer.startswith(b"HTTP/1.1 200"):
            raise Missing(f"the {server.name} node answered a list of {what} with {answer[:300]!r}")
        total = json.loads(answer.partition(b"\r\n\r\n")[2])["pagination"]["total"]
        # The pattern takes every tenth.
        if total not in (RECORDS_MANY, RECORDS_MANY // 10):
            raise Missing(f"the {server.name} node lists {total} of {RECORDS_MANY} records")
        growth = peak_mib(server) - before
        report.add(
            f"growth, list of {what} of {RECORDS_MANY:,}, {server.name}", growth, "MiB", at_most=GROWTH_MIB_MAX,
            digits=1)
        print(f"    {before:,.1f} MiB before, {seconds * 1e3:,.1f} ms")


def peak_mib(server, starts_anew=False):
    """The most resident memory since it was last begun anew."""
    if starts_anew:
        with open(f"/proc/{server.process.pid}/clear_refs", "w", encoding="utf-8") as file:
            file.write("5")
    with open(f"/proc/{server.process.pid}/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    raise Missing("the system does not say how much memory a process has used (VmHWM in /proc)")
