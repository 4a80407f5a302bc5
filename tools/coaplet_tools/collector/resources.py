"""The collector's resources, `logs` and `.s/*`, as Golioth answers them.

    POST logs     2.03, format 0, OK      a log record: JSON object, or plain text
    POST .s/PATH  2.04, format 0, OK      a reading: JSON; .s/logs takes log records as `logs` does
    4.00          the record cannot be taken, and never will be: the text names the key
    4.15          a Content-Format that is not understood
    5.03          it could not be stored now: send it again (Max-Age says when)

Each payload carries its ETag. The handlers are async: the answer waits for the commit (writer.py).
"""

import time
from dataclasses import dataclass
from typing import Any, Protocol

import coaplet
from coaplet_tools.collector.etag import etag
from coaplet_tools.collector.records import TEXT, Record, Refused, UnknownFormat, read_record
from coaplet_tools.collector.writer import Outcome, StoreError, Writer

_RETRY_S = 5


@dataclass
class Counts:
    """What came since the start. `stored` is by kind."""

    logs: int = 0
    readings: int = 0
    duplicates: int = 0
    conflicts: int = 0
    refused: int = 0
    failed: int = 0


class Display(Protocol):
    """Where the collector's events go; show.py has those for terminals and scripts."""

    def arrived(self, record: Record, outcome: Outcome) -> None:
        """A record is in the database."""

    def refused(self, remote: str, path: str, why: str) -> None:
        """A record was answered with 4.xx."""

    def shut_out(self, remote: str, identity: str, why: str, more: int) -> None:
        """A device has failed its handshake. identity: "" where it gave none; more: failures since the last call."""

    def failing(self, why: str) -> None:
        """Records cannot be stored; called once, until they can be again."""

    def recovered(self) -> None:
        """Records can be stored again."""


class Resources:
    """Registers the handlers on a node. display: told of each arrival."""

    def __init__(self, node: Any, writer: Writer, display: Display) -> None:
        self._writer = writer
        self._display = display
        self._failing = ""
        self.counts = Counts()
        node.resource("logs", methods="POST", rt="logs", title="Log records, JSON or text")(self._logs)
        node.resource(".s/*", methods="POST", rt="stream", title="Readings, JSON")(self._stream)

    async def _logs(self, request: Any, response: Any) -> None:
        await self._take(request, response, coaplet.VALID)

    async def _stream(self, request: Any, response: Any) -> None:
        await self._take(request, response, coaplet.CHANGED)

    async def _take(self, request: Any, response: Any, success: int) -> None:
        path, remote = request.path, request.remote
        try:
            record = read_record(path, request.content_format, request.payload, remote, time.time_ns() // 1_000_000)
        except Refused as error:
            self.counts.refused += 1
            self._display.refused(remote, path, str(error))
            code = coaplet.UNSUPPORTED_CONTENT_FORMAT if isinstance(error, UnknownFormat) else coaplet.BAD_REQUEST
            _answer(response, code, str(error))
            return
        try:
            outcome = await self._writer.store(record)
        except StoreError as error:
            self._failed(str(error))
            response.option(coaplet.MAX_AGE, _RETRY_S)  # RFC 7252 5.9.3.4
            _answer(response, coaplet.SERVICE_UNAVAILABLE, f"not stored: {error}")
            return
        self._stored(record, outcome)
        response.option(coaplet.CONTENT_FORMAT, TEXT)
        _answer(response, success, "OK")

    def _stored(self, record: Record, outcome: Outcome) -> None:
        counts = self.counts
        if outcome is Outcome.DUPLICATE:
            counts.duplicates += 1
        elif outcome is Outcome.CONFLICT:
            counts.conflicts += 1
        elif record.kind == "log":
            counts.logs += 1
        else:
            counts.readings += 1
        if self._failing:
            self._failing = ""
            self._display.recovered()
        self._display.arrived(record, outcome)

    def _failed(self, why: str) -> None:
        self.counts.failed += 1
        if why != self._failing:
            self._failing = why
            self._display.failing(why)


def _answer(response: Any, code: int, text: str) -> None:
    payload = text.encode()
    response.code = code
    response.option(coaplet.ETAG, etag(payload))
    response.payload(payload)
