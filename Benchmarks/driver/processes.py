"""The servers that are measured, each a process on the server's core, and what it costs."""

import os
import shutil
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")


class Missing(Exception):
    """Something the benchmark needs is not there; the message says what to do."""


def tool(name, package):
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not path:
        raise Missing(f"{name} is not installed; install it (Debian: apt-get install {package}).")
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One process that answers HTTP on 127.0.0.1:`port`. Ends with the `with` block."""

    def __init__(self, name, port, command, folder, environment=None, core=None):
        self.name = name
        self.port = port
        if core is not None:
            command = [tool("taskset", "util-linux"), "-c", str(core)] + command
        self.log_path = os.path.join(folder, f"{name}-{port}.log")
        self.log = open(self.log_path, "w", encoding="utf-8")
        self.started_ns = time.monotonic_ns()
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, cwd=folder,
            env={**os.environ, **(environment or {})})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def log_text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait(self, path, seconds=20):
        """Asks for `path` until it is answered with 200. Answers the time since the process began, in ms."""
        while True:
            try:
                if exchange(self.port, "GET", path).startswith(b"HTTP/1.1 200"):
                    return (time.monotonic_ns() - self.started_ns) / 1e6
            except OSError:
                pass
            if self.process.poll() is not None:
                raise Missing(f"{self.name} ended at once: {self.log_text().strip()[-600:]}")
            if time.monotonic_ns() - self.started_ns > seconds * 1e9:
                raise Missing(f"{self.name} did not answer within {seconds} s: {self.log_text().strip()[-600:]}")
            time.sleep(0.0005)

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mib(self):
        """Resident memory, and the part of it that no file backs."""
        values = {}
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key in ("VmRSS", "RssAnon"):
                    values[key] = int(value.split()[0]) / 1024
        return values["VmRSS"], values["RssAnon"]


def exchange(port, method, path, body=b""):
    """One request on a connection of its own. Answers the bytes of the whole answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(head.encode() + b"\r\n" + body)
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return data
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(rest) < length:
            more = connection.recv(1 << 20)
            if not more:
                break
            rest += more
        return head + b"\r\n\r\n" + rest


def node(settings, name, folder, backend, core=None, port=None, extra=None, plugins=None):
    """A node with `backend` (a URL), one HTTP loop, in `folder`."""
    port = port or free_port()
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "backplane.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            f"directories:\n  state: {folder}/state\n  plugins: [{plugins or settings.plugins}]\n"
            f"slots:\n  http:\n    port: {port}\n    loops: 1\n"
            f"  data:\n    kind: backend\n    url: {backend}\n" + (extra or ""))
    return Server(
        name, port, [settings.product("backplane"), "serve", "--config", path], folder, environment=clean(), core=core)


def clean():
    """The environment must not change what is measured: an empty variable counts as not set."""
    names = ["PORT", "BACKEND_URL", "CORS_ORIGIN", "SCHEMA_MODULE", "STATE_DIRECTORY", "RUNTIME_DIRECTORY"]
    return {name: "" for name in names + [name for name in os.environ if name.startswith("BACKPLANE_")]}
