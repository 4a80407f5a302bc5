"""Ratios, medians and spreads of what was measured, the goals they have, and how they are shown.

A ratio is taken within each round, of two subjects measured one shortly after the other, and the median of these is
the figure: what slows the machine for some seconds slows both. Beside each ratio of requests per second is that of the
servers' CPU time a request, which other programs on the machine change little; where nothing else runs and the server
is busy all the time, the two are the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from coaplet_tools.bench.load import Load
from coaplet_tools.bench.subjects import Subject


@dataclass(frozen=True)
class Goal:
    """A bound that a figure is to keep: at least, or at most."""

    bound: float
    most: bool = False

    def reached(self, value: float) -> bool:
        return value <= self.bound if self.most else value >= self.bound

    def __str__(self) -> str:
        return f"{'at most' if self.most else 'at least'} {self.bound:g}"


# One subject over another, for each window
RATIOS = {
    "server_vs_echo": ("server", "echo"),
    "server_vs_libcoap": ("server", "libcoap"),
    "server_vs_aiocoap": ("server", "aiocoap"),
    "asyncio_vs_poll": ("asyncio", "server"),
    "cpython_vs_aiocoap": ("cpython", "aiocoap"),
}

GOALS = {
    "server_vs_echo_w8": Goal(0.65),
    "server_vs_libcoap_w8": Goal(1.4),
    "server_vs_aiocoap_w8": Goal(28),
    "asyncio_vs_poll_w8": Goal(0.90),
    "cpython_vs_aiocoap_w8": Goal(4),
    "viper_vs_bytecode": Goal(3),
    "peers_10000_vs_10": Goal(1.5, most=True),
    "peers_10000_vs_10_sent": Goal(1.5, most=True),
    "coaps_to_coap": Goal(0.35),
    "blocks_vs_libcoap": Goal(0.5),
    "notifications_vs_aiocoap": Goal(10),
    "rss_growth_bytes": Goal(0, most=True),
    "rss_growth_asyncio_bytes": Goal(0, most=True),
    "rss_growth_cpython_bytes": Goal(0, most=True),
}

COMPARED = ("libcoap_coaps_to_coap", "blocks_pair_vs_libcoap")  # ratios without a goal

Figures = dict[str, float]


def with_spread(name: str, values: Sequence[float], digits: int = 2) -> Figures:
    """Return the median of a figure, and its smallest and largest value beside it."""
    return {
        name: round(median(values), digits),
        f"{name}_min": round(min(values), digits),
        f"{name}_max": round(max(values), digits),
    }


def ratio(name: str, over: Sequence[float], under: Sequence[float], digits: int = 2) -> Figures:
    """Return the median, smallest and largest of the ratios of two figures, round by round."""
    return with_spread(name, [a / b for a, b in zip(over, under, strict=True)], digits)


def of_loads(loads: Mapping[tuple[str, int], Sequence[Load]]) -> Figures:
    """Return the figures of all subjects and windows. loads: by subject's name and window, a Load a round."""
    figures: Figures = {}
    windows = sorted({window for _, window in loads}, reverse=True)
    for name, (over, under) in RATIOS.items():
        for window in windows:
            better, worse = (loads[subject, window] for subject in (over, under))
            figures |= ratio(f"{name}_w{window}", [load.rps for load in better], [load.rps for load in worse])
            figures |= ratio(f"{name}_w{window}_cpu", [load.cpu_us for load in worse], [load.cpu_us for load in better])
    for (subject, window), rounds in loads.items():
        start = f"{subject}_w{window}"
        figures |= with_spread(f"{start}_rps", [load.rps for load in rounds], 0)
        for what in ("p50_us", "p99_us", "cpu_us", "load_cpu_us"):
            figures[f"{start}_{what}"] = round(median(getattr(load, what) for load in rounds), 1)
    return figures


