"""SQLite's durable writes through the plugin's table against sqlite3's own functions."""

import json
import subprocess

from figures import median
from processes import Missing

GOAL = 0.8


def run(settings, report):
    report.title(
        f"SQLite, durable writes (new and changed records, 200 bytes) against raw sqlite3: medians of {settings.runs}")
    done = subprocess.run(
        [settings.product("BackendBenchmark"), "durable", str(settings.runs)], capture_output=True, text=True,
        check=False)
    if done.returncode != 0:
        raise Missing(f"BackendBenchmark failed: {done.stderr.strip()[-400:]}")
    for line in done.stdout.splitlines():
        figure = json.loads(line)
        ours, raw = median(figure["ours"]), median(figure["raw"])
        report.add(figure["name"], ours, "/s", raw, ours / raw, at_least=GOAL)
