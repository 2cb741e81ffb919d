"""Figures, their limits and goals; the table and the JSON file."""

import json
import os
import platform
import statistics


class Report:
    def __init__(self, settings):
        self.figures = []
        self.notes = []
        self.measurements = []
        self.settings = settings

    @property
    def missed(self):
        return [figure for figure in self.figures if figure["met"] is False]

    def title(self, text):
        print(f"\n{text}")
        print(f"  {'figure':44} {'value':>16} {'limit':>16} {'ratio':>6}  goal")

    def note(self, text):
        self.notes.append(text)
        print(f"  note: {text}", flush=True)

    def add(self, name, value, unit, limit=None, ratio=None, at_least=None, at_most=None, digits=0):
        """One line. `at_least` is a goal for the ratio to the limit, `at_most` one for the value itself."""
        met = None
        goal = ""
        if at_least is not None:
            met, goal = ratio >= at_least, f">= {at_least}"
        if at_most is not None:
            met, goal = value <= at_most, f"<= {at_most} {unit}"
        verdict = {True: "met", False: "NOT MET", None: ""}[met]
        shown = f"{value:,.{digits}f} {unit}"
        limit_shown = "" if limit is None else f"{limit:,.{digits}f} {unit}"
        ratio_shown = "" if ratio is None else f"{ratio:.2f}"
        print(f"  {name:44} {shown:>16} {limit_shown:>16} {ratio_shown:>6}  {goal} {verdict}".rstrip(), flush=True)
        self.figures.append(
            {"name": name, "value": value, "unit": unit, "limit": limit, "ratio": ratio, "goal": goal, "met": met})

    def print_verdict(self):
        judged = [figure for figure in self.figures if figure["met"] is not None]
        print(f"\n{len(judged) - len(self.missed)} of {len(judged)} goals met")
        for figure in self.missed:
            print(f"  not met: {figure['name']} ({figure['goal']})")

    def write(self, path):
        machine = {"system": platform.platform(), "cores": os.cpu_count(), "processor": processor()}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(
                {"machine": machine, "runs": self.settings.runs, "seconds": self.settings.seconds,
                 "figures": self.figures, "measurements": self.measurements, "notes": self.notes}, file, indent=2)
            file.write("\n")


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else "unknown"


def median(values):
    return statistics.median(values)
