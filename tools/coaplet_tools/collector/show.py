"""What the collector shows while it runs: lines for people, JSON lines for scripts, or troubles only.

Each is a Display (display.py) with a few events of the collector's own. Showing never keeps a record from being
stored: when nobody reads the output any more, the display falls silent.
"""

import json
import os
import select
import sqlite3
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coaplet_tools.collector.display import Counts
from coaplet_tools.collector.records import Record
from coaplet_tools.collector.text import Paint, clean, clock, quantity
from coaplet_tools.collector.writer import Outcome

_LONGEST = 200  # characters of a reading on a terminal: one may have come in blocks

# What a log line shows in columns of their own or not at all; other keys follow the message.
_OWN = ("level", "module", "msg", "node", "boot", "seq", "ts", "up")


def say(line: str) -> None:
    """Print a line at once; to a reader that is gone, print nothing."""
    try:
        if select.select((), (1,), (), 0)[1]:  # else its reader is behind: to wait for it would stop the collector
            print(line, flush=True)
    except (OSError, ValueError):  # it has gone, its disk is full
        silence()


def silence() -> None:
    """Let nothing more be written to a standard output that nobody reads, also not when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def describe(row: Mapping[str, Any] | sqlite3.Row) -> tuple[str, str, str]:
    """Return a record's label (its level, or "reading"), subject and text, printable. row: a row's columns by name."""
    if row["kind"] == "reading":
        text = quantity(row["value"], row["unit"]) or as_text(row["body"])
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}\u2026 ({len(row['body'])} in all)"
        return "reading", clean(row["path"]), clean(text)
    more = ""
    if row["body"].lstrip().startswith("{"):
        extra = {key: value for key, value in json.loads(row["body"]).items() if key not in _OWN}
        more = "".join(
            f" {key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in extra.items()
        )
    return clean(row["level"] or "log"), clean(row["module"] or ""), clean((row["msg"] or "") + more)


def as_text(body: str | bytes) -> str:
    """Return a record's body as it is shown: octets in hexadecimal."""
    return body if isinstance(body, str) else body.hex()


class Lines:
    """A line for each event, in columns."""

    def __init__(self, paint: Paint) -> None:
        self.paint = paint
        self._node_width = 8
        self._subject_width = 24  # calm from the start: most names fit
        self._boots: dict[str, int] = {}

    def tell(self, text: str, colour: str = "") -> None:
        """Print what the collector has to say of itself."""
        say(self.paint(f"collector: {text}", colour))

    def started(self, uris: list[str], database: Path, devices: int | None = None) -> None:
        """devices: how many have a key; None: none needs one."""
        for uri in uris:
            self.tell(f"listening on {uri}")
        if devices == 0:
            self.tell("no device has a key yet: coaplet-collector device add NAME", "yellow")
        elif devices:
            self.tell(f"{devices} {'device has a key' if devices == 1 else 'devices have keys'}")
        if any(uri.startswith("coap:") for uri in uris):
            self.tell("coap:// is not protected: whoever reaches that port may store records", "yellow")
        self.tell(f"records go to {database}; Ctrl-C stops")

    def arrived(self, record: Record, outcome: Outcome) -> None:
        say(f"{self.paint(clock(record.received), 'dim')}  {self.line(record, outcome)}")

    def line(self, record: Record, outcome: Outcome = Outcome.NEW) -> str:
        """Lay out a record in columns that widen as needed, and never narrow again."""
        label, subject, text = describe(asdict(record))
        node = clean(record.node)
        self._node_width = min(max(self._node_width, len(node)), 24)
        self._subject_width = min(max(self._subject_width, len(subject)), 28)
        if outcome is not Outcome.NEW:
            text += self.paint(f"  ({outcome.value})", "yellow")
        elif record.boot is not None and self._boots.get(node) != record.boot:
            if len(self._boots) >= 10_000:
                self._boots.clear()  # a peer names as many nodes as it likes
            self._boots[node] = record.boot
            text += self.paint(f"  (boot {record.boot})", "dim")
        columns = (
            self.paint(node.ljust(self._node_width), "bold"),
            self.paint(label.ljust(7), label),
            subject.ljust(self._subject_width),
            text,
        )
        return "  ".join(columns)

    def refused(self, remote: str, path: str, why: str) -> None:
        self.tell(f"refused a record from {remote} for /{clean(path)}: {clean(why)}", "yellow")

    def throttled(self, remote: str, identity: str, more: int) -> None:
        who = f'device "{clean(identity)}" at {remote}' if identity else f"a device at {remote}"
        others = f" ({more} more since the last such line)" if more else ""
        self.tell(f"{who} sends too much: a request was put off{others}", "yellow")

    def shut_out(self, remote: str, identity: str, why: str, more: int) -> None:
        who = f'device "{clean(identity)}" at {remote}' if identity else f"a device at {remote}"
        others = f" ({more} more since the last such line)" if more else ""
        self.tell(f"{who} failed its handshake: {clean(why)}{others}", "yellow")

    def failing(self, why: str) -> None:
        self.tell(f"CANNOT STORE: {why}; nodes are told to send again later", "red")

    def recovered(self) -> None:
        self.tell("records are stored again", "green")

    def stopped(self, counts: Counts) -> None:
        self.tell("stopped; " + summary(counts))


class Quiet(Lines):
    """Troubles only."""

    def started(self, uris: list[str], database: Path, devices: int | None = None) -> None:
        pass

    def arrived(self, record: Record, outcome: Outcome) -> None:
        pass

    def stopped(self, counts: Counts) -> None:
        pass


class JsonLines:
    """A JSON object a line, each with the key `event`."""

    def started(self, uris: list[str], database: Path, devices: int | None = None) -> None:
        self._say("started", listen=uris, db=str(database), **({} if devices is None else {"devices": devices}))

    def arrived(self, record: Record, outcome: Outcome) -> None:
        self._say("record", outcome=outcome.value, **as_json(asdict(record)))

    def refused(self, remote: str, path: str, why: str) -> None:
        self._say("refused", remote=remote, path=path, why=why)

    def throttled(self, remote: str, identity: str, more: int) -> None:
        self._say("throttled", remote=remote, identity=identity, more=more)

    def shut_out(self, remote: str, identity: str, why: str, more: int) -> None:
        self._say("shut_out", remote=remote, identity=identity, why=why, more=more)

    def failing(self, why: str) -> None:
        self._say("failing", why=why)

    def recovered(self) -> None:
        self._say("recovered")

    def stopped(self, counts: Counts) -> None:
        self._say("stopped", **asdict(counts))

    def _say(self, event: str, **keys: Any) -> None:
        say(json.dumps({"event": event, **keys}))


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """Return a record's columns for JSON: its body as the value it is, octets as a text in hexadecimal."""
    body = row["body"]
    return {**row, "body": json.loads(body) if isinstance(body, str) else as_text(body)}


def summary(counts: Counts) -> str:
    """Write the counts that are not 0 after those that always matter."""
    parts = [f"{counts.readings} readings and {counts.logs} logs stored"]
    named = (("duplicates", "duplicates"), ("conflicts", "conflicts"), ("refused", "refused"), ("failed", "not stored"))
    named += (("throttled", "requests put off"),)
    parts += [f"{count} {text}" for name, text in named if (count := getattr(counts, name))]
    return ", ".join(parts)


def complain(command: str, text: object) -> None:
    """Print the one line of an error to stderr."""
    print(f"{command}: {text}", file=sys.stderr)
