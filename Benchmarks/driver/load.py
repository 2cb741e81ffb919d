"""The load generator: wrk on a core of its own."""

import json
import os
import subprocess

from processes import Missing, tool


def wrk(settings, server, path, script, connections, seconds, arguments=()):
    """One run. Answers requests per second, percentiles in us and the server's CPU time per request in us."""
    folder = os.path.join(settings.root, "Benchmarks", "wrk")
    command = [
        tool("taskset", "util-linux"), "-c", str(settings.load_core), tool("wrk", "wrk"), "-t1", f"-c{connections}",
        f"-d{seconds}s", "--latency", "-s", os.path.join(folder, script), f"http://127.0.0.1:{server.port}{path}"]
    if arguments:
        command += ["--"] + [str(argument) for argument in arguments]
    before = server.cpu_seconds()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "BENCH_WRK_FOLDER": folder})
    after = server.cpu_seconds()
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        raise Missing(f"wrk failed against {server.name}: {(done.stderr or done.stdout).strip()[-400:]}")
    result = json.loads(lines[-1])
    if result["requests"] == 0:
        raise Missing(f"{server.name} answered nothing: {server.log_text().strip()[-400:]}")
    return {
        "rate": result["requests"] / (result["duration_us"] / 1e6),
        "p50_us": result["p50_us"], "p99_us": result["p99_us"], "failed": result["failed"],
        "cpu_us": (after - before) * 1e6 / result["requests"]}
