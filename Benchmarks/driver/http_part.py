"""The node over HTTP against a bare SwiftNIO server and nginx."""

import contextlib
import json
import os

from figures import median
from load import wrk
from processes import Missing, Server, exchange, free_port, node, tool

# 200 bytes of JSON.
RECORD = json.dumps({"n": 1, "text": "x" * 183}, separators=(",", ":"))
WORKLOADS = {
    "read": ("/api/v1/read/mutable/open/bench/record", "report.lua"),
    "receive": ("/api/v1/receive", "receive.lua"),
    "list of 50": ("/api/v1/list/mutable/open/listed?limit=50", "report.lua"),
    "list of 1000": ("/api/v1/list/mutable/open/listed?limit=1000", "report.lua"),
}
CONNECTIONS = (64, 1)
# Ratios to the limit that a read must reach.
GOALS = {("read", "bare"): 0.5, ("read", "memory"): 0.85, ("read", "sqlite"): 0.65}
LIMITS = {"bare": "nginx", "memory": "bare", "sqlite": "bare", "rendered": "bare"}


def run(settings, report):
    assert len(RECORD) == 200
    report.title(
        f"HTTP, one loop: medians of {settings.runs} interleaved runs of {settings.seconds} s, server on core "
        f"{settings.server_core}, wrk on core {settings.load_core}")
    with contextlib.ExitStack() as stack:
        nodes = {}
        for name in ("memory", "sqlite"):
            folder = os.path.join(settings.scratch, f"http-{name}")
            url = "memory://" if name == "memory" else f"sqlite://{folder}/records.sqlite"
            nodes[name] = stack.enter_context(node(settings, name, folder, url, core=settings.server_core))
            nodes[name].wait("/health")
            fill(nodes[name])
        answers = record_answers(settings, nodes["memory"])
        servers = {workload: limits(settings, stack, answers[workload]) | nodes for workload in WORKLOADS}
        results = measure(settings, servers)
        for workload in WORKLOADS:
            for connections in CONNECTIONS:
                show(report, workload, connections, results)
        for name, server in nodes.items():
            for line in server.log_text().splitlines():
                if " warning " in line or " error " in line:
                    report.note(f"the {name} node logged: {line[:300]}")


def fill(server):
    def put(uri, text):
        answer = exchange(server.port, "POST", "/api/v1/receive", f'{{"tx":["{uri}",{text}]}}'.encode())
        if not answer.startswith(b"HTTP/1.1 200"):
            raise Missing(f"the {server.name} node refused a record: {answer[:300]!r}")

    put("mutable://open/bench/record", RECORD)
    for index in range(1000):
        put(f"mutable://open/listed/record-{index:05}", RECORD)


def record_answers(settings, server):
    """What the node sends for each workload, in a file each: the limits send the same."""
    paths = {}
    for workload, (path, _) in WORKLOADS.items():
        if workload == "receive":
            body = f'{{"tx":["mutable://open/bench/written",{RECORD}]}}'.encode()
            answer = exchange(server.port, "POST", path, body)
        else:
            answer = exchange(server.port, "GET", path)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise Missing(f"the node answered {workload} with {answer[:200]!r}")
        paths[workload] = os.path.join(settings.scratch, workload.replace(" ", "-") + ".http")
        with open(paths[workload], "wb") as file:
            file.write(answer)
    return paths


def limits(settings, stack, answer):
    """The servers that give every request this answer."""
    made = {}
    for name, flags in (("bare", []), ("rendered", ["--rendered"])):
        port = free_port()
        made[name] = stack.enter_context(
            Server(name, port, [settings.product("BareServer"), str(port), answer] + flags, settings.scratch,
                   core=settings.server_core))
        made[name].wait("/")
    made["nginx"] = stack.enter_context(nginx(settings, answer))
    made["nginx"].wait("/")
    return made


def nginx(settings, answer):
    port = free_port()
    folder = os.path.join(settings.scratch, f"nginx-{port}")
    os.makedirs(folder)
    with open(answer, "rb") as file:
        head, _, body = file.read().decode().partition("\r\n\r\n")
    headers = [line.partition(":") for line in head.split("\r\n")[1:]]
    own = ("content-type", "content-length", "date")
    lines = [f"add_header {name} '{value.strip()}';" for name, _, value in headers if name not in own]
    media = next(value.strip() for name, _, value in headers if name == "content-type")
    # A word of the configuration may have 4,095 bytes: a longer body is put together from variables.
    pieces = [body[start:start + 3500] for start in range(0, len(body), 3500)]
    if any(character in body for character in "'$\\"):
        raise Missing("the answer holds a character that nginx's configuration would take for its own.")
    lines += [f"set $body{index} '{piece}';" for index, piece in enumerate(pieces)]
    whole = "".join(f"${{body{index}}}" for index in range(len(pieces)))
    path = os.path.join(folder, "nginx.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            "daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log error.log crit;\n"
            "events { worker_connections 1024; }\n"
            "http { access_log off; server_tokens off; keepalive_requests 1000000000; tcp_nodelay on;\n"
            f"default_type '{media}';\n"
            + "".join(f"{name}_temp_path {folder}/{name};\n" for name in
                      ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            + f"server {{ listen 127.0.0.1:{port} backlog=1024; location / {{\n"
            + "\n".join(lines) + f"\nreturn 200 '{whole}';\n}} }} }}\n")
    return Server(
        "nginx", port, [tool("nginx", "nginx-light"), "-p", folder, "-c", path, "-e", f"{folder}/error.log"], folder,
        core=settings.server_core)


def measure(settings, servers):
    """(workload, connections, server) -> one result for each run. Run by run, so that a slow minute hits everyone."""
    results = {}
    first_record = 0
    for _ in range(settings.runs):
        for workload, (path, script) in WORKLOADS.items():
            for connections in CONNECTIONS:
                for name, server in servers[workload].items():
                    arguments = ()
                    if workload == "receive":
                        arguments = (first_record,)
                        first_record += 1_000_003
                    result = wrk(settings, server, path, script, connections, settings.seconds, arguments)
                    results.setdefault((workload, connections, name), []).append(result)
    return results


def show(report, workload, connections, results):
    def figure(name, key):
        return median([result[key] for result in results[(workload, connections, name)]])

    for name in ("nginx", "bare", "rendered", "memory", "sqlite"):
        limit = LIMITS.get(name)
        goal = GOALS.get((workload, name))
        rate, cpu = figure(name, "rate"), figure(name, "cpu_us")
        label = f"{workload}, {connections} connection{'s' if connections > 1 else ''}, {name}"
        limit_rate = figure(limit, "rate") if limit else None
        limit_cpu = figure(limit, "cpu_us") if limit else None
        report.add(label, rate, "/s", limit_rate, limit and rate / limit_rate, at_least=goal)
        report.add(
            f"{label}, CPU", cpu, "us", limit_cpu, limit and limit_cpu / max(cpu, 0.001), at_least=goal, digits=1)
        failed = sum(result["failed"] for result in results[(workload, connections, name)])
        if failed:
            report.note(f"{label}: {failed} requests failed")
        p50, p99 = figure(name, "p50_us"), figure(name, "p99_us")
        print(f"    p50 {p50:,.0f} us, p99 {p99:,.0f} us")
        report.measurements.append(
            {"workload": workload, "connections": connections, "server": name, "p50_us": p50, "p99_us": p99,
             "runs": results[(workload, connections, name)]})
