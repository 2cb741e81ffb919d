"""How fast a backend that was away gets what it missed."""

import json
import os
import sqlite3
import time

from figures import median
from http_part import RECORD
from processes import Missing, exchange, node

NEEDS = ("backplane",)

RECORDS = 100_000
# Records of one message while the backend is away.
FILL = 500
# repair.batch_units_max; the bare limit commits as many records at a time.
BATCH = 512
BARE = """
    CREATE TABLE records (uri TEXT NOT NULL PRIMARY KEY, content INTEGER NOT NULL, ts_ms INTEGER NOT NULL,
    version INTEGER NOT NULL, size_bytes INTEGER NOT NULL, data ANY NOT NULL) STRICT, WITHOUT ROWID"""


def run(settings, report):
    report.title(
        f"Repair: {RECORDS:,} records of 200 bytes that SQLite missed, against raw sqlite3 with {BATCH} a commit: "
        f"medians of {settings.runs}")
    ours, raw = [], []
    for number in range(settings.runs):
        folder = os.path.join(settings.scratch, f"repair-{number}")
        ours.append(repaired(settings, folder))
        raw.append(bare(os.path.join(folder, "bare.sqlite")))
    report.add("repair journal, replayed into SQLite", median(ours), "/s", median(raw), median(ours) / median(raw))


def repaired(settings, folder):
    """Records a second. SQLite is away because somebody else has its file locked."""
    file = f"{folder}/records.sqlite"
    extra = f"  beside:\n    kind: backend\n    url: sqlite://{file}\nnode:\n  backends: [data, beside]\n"
    with node(settings, "repair", folder, "memory://", extra=extra) as server:
        server.wait("/health")
        lock = sqlite3.connect(file, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        value = json.loads(RECORD)
        for first in range(0, RECORDS, FILL):
            outputs = [[f"mutable://open/missed/{index:07}", value] for index in range(first, first + FILL)]
            body = json.dumps(
                {"tx": [f"mutable://open/filled/{first:07}", {"payload": {"inputs": [], "outputs": outputs}}]})
            answer = exchange(server.port, "POST", "/api/v1/receive", body.encode())
            if not answer.startswith(b"HTTP/1.1 200"):
                raise Missing(f"the node refused {FILL} records: {answer[:300]!r}")
        missed = metric(server, "backplane_repair_journal_units")
        if missed < RECORDS / FILL:
            raise Missing(f"only {missed} of {RECORDS // FILL} messages were missed")
        lock.execute("ROLLBACK")
        lock.close()
        began = time.monotonic()
        # The first attempt comes at most a second later; what counts is from the first replayed record on.
        while metric(server, "backplane_repair_journal_units") == missed:
            began = time.monotonic()
            time.sleep(0.001)
        while metric(server, "backplane_slot_behind"):
            if time.monotonic() - began > 120:
                raise Missing("the backend is not repaired after two minutes")
            time.sleep(0.002)
        return RECORDS / (time.monotonic() - began)


def metric(server, name):
    text = exchange(server.port, "GET", "/metrics").decode()
    for line in text.splitlines():
        if line.startswith(name + "{") and 'slot="beside"' in line:
            return float(line.rsplit(" ", 1)[1])
    raise Missing(f"the node has no metric {name}")


def bare(file):
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(BARE)
    began = time.monotonic()
    for first in range(0, RECORDS, BATCH):
        database.execute("BEGIN IMMEDIATE")
        database.executemany(
            "INSERT INTO records VALUES (?, 0, 1, 1, 200, ?)",
            ((f"mutable://open/missed/{index:07}", RECORD) for index in range(first, min(first + BATCH, RECORDS))))
        database.execute("COMMIT")
    elapsed = time.monotonic() - began
    database.close()
    return RECORDS / elapsed
