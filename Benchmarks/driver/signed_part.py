"""Signed receives through the B3nd schema against libsodium alone, and open receives against the permissive schema."""

import contextlib
import json
import os
import subprocess

from figures import median
from load import wrk
from processes import Missing, node, tool

NEEDS = ("backplane", "SignatureBenchmark")

B3ND = "  schema:\n    kind: schema\n    plugin: org.backplane.b3nd\n"
CONNECTIONS = 64
MESSAGES = 10_000
PATH = "/api/v1/receive"


def run(settings, report):
    report.title(
        f"Signatures, one HTTP loop, memory backend, {CONNECTIONS} connections: medians of {settings.runs} interleaved "
        f"runs of {settings.seconds} s, server on core {settings.server_core}, wrk on core {settings.load_core}")
    program = settings.product("SignatureBenchmark")
    bodies = os.path.join(settings.scratch, "signed-bodies")
    subprocess.run([program, "sign", str(MESSAGES), bodies], check=True)
    results = {}
    first_record = 0
    with contextlib.ExitStack() as stack:
        nodes = {}
        for name, extra in (("b3nd", B3ND), ("permissive", "")):
            folder = os.path.join(settings.scratch, f"signed-{name}")
            nodes[name] = stack.enter_context(
                node(settings, name, folder, "memory://", core=settings.server_core, extra=extra))
            nodes[name].wait("/health")
        for _ in range(settings.runs):
            results.setdefault("verify", []).append(verify(settings, program))
            results.setdefault("signed", []).append(
                wrk(settings, nodes["b3nd"], PATH, "bodies.lua", CONNECTIONS, settings.seconds, (PATH, bodies)))
            # The same bodies where nobody verifies them: what the rest costs.
            results.setdefault("unverified", []).append(
                wrk(settings, nodes["permissive"], PATH, "bodies.lua", CONNECTIONS, settings.seconds, (PATH, bodies)))
            for name, server in nodes.items():
                results.setdefault(f"open {name}", []).append(
                    wrk(settings, server, PATH, "receive.lua", CONNECTIONS, settings.seconds, (first_record,)))
                first_record += 1_000_003
    failed = sum(result["failed"] for runs in results.values() for result in runs if "failed" in result)
    if failed:
        raise Missing(f"{failed} requests failed: the figures mean nothing")

    def figure(name, key):
        return median([result[key] for result in results[name]])

    verify_us = figure("verify", "cpu_us")
    signed_us = figure("signed", "cpu_us")
    report.add("signed receive, processor time", signed_us, "us", verify_us, verify_us / signed_us, at_least=0.7,
               digits=1)
    report.add("signed receive", figure("signed", "rate"), "/s", figure("verify", "rate"),
               figure("signed", "rate") / figure("verify", "rate"))
    report.add("the same unverified, processor time", figure("unverified", "cpu_us"), "us", digits=1)
    b3nd_us, permissive_us = figure("open b3nd", "cpu_us"), figure("open permissive", "cpu_us")
    report.add("open receive, b3nd, processor time", b3nd_us, "us", permissive_us, permissive_us / b3nd_us, digits=1)
    report.add("open receive, b3nd", figure("open b3nd", "rate"), "/s", figure("open permissive", "rate"),
               figure("open b3nd", "rate") / figure("open permissive", "rate"))
    report.measurements.append({"part": "signed", "runs": results})


def verify(settings, program):
    """libsodium alone, on the server's core."""
    done = subprocess.run(
        [tool("taskset", "util-linux"), "-c", str(settings.server_core), program, "verify", str(settings.seconds)],
        capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
