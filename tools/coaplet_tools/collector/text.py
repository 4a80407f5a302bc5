"""Text for terminals: colours where they are wanted, values as people write them, tables, and nothing a peer made up.

What comes from a peer passes through `clean` on its way to a terminal: a log message must not move the cursor.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

_COLOURS = {"error": "31", "warn": "33", "info": "32", "debug": "2", "reading": "36", "log": "32"}
_COLOURS |= {"red": "31", "yellow": "33", "green": "32", "cyan": "36", "blue": "34", "magenta": "35"}
_COLOURS |= {"dim": "2", "bold": "1"}


def colours_wanted() -> bool:
    """Tell whether standard output is a terminal that shows colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Paint:
    """Colours a text by a name (a level, a kind or a colour), or leaves it as it is."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted

    def __call__(self, text: str, name: str) -> str:
        code = _COLOURS.get(name)
        return f"\x1b[{code}m{text}\x1b[0m" if self.wanted and code else text


def clean(text: str) -> str:
    """Replace what is not printable: line ends, escape sequences, characters that reverse the writing direction."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def clock(ms: int) -> str:
    """Write ms since 1970 as local time of day, "12:00:01"."""
    return datetime.fromtimestamp(ms / 1000).strftime("%H:%M:%S")


def moment(ms: int) -> str:
    """Write ms since 1970 as local date and time, "2025-01-31 12:00:01"."""
    return datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M:%S")


def ago(seconds: float) -> str:
    """Write a time span in its largest unit, "5 s", "3 min", "2 h", "4 d"."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def quantity(value: float | str | None, unit: str | None) -> str:
    """Write a value with its unit, "21.5 Cel"; the unit 1 of RFC 8428 is none."""
    if value is None:
        return ""
    return f"{value} {clean(unit)}" if unit and unit != "1" else str(value)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Iterable[int] = (),
    at_least: Sequence[int] = (),
    paint: Paint,
) -> tuple[list[str], list[int]]:
    """Lay out rows in aligned columns. Returns the lines, the head's first, and the widths.

    right: the columns that are aligned to the right; at_least: the widths of rows before these.
    """
    widths = [max([len(name), *at_least[i : i + 1], *(len(row[i]) for row in rows)]) for i, name in enumerate(head)]
    align = [str.rjust if i in set(right) else str.ljust for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(align[i](cell, widths[i]) for i, cell in enumerate(cells)).rstrip()

    return [paint(line(head), "bold"), *(line(row) for row in rows)], widths
