"""Measures, writes build/bench.json and prints tables. A goal that is missed fails nothing: this is a benchmark.

Exit status 1: something could not be measured, a line says what; 2: wrong usage; 130: interrupted.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

from coaplet_tools.bench import load, probes, report
from coaplet_tools.bench.processes import Broken, cpus, interruption
from coaplet_tools.bench.subjects import BLOCKS, OBSERVED, RESIDENT, SECURE, SUBJECTS, Subject, serving
from coaplet_tools.setup.places import BUILD, Unavailable

WINDOWS = (8, 1)
_WARM_UP_S = 0.2
_FIRST, _REST = 10_000, 40_000  # requests
_GROWTH_S = 60
_MANY = 10_000  # peers
_BUSY = 0.7  # load average


def measure(rounds: int, seconds: float) -> report.Figures:
    """Measure everything. Raises Broken and Unavailable."""
    generator = load.build()
    loads: dict[tuple[str, int], list[load.Load]] = {(s.name, w): [] for s in SUBJECTS for w in WINDOWS}
    for turn in range(1, rounds + 1):
        say(f"round {turn} of {rounds}")
        for subject in SUBJECTS:
            with serving(subject) as server:
                load.ask(generator, server, max(WINDOWS), _WARM_UP_S)
                for window in WINDOWS:
                    loads[subject.name, window].append(load.ask(generator, server, window, seconds))
    figures = report.of_loads(loads)
    say("resident memory")
    for name, subject in RESIDENT.items():
        figures[name] = growth(generator, subject)
    say("the codec")
    figures |= probes.codec()
    say(f"{_MANY:,} peers")
    figures |= probes.peers(rounds, _MANY)
    say("coaps")
    figures |= probes.coaps(rounds)
    say("1 MB in blocks")
    figures |= probes.blocks(rounds)
    say("notifications")
    return figures | probes.notifications(rounds)


def growth(generator: Path, subject: Subject) -> int:
    """Return by how many bytes a server's resident memory grows from 10,000 to 50,000 requests."""
    with serving(subject) as server:
        first, last = (load.ask(generator, server, max(WINDOWS), _GROWTH_S, n) for n in (_FIRST, _REST))
    return last.rss_bytes - first.rss_bytes


def say(text: str) -> None:
    print(f"bench: {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser("bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each subject is measured; at least 5")
    parser.add_argument("--seconds", type=float, default=0.7, help="how long each time, for each window")
    arguments = parser.parse_args()
    if arguments.rounds < 5 or arguments.seconds <= 0:
        parser.error("--rounds is at least 5, --seconds more than 0")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interruption)
    start = time.monotonic()
    try:
        if sys.platform != "linux":
            raise Broken("it needs Linux, whose /proc tells a server's CPU time and memory")
        if not cpus():
            say("this machine has one CPU: server and load generator take it from each other")
        busy = os.getloadavg()[0]
        figures = measure(arguments.rounds, arguments.seconds)
    except (Broken, Unavailable) as reason:
        say(f"FAILED: {reason}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    figures["load_average"] = round(busy, 2)
    (BUILD / "bench.json").write_text(json.dumps(figures, indent=1) + "\n")
    for lines in (
        report.goals_table(figures),
        *(report.subjects_table(figures, SUBJECTS, window) for window in WINDOWS),
        report.coaps_table(figures, SECURE),
        report.blocks_table(figures, BLOCKS),
        report.notifications_table(figures, OBSERVED),
    ):
        print("", *lines, sep="\n")
    print()
    if busy > _BUSY:
        say(f"other programs were at work when it began, load average {busy:.1f}: go by CPU time, or do it again later")
    took = time.monotonic() - start
    say(f"{arguments.rounds} rounds of {arguments.seconds} s; written to build/bench.json after {took:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
