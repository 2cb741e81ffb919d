"""The JSON text engine beside the fastest parsers that Debian has in C (yajl) and in C++ (simdjson)."""

import json
import os
import random
import subprocess

from figures import median
from processes import Missing, tool

NEEDS = ("JSONBenchmark",)
SIZE_BYTES = 16 << 20


def run(settings, report):
    report.title(f"JSON text, MB/s; limit: yajl (C), which builds nothing either: medians of {settings.runs}")
    peers = build(settings)
    for label, make in CORPORA.items():
        path = os.path.join(settings.scratch, "corpus.json")
        with open(path, "w", encoding="utf-8") as file:
            random.seed(7)
            size = 0
            while size < SIZE_BYTES:
                line = make() + "\n"
                size += len(line.encode())
                file.write(line)
        ours = figures(settings, settings.product("JSONBenchmark"), path)
        bare = figures(settings, peers, path)
        report.add(f"{label}: validated", ours["scan"], "MB/s", bare["yajl"], ours["scan"] / bare["yajl"])
        report.add(f"{label}: validated, against simdjson (C++)", ours["scan"], "MB/s", bare["simdjson"],
                   ours["scan"] / bare["simdjson"])
        report.add(f"{label}: canonical text (RFC 8785)", ours["canonical"], "MB/s")
        report.add(f"{label}: text to sign", ours["signing"], "MB/s")


def build(settings):
    peers = os.path.join(settings.scratch, "json-peers")
    source = os.path.join(settings.root, "Benchmarks", "JSON", "peers.cpp")
    done = subprocess.run(
        [tool("g++", "g++"), "-O3", "-std=c++17", "-o", peers, source, "-lsimdjson", "-lyajl"], capture_output=True,
        text=True, check=False)
    if done.returncode != 0:
        raise Missing("The peers of the part json do not build; install libyajl-dev and libsimdjson-dev.\n"
                      + done.stderr.strip()[-400:])
    return peers


def figures(settings, program, path):
    done = subprocess.run(
        ["taskset", "-c", str(settings.server_core), program, str(settings.runs), path], capture_output=True,
        text=True, check=False)
    if done.returncode != 0:
        raise Missing(f"{os.path.basename(program)} failed with {done.returncode}: {done.stderr.strip()[-400:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["name"]: median(line["runs"]) for line in lines}


def envelope():
    outputs = [[f"mutable://open/{random.randrange(1 << 30)}", {"value": random.random(), "name": "some text here"}]]
    return json.dumps({"payload": {"inputs": [], "outputs": outputs}})


def document():
    rows = [{"id": n, "name": f"person {n}", "tags": ["a", "bb", "ccc"], "balance": random.uniform(-1e6, 1e6),
             "active": n % 2 == 0, "address": {"street": "Wide Street", "number": n, "note": None}}
            for n in range(5000)]
    return json.dumps(rows)


def numbers():
    return json.dumps([random.uniform(-1, 1) * 10 ** random.randrange(-9, 9) for _ in range(20000)])


def texts():
    letters = "abcdefghij klmnop\"\\\n\u00e9\u4e2d\U0001f600"
    return json.dumps(["".join(random.choices(letters, k=80)) for _ in range(2000)], ensure_ascii=False)


CORPORA = {"envelopes of 150 B": envelope, "documents of 1 MB": document, "numbers": numbers, "texts": texts}
