"""What the collector counts, and where its events go; show.py has displays for terminals and scripts."""

from dataclasses import dataclass
from typing import Protocol

from coaplet_tools.collector.records import Record
from coaplet_tools.collector.writer import Outcome


@dataclass
class Counts:
    """What came since the start. `stored` is by kind."""

    logs: int = 0
    readings: int = 0
    duplicates: int = 0
    conflicts: int = 0
    refused: int = 0
    failed: int = 0
    throttled: int = 0  # requests, answered 4.29


class Display(Protocol):
    """Told of each event, in the event loop."""

    def arrived(self, record: Record, outcome: Outcome) -> None:
        """A record is in the database."""

    def refused(self, remote: str, path: str, why: str) -> None:
        """A record, or some of a batch, was answered with 4.xx."""

    def throttled(self, remote: str, identity: str, more: int) -> None:
        """A device sends more than it may. identity: "" over coap; more: requests refused since the last call."""

    def shut_out(self, remote: str, identity: str, why: str, more: int) -> None:
        """A device has failed its handshake. identity: "" where it gave none; more: failures since the last call."""

    def failing(self, why: str) -> None:
        """Records cannot be stored; called once, until they can be again."""

    def recovered(self) -> None:
        """Records can be stored again."""
