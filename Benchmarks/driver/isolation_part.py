"""Calls to a plugin in a process of its own, beside what two processes can exchange at all."""

import json
import os
import subprocess

from processes import Missing, tool

# What is asked: bytes of the request, bytes of the reply, calls at a time for the throughput.
CALLS = {"read_200": (200, 200, 64), "apply_200": (200, 200, 64),
         "read_65536": (200, 65536, 16), "apply_65536": (65536, 200, 16)}
LABELS = {"read_200": "read, 200 B", "apply_200": "write, 200 B",
          "read_65536": "read, 64 KiB", "apply_65536": "write, 64 KiB"}


def run(settings, report):
    report.title("Isolated: a backend that does nothing, in a process of its own; limit: bare socket or ring")
    bare, plugin, far_host = build(settings)
    near = ["taskset", "-c", str(settings.server_core)]
    rounds = []
    for _ in range(settings.runs):
        # A core for each process, which is where the system puts two that are busy; and both on one, where a round trip
        # is the work alone.
        two = isolated(settings, plugin, near, far_host)
        one = isolated(settings, plugin, near, settings.product("backplane-host"))
        limits = {}
        for name, (request, reply, window) in CALLS.items():
            for way in ("socket", "ring"):
                command = [*near, bare, way, str(request), str(reply)]
                other = str(settings.load_core)
                limits[name, way, "one"] = figures([*command, "1", "0.5"])
                limits[name, way, "two"] = figures([*command, "1", "0.5", other])
                limits[name, way, "flow"] = figures([*command, str(window), "0.5", other])
        rounds.append((one, two, limits))
        report.measurements.append({"isolated": [one, two], "bare": {" ".join(k): v for k, v in limits.items()}})

    def trip(name, cores, place, goal):
        mine = median(r[cores][f"{name}_1"]["p50_ns"] for r in rounds) / 1000
        best = min(median(r[2][name, way, place]["p50_ns"] for r in rounds) for way in ("socket", "ring")) / 1000
        # Written as how often the limit fits, so that more is better, as everywhere.
        where = "two cores" if cores else "one core"
        report.add(f"{LABELS[name]}: round trip, {where}", mine, "us", best, best / mine, at_least=goal, digits=1)

    for name, (_, _, window) in CALLS.items():
        trip(name, 1, "two", round(1 / 1.3, 2))
        trip(name, 0, "one", None)
        flow = median(r[1][f"{name}_{window}"]["per_second"] for r in rounds)
        most = max(median(r[2][name, way, "flow"]["per_second"] for r in rounds) for way in ("socket", "ring"))
        report.add(f"{LABELS[name]}: {window} at a time", flow, "/s", most, flow / most, at_least=0.7)
    report.add("crash to ready again", median(r[0]["restart_ms"]["p50"] for r in rounds), "ms", at_most=13, digits=1)


def build(settings):
    source = os.path.join(settings.root, "Benchmarks", "Isolation")
    compiler = tool("cc", "gcc")
    bare = os.path.join(settings.scratch, "bare")
    subprocess.run([compiler, "-O2", "-o", bare, os.path.join(source, "bare.c")], check=True)
    plugin = os.path.join(settings.scratch, "echo.so")
    headers = os.path.join(settings.root, "Sources", "PluginAPI", "ABI", "include")
    folder = os.path.join(source, "Plugin")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-z,defs", f"-I{headers}",
                    f"-Wa,-I{folder}", "-o", plugin, os.path.join(folder, "echo.c")], check=True)
    os.chmod(plugin, 0o500)
    far_host = os.path.join(settings.scratch, "backplane-host")
    with open(far_host, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec taskset -c {settings.load_core} {settings.product("backplane-host")} "$@"\n')
    os.chmod(far_host, 0o755)
    return bare, plugin, far_host


def isolated(settings, plugin, prefix, host):
    return figures([*prefix, settings.product("IsolationBenchmark"), plugin, host, "0.5"])


def figures(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Missing(f"{' '.join(command)} failed: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout)


def median(values):
    values = sorted(values)
    return values[len(values) // 2]
