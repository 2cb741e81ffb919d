"""PostgreSQL through the plugin's table against libpq's own pipeline with the same statements."""

import json
import subprocess

from figures import median
from processes import Missing

GOAL = 0.8


def run(settings, report):
    report.title(
        f"PostgreSQL, 200-byte records, fsync on, against bare libpq at 100 statements a sync: medians of {settings.runs}")
    done = subprocess.run(
        [settings.product("PostgreSQLBenchmark"), str(settings.runs)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Missing(f"PostgreSQLBenchmark failed: {done.stderr.strip()[-400:]}")
    for line in done.stdout.splitlines():
        figure = json.loads(line)
        ours, raw = median(figure["ours"]), median(figure["raw"])
        # One at a time is a thread's wake-up more, and by array is not how the bare one is asked to read.
        goal = None if "one at a time" in figure["name"] or "array" in figure["name"] else GOAL
        report.add(figure["name"], ours, "/s", raw, ours / raw, at_least=goal)
