"""One stream of lines from four sources: run itself, the node, the collector, the client that reads back."""

import statistics
import time
from collections.abc import Sequence

from coaplet_tools.collector.records import Record
from coaplet_tools.collector.show import Lines, say
from coaplet_tools.collector.text import Paint, clean, clock
from coaplet_tools.collector.writer import Outcome

_COLOURS = {"run": "magenta", "node": "blue", "collector": "green", "client": "cyan"}
_SOURCE_WIDTH = 9


class Screen:
    """Prints lines in columns: time, source, text; in colours if `paint` does."""

    def __init__(self, paint: Paint) -> None:
        self.paint = paint

    def line(self, source: str, text: str, colour: str = "", *, safe: bool = False) -> None:
        """Print a line. safe: the text is printable already, and may be coloured."""
        if not safe:
            text = clean(text)
        when = self.paint(clock(time.time_ns() // 1_000_000), "dim")
        say(f"{when}  {self.paint(source.ljust(_SOURCE_WIDTH), _COLOURS[source])}  {self.paint(text, colour)}")

    def node(self, text: str) -> None:
        """Print a line that the node wrote."""
        self.line("node", text.removeprefix("node: "))


class Arrivals(Lines):
    """The collector's display in that stream."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(screen.paint)
        self._screen = screen

    def tell(self, text: str, colour: str = "") -> None:
        self._screen.line("collector", text, colour)

    def arrived(self, record: Record, outcome: Outcome) -> None:
        self._screen.line("collector", self.line(record, outcome), safe=True)


def block(title: str, rows: Sequence[tuple[str, str]], paint: Paint) -> None:
    """Print a title and rows of a name and a value."""
    width = max(len(name) for name, _ in rows)
    say("")
    say(paint(title, "bold"))
    for name, value in rows:
        say(f"  {name.ljust(width)}  {value}")


def spread(values: Sequence[float]) -> str:
    """Write the least, the middle and the greatest of some milliseconds."""
    if not values:
        return "none measured"
    return f"min {min(values):.1f} / median {statistics.median(values):.1f} / max {max(values):.1f} ms"
