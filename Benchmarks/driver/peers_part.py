"""What peers cost local writes, and how fast a peer has what was written."""

import os
import socket
import time

from figures import median
from http_part import RECORD
from processes import Missing, free_port, node

NEEDS = ("backplane",)

# Writes to each node, in turns, so that whatever else the machine does meets all of them.
WRITES = 2_000
PAUSE_S = 0.001
PROPAGATIONS = 400
GOAL = 1.2


def run(settings, report):
    report.title(
        f"Peers: receive of 200 bytes with 0, 1 and 3 push peers (one of the three is dead), {WRITES:,} writes each, one at "
        f"a time, against 0 peers: medians of {settings.runs}")
    found = [measure(settings, number) for number in range(settings.runs)]
    for index, name in enumerate(("0 push peers", "1 push peer", "3 push peers, one dead", "1 push peer, durable")):
        for percentile in ("p50", "p99"):
            bare = median([one["latency"][0][percentile] for one in found])
            ours = median([one["latency"][index][percentile] for one in found])
            report.add(
                f"receive {percentile}, {name}", ours, "us", bare, ours / bare,
                at_most=round(GOAL * bare) if index in (1, 2) else None)
    report.add("written here, read at the peer: p50", median([one["seen"]["p50"] for one in found]), "us")
    report.add("written here, read at the peer: p99", median([one["seen"]["p99"] for one in found]), "us")


def measure(settings, number):
    folder = os.path.join(settings.scratch, f"peers-{number}")
    dead = free_port()
    with node(settings, "peer-a", f"{folder}/a", "memory://", core=settings.load_core) as first, \
            node(settings, "peer-b", f"{folder}/b", "memory://", core=settings.load_core) as second:
        for server in (first, second):
            server.wait("/health")
        ports = (first.port, second.port, dead)
        slots = [
            "", peers(ports[:1]), peers(ports), peers(ports[:1], ", push: {durable: true}")]
        nodes = [
            node(settings, f"node-{index}", f"{folder}/{index}", "memory://", core=settings.server_core, extra=extra)
            for index, extra in enumerate(slots)]
        try:
            for server in nodes:
                server.wait("/health")
            connections = [connect(server.port) for server in nodes]
            write(connections, WRITES // 10, [])
            times = [[] for _ in nodes]
            write(connections, WRITES, times)
            result = {"latency": [percentiles(one) for one in times], "seen": propagation(connections[1], first.port)}
            for connection in connections:
                connection.close()
            return result
        finally:
            for server in nodes:
                server.__exit__()


def peers(ports, more=""):
    return "".join(
        f"  peer{index}:\n    {{kind: backend, url: 'http://127.0.0.1:{port}', peer: push{more}}}\n"
        for index, port in enumerate(ports))


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def post(connection, uri):
    body = f'{{"tx":["{uri}",{RECORD}]}}'
    connection.sendall(
        f"POST /api/v1/receive HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    answer = connection.recv(65536)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise Missing(f"a node refused a record: {answer[:300]!r}")


def write(connections, count, times):
    for number in range(count):
        # Each is the first as often as the others.
        for turn in range(len(connections)):
            index = (number + turn) % len(connections)
            time.sleep(PAUSE_S)
            began = time.perf_counter_ns()
            post(connections[index], f"mutable://open/bench/{number % 1000}")
            if times:
                times[index].append((time.perf_counter_ns() - began) / 1000)


def propagation(connection, port):
    """From the moment a write is sent until the peer answers a read with it."""
    seen = []
    reader = connect(port)
    for number in range(PROPAGATIONS):
        name = f"seen/{time.monotonic_ns()}"
        began = time.perf_counter_ns()
        post(connection, f"mutable://open/{name}")
        request = f"GET /api/v1/read/mutable/open/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        while True:
            reader.sendall(request)
            answer = reader.recv(65536)
            if answer.startswith(b"HTTP/1.1 200"):
                break
            if time.perf_counter_ns() - began > 20e9:
                raise Missing("the peer does not have a record after 20 s")
        seen.append((time.perf_counter_ns() - began) / 1000)
        if number % 10 == 0:
            time.sleep(PAUSE_S)
    reader.close()
    return percentiles(seen)


def percentiles(values):
    ordered = sorted(values)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[int(len(ordered) * 0.99)]}
