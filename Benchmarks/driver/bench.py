"""The parts of scripts/bench, in order."""

import argparse
import glob
import os
import shutil
import subprocess
import sys
import tempfile

import boundary_part
import durable_part
import feed_part
import http_part
import isolation_part
import json_part
import lists_part
import managed_part
import peers_part
import postgresql_part
import reload_part
import repair_part
import signed_part
import start_part
import websocket_part
from figures import Report
from processes import Missing

PARTS = {"http": http_part, "boundary": boundary_part, "durable": durable_part, "start": start_part,
         "reload": reload_part, "isolation": isolation_part, "lists": lists_part, "postgresql": postgresql_part,
         "repair": repair_part, "signed": signed_part, "json": json_part, "feed": feed_part,
         "websocket": websocket_part, "managed": managed_part, "peers": peers_part}
# What a part needs that does not say so itself.
PRODUCTS = ("backplane", "BareServer", "BoundaryBenchmark", "BackendBenchmark", "PostgreSQLBenchmark", "OpenLoop",
            "IsolationBenchmark", "FeedBenchmark", "backplane-host")


class Settings:
    """Where things are and how long to measure."""

    def __init__(self, root, scratch):
        self.root = root
        self.scratch = scratch
        self.runs = number("BENCH_RUNS", 5, 1, 99)
        self.seconds = number("BENCH_SECONDS", 3, 1, 600)
        self.reloads = number("BENCH_RELOADS", 10_000, 1, 1_000_000)
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise Missing("The server and the load generator need a core each; this process may use one.")
        self.server_core, self.load_core = cores[0], cores[1]
        self.products = os.path.join(root, ".build", "release")
        self.plugins = os.path.join(scratch, "plugins.d")

    def product(self, name):
        return os.path.join(self.products, name)


def number(name, default, lowest, highest):
    text = os.environ.get(name, "") or str(default)
    if not text.isdigit() or not lowest <= int(text) <= highest:
        raise Missing(f"{name} is '{text}'; set it to a whole number from {lowest} to {highest}.")
    return int(text)


def prepare(settings, parts):
    """Builds what is not built. The plugins measured are the release build's, whatever lies in plugins.d."""
    needed = {product for part in parts for product in getattr(PARTS[part], "NEEDS", PRODUCTS)}
    if any(not os.path.exists(settings.product(name)) for name in needed):
        subprocess.run([os.path.join(settings.root, "scripts", "build")], check=True, stdout=sys.stderr)
    os.makedirs(settings.plugins)
    for library in glob.glob(os.path.join(settings.products, "libbackplane-*.so")):
        shutil.copy(library, settings.plugins)


def main(root, arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures the node against its limits.")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--only", metavar="PART,...", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    options = parser.parse_args(arguments)
    parts = options.only.split(",")
    for part in parts:
        if part not in PARTS:
            parser.error(f"there is no part '{part}'; choose from {', '.join(PARTS)}")
    scratch = tempfile.mkdtemp(prefix="backplane-bench-")
    try:
        settings = Settings(root, scratch)
        prepare(settings, parts)
        report = Report(settings)
        for part in parts:
            PARTS[part].run(settings, report)
    except Missing as problem:
        print(f"scripts/bench: {problem}", file=sys.stderr)
        return 69
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    report.print_verdict()
    if options.json:
        report.write(options.json)
    return 1 if report.missed else 0
