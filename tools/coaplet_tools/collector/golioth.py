"""How the collector answers as Golioth does: who asks, in which format, with which ETag; and who is told of changes.

Each payload has its ETag (etag.py), and so has the text of an error. An answer with a value is JSON, or CBOR for who
accepts that. A path means the same with an empty segment at its end, as some versions of the vendor's SDK send it.
A device is who has proven an identity, in a session: what is here is served over coaps alone, 4.01 otherwise.
"""

import inspect
import sqlite3
import weakref
from collections.abc import Callable
from typing import Any

import coaplet
from coaplet_tools.collector.etag import etag
from coaplet_tools.collector.values import CBOR, JSON, TEXT, decode, encode

FORMATS = (JSON, CBOR)

_RETRY_S = 5
_MAX_AGE_S = 3600  # Golioth says none, which is 60 s: then who observes would ask anew each minute
_OBSERVED = 16  # of a session, at a time
_LONGEST = 200  # characters of an error's text


def identity_of(request: Any) -> str:
    """Return who asks. Raises CoapError 4.01 for who did not prove it."""
    if not request.transport.secure:
        raise coaplet.CoapError(coaplet.UNAUTHORIZED, "only over coaps")
    try:
        return request.peer.identity.decode()
    except UnicodeDecodeError as error:
        raise coaplet.CoapError(coaplet.UNAUTHORIZED, "the identity is not UTF-8") from error


def segments(request: Any) -> list[str]:
    """Return the segments of a path, empty ones left out. Raises CoapError 4.00 for what is not UTF-8."""
    try:
        return [segment.decode() for segment in request.options(coaplet.URI_PATH) if segment]
    except UnicodeDecodeError as error:
        raise coaplet.CoapError(coaplet.BAD_REQUEST, "the path is not UTF-8") from error


def value_of(request: Any) -> Any:
    """Return what a request says. Raises CoapError 4.00, 4.15."""
    return decode(request.payload, request.content_format)


def map_of(request: Any) -> dict[str, Any]:
    """As value_of(), of a request that says a map. Raises CoapError 4.00, 4.15."""
    said = value_of(request)
    if not isinstance(said, dict):
        raise coaplet.CoapError(coaplet.BAD_REQUEST, "the payload is no map")
    return said


def text_of(said: dict[str, Any], key: str, longest: int) -> str | None:
    """Return a text out of a map, None where there is none. Raises CoapError 4.00."""
    value = said.get(key)
    if value is not None and not (isinstance(value, str) and len(value) <= longest):
        raise coaplet.CoapError(coaplet.BAD_REQUEST, f"{key}: must be text of at most {longest} characters")
    return value


def number_of(said: dict[str, Any], key: str, least: int, most: int) -> int:
    """Return a whole number out of a map. Raises CoapError 4.00."""
    value = said.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise coaplet.CoapError(coaplet.BAD_REQUEST, f"{key}: must be a whole number from {least} to {most}")
    return value


def accepted(request: Any) -> int:
    """Return the format that a request accepts: JSON unless it says CBOR."""
    return CBOR if request.uint(coaplet.ACCEPT, JSON, 2) == CBOR else JSON


def answer(request: Any, response: Any, value: Any) -> None:
    """Answer 2.05 with a value."""
    form = accepted(request)
    payload = encode(value, form)
    response.option(coaplet.ETAG, etag(payload))
    if request.uint(coaplet.OBSERVE, 1, 3) == 0:
        response.option(coaplet.MAX_AGE, _MAX_AGE_S)
    response.payload(payload, ct=form)


def say(response: Any, code: int, text: str) -> None:
    """Answer with a text, Content-Format 0."""
    payload = text.encode()
    response.code = code
    response.option(coaplet.ETAG, etag(payload))
    response.payload(payload, ct=TEXT)


def serve(node: Any, path: str, handler: Callable[..., Any], methods: str = "GET", **what: Any) -> None:
    """Register a handler for a path, and for that with an empty segment at its end. what: of node.resource()."""
    answering = _answering(handler)
    node.resource(path, methods=methods, **what)(answering)
    if not path.endswith("/*"):
        node.resource(path + "/", methods=methods, **what)(answering)


class Watchers:
    """Who observes something of a device, by its identity, so that a change is told to that device alone."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._sessions: dict[str, weakref.WeakSet[Any]] = {}
        self._most = 64  # with so many devices, those without a session are left out

    def note(self, identity: str, request: Any) -> None:
        """Take in a request that may be a registration."""
        if request.uint(coaplet.OBSERVE, 1, 3) == 0:
            if len(self._sessions) >= self._most:
                self._sessions = {known: alive for known, alive in self._sessions.items() if len(alive)}
                self._most = 2 * len(self._sessions) + 64
            slots = self._node.server.observers._slots
            token = bytes(request.data[4 : 4 + request.tkl])
            others = [o for o in slots if o.peer is request.peer and bytes(o.data[4 : 4 + request.tkl]) != token]
            if not request.is_notification and len(others) >= _OBSERVED:
                raise coaplet.CoapError(coaplet.TOO_MANY_REQUESTS, f"a session has at most {_OBSERVED} observations")
            self._sessions.setdefault(identity, weakref.WeakSet()).add(request.peer)

    def tell(self, identity: str, *paths: str) -> None:
        """Have paths notified to the sessions of a device; with and without an empty segment at the end."""
        for session in tuple(self._sessions.get(identity, ())):
            for path in paths if session.up else ():
                self._node.changed(path, session)
                if not path.endswith("/*"):
                    self._node.changed(path + "/", session)


def _answering(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a handler: what it raises is answered with a text that has its ETag, and a database that fails with 5.03."""
    if inspect.iscoroutinefunction(handler):

        async def later(request: Any, response: Any) -> None:
            try:
                await handler(request, response)
            except (coaplet.CoapError, sqlite3.Error) as error:
                _refuse(response, error)

        return later

    def at_once(request: Any, response: Any) -> None:
        try:
            handler(request, response)
        except (coaplet.CoapError, sqlite3.Error) as error:
            _refuse(response, error)

    return at_once


def _refuse(response: Any, error: Any) -> None:
    fails = isinstance(error, sqlite3.Error)
    code, text = (coaplet.SERVICE_UNAVAILABLE, str(error)) if fails else (error.code, error.text)
    response.clear(code)
    if code == coaplet.SERVICE_UNAVAILABLE:
        response.option(coaplet.MAX_AGE, _RETRY_S)  # RFC 7252 5.9.3.4
    if text:
        payload = text[:_LONGEST].encode()
        response.option(coaplet.ETAG, etag(payload))
        response.payload(payload)