def goals_table(figures: Figures) -> list[str]:
    """Write each figure that is a ratio or has a goal."""
    names = [f"{name}_w{window}" for name in RATIOS for window in (8, 1)]
    names = [name for name in dict.fromkeys((*names, *GOALS, *COMPARED)) if name in figures]
    lines = [f"{'':26}{'median':>10}  {'min to max':18}{'by CPU':>8}{'goal':>16}"]
    for name in names:
        spread = ""
        if f"{name}_min" in figures:
            spread = f"{figures[f'{name}_min']:,g} to {figures[f'{name}_max']:,g}"
        by_cpu = f"{figures[f'{name}_cpu']:,g}" if f"{name}_cpu" in figures else ""
        line = f"{name:26}{figures[name]:10,g}  {spread:18}{by_cpu:>8}"
        if goal := GOALS.get(name):
            line += f"{goal!s:>16}  {'reached' if goal.reached(figures[name]) else 'MISSED'}"
        lines.append(line.rstrip())
    return lines


def subjects_table(figures: Figures, subjects: Sequence[Subject], window: int) -> list[str]:
    """Write what was measured of each subject with one window."""
    head = f"{'requests/s':>10}  {'min to max':19}{'p50 us':>8}{'p99 us':>9}{'CPU us':>8}"
    lines = [f"{f'{window} in flight':36}{head}"]
    for subject in subjects:
        start = f"{subject.name}_w{window}"
        rps, low, high = (figures[f"{start}_rps{end}"] for end in ("", "_min", "_max"))
        p50, p99, cpu = (figures[f"{start}_{what}_us"] for what in ("p50", "p99", "cpu"))
        lines.append(f"{subject.what:36}{rps:10,.0f}  {f'{low:,.0f} to {high:,.0f}':19}{p50:8.1f}{p99:9.1f}{cpu:8.1f}")
    return lines


def coaps_table(figures: Figures, subjects: Mapping[str, Subject]) -> list[str]:
    """Write what was measured of each server over coap and coaps. subjects: by the prefix of their figures."""
    lines = [f"{'coap and coaps, 8 in flight':36}{'CPU us':>10}  {'min to max':19}{'requests/s':>10}{'waited':>8}"]
    for prefix, subject in subjects.items():
        for scheme in ("coap", "coaps"):
            start = f"{prefix}{scheme}"
            rps, waited = (figures[f"{start}_{what}"] for what in ("rps", "waited"))
            what = f"{subject.what}, {scheme}"
            lines.append(f"{what:36}{_spread(figures, f'{start}_cpu_us')}{rps:10,.0f}{waited:7.0f}%")
    return lines


def blocks_table(figures: Figures, subjects: Mapping[str, Subject]) -> list[str]:
    """Write what 1 MB in blocks took of each server, and of coaplet's client and server."""
    lines = [f"{'1 MB in blocks of 1,024 bytes':36}{'ms':>10}  {'min to max':19}{'CPU ms':>10}"]
    for prefix, subject in subjects.items():
        cpu = f"{figures[f'{prefix}blocks_cpu_ms']:10.1f}"
        lines.append(f"{subject.what:36}{_spread(figures, f'{prefix}blocks_ms')}{cpu}")
    lines.append(f"{'both ends coaplet, MicroPython':36}{_spread(figures, 'blocks_pair_ms')}".rstrip())
    return lines


def notifications_table(figures: Figures, subjects: Mapping[str, Subject]) -> list[str]:
    """Write what a notification costs each server."""
    lines = [f"{'CON notifications, 8 observers':36}{'CPU us':>10}  {'min to max':19}{'a second':>10}"]
    for prefix, subject in subjects.items():
        rps = f"{figures[f'{prefix}notifications_rps']:10,.0f}"
        lines.append(f"{subject.what:36}{_spread(figures, f'{prefix}notifications_cpu_us')}{rps}")
    return lines


def _spread(figures: Figures, name: str) -> str:
    value, low, high = (figures[f"{name}{end}"] for end in ("", "_min", "_max"))
    return f"{value:10.1f}  {f'{low:.1f} to {high:.1f}':19}"
