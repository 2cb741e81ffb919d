"""From exec to the first healthy answer, and memory at rest."""

import os
import time

from figures import median
from processes import node

STARTS = 12


def run(settings, report):
    report.title(f"Start and memory: medians of {STARTS} starts with SQLite")
    first, later = [], []
    for index in range(STARTS):
        folder = os.path.join(settings.scratch, f"start-{index}")
        first.append(start(settings, folder))
        later.append(start(settings, folder))
    report.add("first start in a fresh state directory", median(first), "ms", at_most=150, digits=1)
    report.add("later start", median(later), "ms", at_most=150, digits=1)
    for name in ("sqlite", "memory"):
        folder = os.path.join(settings.scratch, f"rest-{name}")
        url = "memory://" if name == "memory" else f"sqlite://{folder}/records.sqlite"
        with node(settings, name, folder, url) as server:
            server.wait("/health")
            time.sleep(max(0, 3 - (time.monotonic_ns() - server.started_ns) / 1e9))
            resident, anonymous = server.memory_mib()
        report.add(f"resident memory 3 s after the start, {name}", resident, "MiB", at_most=40, digits=1)
        report.add("  of it backed by no file", anonymous, "MiB", digits=1)


def start(settings, folder):
    with node(settings, "sqlite", folder, f"sqlite://{folder}/records.sqlite") as server:
        return server.wait("/health")
