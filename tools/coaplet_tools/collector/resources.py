"""The collector's resources for records, `logs`, `.s` and `.s/*`, as Golioth answers them.

    POST logs     2.03, format 0, OK      a log record: JSON object, CBOR map, or plain text
    POST .s/PATH  2.04, format 0, OK      a reading: JSON, CBOR or octets; .s/logs takes log records as `logs` does
    POST .s       2.04, format 0, OK      a batch of readings (batch.py)
    4.00          the record cannot be taken, and never will be: the text names the key. Of a batch, the rest is stored
    4.13          more than is taken (limits.py); Size1 says how much is
    4.15          a Content-Format that is not understood
    5.03          it could not be stored now: send it again (Max-Age says when)

Each payload carries its ETag. The handlers are async: the answer waits for the commit (writer.py).
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import coaplet
from coaplet_tools.collector.batch import Batch, TooMany, read_batch
from coaplet_tools.collector.display import Counts, Display
from coaplet_tools.collector.etag import etag
from coaplet_tools.collector.limits import BODY, MESSAGE
from coaplet_tools.collector.payloads import TEXT, Refused, UnknownFormat
from coaplet_tools.collector.records import Record, host, read_record
from coaplet_tools.collector.uploads import Overlong, Uploads
from coaplet_tools.collector.writer import Outcome, StoreError, Writer

_RETRY_S = 5
_LONGEST_ANSWER = 256  # bytes: a peer's own names may be in it


class Resources:
    """Registers the handlers on a node.

    display: told of each arrival; speaks: called with a peer and the name in its record.
    """

    def __init__(
        self, node: Any, writer: Writer, display: Display, speaks: Callable[[Any, str], None] = lambda peer, name: None
    ) -> None:
        self._writer = writer
        self._display = display
        self._speaks = speaks
        self._failing = ""
        self._uploads = Uploads()
        self.counts = Counts()
        serve = node.resource
        serve("logs", methods="POST", rt="logs", title="Log records, JSON, CBOR or text", body=True)(self._logs)
        serve(".s/*", methods="POST", rt="stream", title="Readings, JSON, CBOR or octets", body=True)(self._stream)
        serve(".s", methods="POST", rt="batch", title="Batches of readings, JSON or CBOR", body=True)(self._stream)

    async def _logs(self, request: Any, response: Any) -> None:
        payload = self._body(request, response, MESSAGE, "a log")
        if payload is not None:
            await self._take(request, response, payload, coaplet.VALID)

    async def _stream(self, request: Any, response: Any) -> None:
        payload = self._body(request, response, BODY, "a stream's body")
        if payload is None:
            return
        if request.path in (".s", ".s/"):
            await self._take_batch(request, response, payload)
        else:
            await self._take(request, response, payload, coaplet.CHANGED)

    def _body(self, request: Any, response: Any, most: int, what: str) -> bytes | None:
        """Return what was sent, once it is whole; None: it is not, or the answer is written."""
        try:
            return self._uploads.take(request, most)
        except Overlong:
            response.option(coaplet.SIZE1, most)  # RFC 7959 4
            why = f"{what} has at most {most} bytes"
            self._refuse(request, response, coaplet.REQUEST_ENTITY_TOO_LARGE, why)
            return None

    async def _take(self, request: Any, response: Any, payload: bytes, success: int) -> None:
        try:
            record = read_record(request.path, request.content_format, payload, request.remote, _now())
        except Refused as error:
            self._refuse(request, response, _code(error), str(error))
            return
        if await self._store(request, response, (record,)):
            _answer(response, success, "OK", TEXT)

    async def _take_batch(self, request: Any, response: Any, payload: bytes) -> None:
        try:
            batch = read_batch(request.content_format, payload, request.remote, _now())
        except Refused as error:
            self._refuse(request, response, _code(error), str(error))
            return
        if not batch.records or await self._store(request, response, batch.records):
            if batch.refused:
                self._refuse(request, response, coaplet.BAD_REQUEST, _why(batch), len(batch.refused))
            else:
                _answer(response, coaplet.CHANGED, "OK", TEXT)

    def _refuse(self, request: Any, response: Any, code: int, why: str, n: int = 1) -> None:
        self.counts.refused += n
        self._display.refused(request.remote, request.path, why)
        _answer(response, code, why)

    async def _store(self, request: Any, response: Any, records: Sequence[Record]) -> bool:
        """Store records. Returns whether they are; else the answer is written."""
        peer, sender = request.peer, host(request.remote)
        try:
            outcomes = await self._writer.store_all(records)
        except StoreError as error:
            self._failed(str(error), len(records))
            response.option(coaplet.MAX_AGE, _RETRY_S)  # RFC 7252 5.9.3.4
            _answer(response, coaplet.SERVICE_UNAVAILABLE, f"not stored: {error}")
            return False
        if self._failing:
            self._failing = ""
            self._display.recovered()
        if records[-1].node != sender:
            self._speaks(peer, records[-1].node)
        for record, outcome in zip(records, outcomes, strict=True):
            self._stored(record, outcome)
        return True

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
        self._display.arrived(record, outcome)

    def _failed(self, why: str, n: int) -> None:
        self.counts.failed += n
        if why != self._failing:
            self._failing = why
            self._display.failing(why)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _why(batch: Batch) -> str:
    n = len(batch.refused)
    others = ", the others are stored" if batch.records else ""
    return f"{batch.refused[0]} ({n} of {n + len(batch.records)} refused{others})"


def _code(error: Refused) -> int:
    if isinstance(error, TooMany):
        return coaplet.REQUEST_ENTITY_TOO_LARGE
    return coaplet.UNSUPPORTED_CONTENT_FORMAT if isinstance(error, UnknownFormat) else coaplet.BAD_REQUEST


def _answer(response: Any, code: int, text: str, content_format: int | None = None) -> None:
    payload = text.encode(errors="replace")[:_LONGEST_ANSWER].decode(errors="ignore").encode()
    response.code = code
    response.option(coaplet.ETAG, etag(payload))
    response.payload(payload, content_format)
