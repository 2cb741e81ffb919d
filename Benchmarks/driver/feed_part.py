"""What the feed of accepted messages costs a write, and how many items it hands over."""

from boundary_part import figures

NEEDS = ("FeedBenchmark",)


def run(settings, report):
    report.title("Feed: writes to a backend that does nothing, and 10,000 subscriptions")
    found = figures([settings.product("FeedBenchmark")], {})
    write = found["write"]
    for name, label in (("idle", "nobody subscribes"), ("kept", "kept for a subscriber elsewhere"),
                        ("followed", "handed to one subscriber")):
        report.add(f"write, {label}", write[name]["ns"], "ns", digits=0)
        if write[name]["instructions"] is not None:
            report.add(f"write, {label}: instructions", write[name]["instructions"], "", digits=0)
    for name, label in (("everything", "10,000 subscriptions to everything"),
                        ("distinct", "10,000 subscriptions to a record each")):
        report.add(f"{label}: items", found["fan_out"][name]["items_per_second"], "/s", digits=0)
        report.add(f"{label}: messages", found["fan_out"][name]["messages_per_second"], "/s", digits=0)
