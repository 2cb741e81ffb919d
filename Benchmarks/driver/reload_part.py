"""Reloads under an open load: what fails, what is lost, and what it does to latency; and how soon a file serves."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time

from figures import median
from load import wrk
from processes import Missing, exchange, node, tool

PLUGINS = ["backend-memory", "transport-http", "backend-sqlite", "schema-permissive"]
CONNECTIONS = 64
WRITES_IN_100 = 20
RECORDS = 1000


def run(settings, report):
    reloads = settings.reloads
    seconds = max(settings.seconds, 10)
    report.title(
        f"Reloads of {', '.join(PLUGINS)} in turn, {CONNECTIONS} connections, {WRITES_IN_100} % writes, "
        f"server on core {settings.server_core}, load on core {settings.load_core}")
    plugins = os.path.join(settings.scratch, "reload-plugins.d")
    shutil.copytree(settings.plugins, plugins)
    folder = os.path.join(settings.scratch, "reload")
    # Without probation: on a machine that is full a slot may regress through no fault of its own, and what goes back is
    # refused from then on.
    extra = (f"  disk:\n    kind: backend\n    order: 2\n    url: sqlite://{folder}/records.sqlite\n"
             "reload:\n  watch: false\n  probation_ms: 0\n  drain_soft_ms: 5000\nlimits:\n  retained_images_max: 10000\n")
    with node(settings, "reload", folder, "memory://\n    order: 1", core=settings.server_core, extra=extra,
              plugins=plugins) as server:
        server.wait("/health")
        target = Target(server, folder, plugins, settings.plugins)
        fill(server)
        latency(settings, report, server, target, seconds)
        storm(settings, report, server, target, reloads)
        idle(report, server, target, settings)
    for line in server.log_text().splitlines():
        if " warning " in line or " error " in line:
            report.note(f"the node logged: {line[:300]}")
            break


class Target:
    """The node that is reloaded, over its control socket."""

    def __init__(self, server, folder, plugins, sources):
        self.server = server
        self.socket_path = os.path.join(folder, "state", "run", "control.sock")
        self.plugins = plugins
        self.contents = {}
        for name in PLUGINS:
            with open(os.path.join(sources, f"libbackplane-{name}.so"), "rb") as file:
                self.contents[name] = file.read()
        self.count = 0

    def ask(self, request):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(120)
            connection.connect(self.socket_path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            data = b""
            while piece := connection.recv(65536):
                data += piece
        return json.loads(data)

    def drop(self, name):
        """Renames the plugin in with a build id of its own; its path."""
        self.count += 1
        path = os.path.join(self.plugins, f"libbackplane-{name}.so")
        part = os.path.join(self.plugins, f".{name}.part")
        with open(part, "wb") as file:
            file.write(self.contents[name] + f"build {self.count}".encode())
        os.chmod(part, 0o755)
        os.rename(part, path)
        return path

    def reload(self):
        name = PLUGINS[self.count % len(PLUGINS)]
        path = self.drop(name)
        answer = self.ask({"command": "reload", "now": [path]})
        receipt = answer.get("receipt", {})
        if receipt.get("outcome") != "applied":
            said = receipt.get("refusals") or answer
            raise Missing(f"the node did not take {name}: {json.dumps(said)[:1000]}")
        return receipt

    def process_id(self):
        return self.ask({"command": "status"}).get("pid", self.server.process.pid)


def fill(server):
    text = json.dumps({"n": 1, "text": "x" * 183}, separators=(",", ":"))
    for number in range(RECORDS):
        body = f'{{"tx":["mutable://open/load/record-{number}",{text}]}}'.encode()
        if not exchange(server.port, "POST", "/api/v1/receive", body).startswith(b"HTTP/1.1 200"):
            raise Missing("the node refused a record")


def open_load(settings, server, rate, seconds):
    command = [
        tool("taskset", "util-linux"), "-c", str(settings.load_core), settings.product("OpenLoop"), str(server.port),
        str(rate), str(seconds), str(CONNECTIONS), str(WRITES_IN_100), str(RECORDS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(process):
    output, _ = process.communicate()
    if process.returncode != 0:
        raise Missing(f"the load generator failed: {output[-300:]}")
    return json.loads(output)


def saturation(settings, server):
    """The highest rate that is answered as fast as it comes: half of the answers within 2 ms."""
    low, high = 500, 200_000
    while high - low > low * 0.05:
        rate = (low + high) // 2 if high < 200_000 else low * 2
        made = result(open_load(settings, server, rate, 2))
        if made["failed"] == 0 and made["p50_us"] < 2000:
            low = rate
        else:
            high = rate
    return low


def latency(settings, report, server, target, seconds):
    most = saturation(settings, server)
    rate = most * 7 // 10
    report.add("saturation, open loop", most, "/s")
    steady, reloading, failed = [], [], 0
    for _ in range(settings.runs):
        steady.append(result(open_load(settings, server, rate, seconds)))
        process = open_load(settings, server, rate, seconds)
        ends = time.monotonic() + seconds - 0.5
        while time.monotonic() < ends:
            begun = time.monotonic()
            target.reload()
            time.sleep(max(0, 1 - (time.monotonic() - begun)))
        reloading.append(result(process))
    for name, runs in (("steady", steady), ("one reload a second", reloading)):
        for key in ("p50_us", "p99_us", "p999_us", "max_us"):
            report.add(f"{name}, {key[:-3]}", median([run[key] for run in runs]), "us")
        failed += sum(run["failed"] for run in runs)
        report.measurements.append({"workload": name, "rate": rate, "runs": runs})
    report.add("failed requests", failed, "", at_most=0)
    ratio = median([run["p99_us"] for run in reloading]) / median([run["p99_us"] for run in steady])
    report.add("p99 while reloading against steady", ratio, "", at_most=2, digits=2)


def storm(settings, report, server, target, reloads):
    """As many reloads as fit, one after the other, under half of the load."""
    stop = threading.Event()
    failures, answered = [], [0]

    def load():
        while not stop.is_set():
            made = result(open_load(settings, server, 1000, 5))
            answered[0] += made["answered"]
            if made["failed"]:
                failures.append(made["failures"])

    before = resident_kib(target.process_id())
    thread = threading.Thread(target=load)
    thread.start()
    durations = []
    begun = time.monotonic()
    try:
        for _ in range(reloads):
            durations.append(target.reload()["duration_ms"])
    finally:
        stop.set()
        thread.join()
    took = time.monotonic() - begun
    report.add("storm, reloads", reloads, "")
    report.add("storm, reloads in a second", reloads / took, "/s", digits=1)
    report.add("storm, one reload, median", median(durations), "ms", digits=1)
    report.add("storm, one reload, longest", max(durations), "ms", digits=1)
    report.add("storm, requests answered", answered[0], "")
    report.add("storm, requests that failed", sum(sum(some.values()) for some in failures), "", at_most=0)
    for some in failures[:3]:
        report.note(f"failures: {some}")
    grown = resident_kib(target.process_id()) - before
    report.add("storm, memory for each image kept", grown / reloads, "KiB", digits=1)


def idle(report, server, target, settings):
    """From the end of the settle window to published, with nothing else going on."""
    for name in PLUGINS:
        times = []
        for _ in range(max(settings.runs, 5)):
            time.sleep(0.2)
            path = target.drop(name)
            begun = time.monotonic()
            target.ask({"command": "reload", "now": [path]})
            times.append((time.monotonic() - begun) * 1000)
        report.add(f"idle, from settled to published, {name}", median(times), "ms", at_most=50, digits=1)


def resident_kib(process_id):
    with open(f"/proc/{process_id}/statm", encoding="utf-8") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
