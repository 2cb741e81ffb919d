"""A hundred managed nodes and the one config server that they ask: what they cost it, and themselves."""

import contextlib
import json
import os
import subprocess
import time

from processes import Missing, Server, clean, exchange, free_port, node

NEEDS = ("backplane",)
NODES = 100
POLL_MS = 1_000
HEARTBEAT_MS = 2_000
PLUGINS = ("backend-memory", "schema-permissive", "transport-http", "service-managed")


def run(settings, report):
    report.title(
        f"{NODES} managed nodes against one config server (memory): polls every {POLL_MS} ms, heartbeats every "
        f"{HEARTBEAT_MS} ms, {2 * settings.seconds} s, all processes on both cores")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(node(settings, "config", os.path.join(settings.scratch, "config"), "memory://"))
        server.wait("/health")
        idle_mib = server.memory_mib()[0]
        operator = Key(settings, "operator")
        nodes = [stack.enter_context(managed(settings, server, operator, number)) for number in range(NODES)]
        configured(nodes)
        reads = received(server)
        cpu, own = server.cpu_seconds(), sum(each.cpu_seconds() for each in nodes)
        began = time.monotonic()
        time.sleep(2 * settings.seconds)
        seconds = time.monotonic() - began
        cpu, own = server.cpu_seconds() - cpu, sum(each.cpu_seconds() for each in nodes) - own
        requests = received(server) - reads
        report.add("config server: requests", requests / seconds, "/s")
        report.add("config server: processor", 100 * cpu / seconds, "% of a core", digits=1)
        report.add("config server: processor a request", 1e6 * cpu / max(requests, 1), "us")
        # A node asks for configuration and update each 30 s and writes status each minute, metrics twice.
        report.add(
            f"config server: processor at the usual intervals, {NODES} nodes",
            100 * cpu / max(requests, 1) * NODES * (2 / 30 + 1 / 60 + 1 / 30), "% of a core", digits=2)
        report.add("config server: memory", server.memory_mib()[0], "MiB", digits=1)
        report.add("config server: memory for a node", (server.memory_mib()[0] - idle_mib) * 1024 / NODES, "KiB")
        report.add("managed node: processor", 100 * own / seconds / NODES, "% of a core", digits=2)
        report.add("managed node: memory", sum(each.memory_mib()[1] for each in nodes) / NODES, "MiB", digits=1)


class Key:
    """A new Ed25519 key, in a file."""

    def __init__(self, settings, name):
        self.path = os.path.join(settings.scratch, f"{name}.pem")
        self.tool = settings.product("backplane")
        self.call("keys", "generate", "--output", self.path)
        self.public = self.call("keys", "convert", self.path, "--to", "public-hex").strip()

    def call(self, *arguments, text=None):
        return subprocess.run(
            [self.tool, *arguments], input=text, check=True, capture_output=True, text=True,
            env={**os.environ, **clean()}).stdout

    def sign(self, document):
        return self.call("sign", "--key", self.path, text=json.dumps(document))


def managed(settings, server, operator, number):
    """Publishes a configuration and starts its node."""
    name = f"managed-{number}"
    key = Key(settings, name)
    port = free_port()
    message = operator.sign({
        "configVersion": 1, "nodeId": key.public, "name": name, "server": {"port": port, "corsOrigin": "*"},
        "backends": [{"type": "memory", "url": "memory://"}],
        "monitoring": {"heartbeatIntervalMs": HEARTBEAT_MS, "configPollIntervalMs": POLL_MS, "metricsEnabled": True}})
    uri = f"mutable://accounts/{operator.public}/nodes/{key.public}/config"
    answer = exchange(server.port, "POST", "/api/v1/receive", f'{{"tx":["{uri}",{message}]}}'.encode())
    if not answer.startswith(b"HTTP/1.1 200"):
        raise Missing(f"the config server refuses a configuration: {answer[-300:]!r}")
    folder = os.path.join(settings.scratch, name)
    os.makedirs(os.path.join(folder, "plugins.d"))
    for plugin in PLUGINS:
        file = f"libbackplane-{plugin}.so"
        os.symlink(os.path.join(settings.plugins, file), os.path.join(folder, "plugins.d", file))
    with open(key.path, encoding="utf-8") as file:
        pem = file.read().split("PUBLIC_KEY_HEX")[0]
    environment = {
        **clean(), "PORT": str(port), "BACKEND_URL": "memory://", "CONFIG_URL": f"http://127.0.0.1:{server.port}",
        "OPERATOR_KEY": operator.public, "NODE_ID": key.public, "NODE_PRIVATE_KEY_PEM": pem}
    process = Server(name, port, [settings.product("backplane"), "serve"], folder, environment=environment)
    process.wait("/health", seconds=120)
    return process


def configured(nodes):
    """Waits until every node runs on its configuration."""
    deadline = time.monotonic() + 120
    waiting = list(nodes)
    while waiting:
        waiting = [each for each in waiting if "hot-swapped from config" not in each.log_text()]
        if waiting and time.monotonic() > deadline:
            raise Missing(f"{len(waiting)} nodes have no configuration: {waiting[0].log_text()[-600:]}")
        time.sleep(0.1)


def received(server):
    """Requests that the server has answered."""
    text = exchange(server.port, "GET", "/metrics").decode(errors="replace")
    total = 0.0
    for line in text.splitlines():
        if line.startswith("backplane_plugin_http_requests_total"):
            total += float(line.rsplit(" ", 1)[1])
    return total
