"""What a call over the boundary costs: time, and allocations counted by an interposer."""

import json
import os
import subprocess

from processes import Missing, tool


def run(settings, report):
    report.title("Boundary: lease, submit, complete on a backend that does nothing")
    library = os.path.join(settings.scratch, "malloc_count.so")
    source = os.path.join(settings.root, "Benchmarks", "MallocCount", "malloc_count.c")
    subprocess.run([tool("cc", "gcc"), "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    program = settings.product("BoundaryBenchmark")
    # Timed without the interposer, counted with it.
    timed = figures([program], {})
    counted = figures([program, "--count"], {"LD_PRELOAD": library})
    for name, label, goal in (("boundary", "call", 100), ("node_read", "node read, normal form included", None)):
        report.add(label, timed[name]["ns"], "ns", at_most=goal, digits=1)
        count = counted[name]["allocations"]
        per_call = count / counted[name]["calls_counted"]
        report.add(f"{label}: allocations per call", per_call, "", at_most=0, digits=2)
        if count:
            report.note(f"{label}: {count} allocations in {counted[name]['calls_counted']} calls")
    off, on = timed["attribution"]["off"], timed["attribution"]["on"]
    report.add("attribution: more for each call into a plugin", on["ns"] - off["ns"], "ns", at_most=20, digits=1)
    if on["instructions"] is not None:
        report.add("attribution: instructions", on["instructions"] - off["instructions"], "", digits=1)
    else:
        report.note("attribution: by time; the system does not let us count instructions")


def figures(command, environment):
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if done.returncode != 0:
        raise Missing(f"{os.path.basename(command[0])} failed: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout)
