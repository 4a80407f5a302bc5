"""One record: what a node sent, checked, as it will lie in the database.

What a peer sends is checked here and trusted afterwards. A record needs no key at all, since any CoAP client may
post; but a key that the database has a column for must have its type, or the record is refused, naming the key.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from coaplet_tools.collector.limits import NAME
from coaplet_tools.collector.payloads import (
    CBOR,
    JSON,
    OCTETS,
    TEXT,
    Refused,
    UnknownFormat,
    from_cbor,
    from_json,
    to_json,
    to_text,
)

Kind = Literal["log", "reading"]
LEVELS = ("debug", "info", "warn", "error")

_MAX_INTEGER = 2**63 - 1  # of SQLite


@dataclass(frozen=True, slots=True)
class Record:
    """A row of the table `records`, its `id` left out; the fields are explained in tools/README.md."""

    received: int
    node: str
    boot: int | None
    seq: int | None
    kind: Kind
    path: str | None
    level: str | None
    module: str | None
    msg: str | None
    value: float | None  # or an int: it stays one
    unit: str | None
    ts: int | None
    body: str | bytes


def read_record(path: str, content_format: int | None, payload: bytes, remote: str, received: int) -> Record:
    """Check what was posted and make a record of it.

    path: `logs` or `.s/PATH`; remote: the sender's address, "192.0.2.1:40000"; received: ms since 1970.
    Raises Refused, UnknownFormat.
    """
    log = path in ("logs", ".s/logs")
    if log and (content_format == TEXT or content_format is None and not payload.lstrip().startswith(b"{")):
        text = to_text(payload)
        if not text:
            raise Refused("the payload is empty")
        return make_record(path, {"msg": text}, to_json(text), remote, received)
    if content_format in (None, JSON):
        text = to_text(payload)
        return make_record(path, from_json(text), text, remote, received)
    if content_format == CBOR:
        value = from_cbor(payload)
        return make_record(path, value, to_json(value), remote, received)
    if content_format == OCTETS and not log:
        if not payload:
            raise Refused("the payload is empty")
        return make_record(path, None, bytes(payload), remote, received)
    formats = "JSON (50), CBOR (60) or text (0)" if log else "JSON (50), CBOR (60) or octets (42)"
    raise UnknownFormat(f"{path}: send {formats}, not format {content_format}")


def make_record(path: str, value: Any, body: str | bytes, remote: str, received: int) -> Record:
    """Make the record of a value that was sent. body: as it is kept; the rest is read_record's. Raises Refused."""
    kind: Kind = "log" if path in ("logs", ".s/logs") else "reading"
    log = kind == "log"
    stream = path.removeprefix(".s/")
    if not log and (not stream or stream == path):
        raise Refused("the path of a stream is .s/NAME")
    if isinstance(value, dict):
        keys = value
    elif log:
        raise Refused("a log record is a JSON object, or a CBOR map")
    else:
        keys = {"value": value} if is_number(value) else {}
    node = _take(keys, "node", _is_name, f"text of 1 to {NAME} characters")
    boot = _take(keys, "boot", _is_count, "a whole number, 0 or more")
    seq = _take(keys, "seq", _is_count, "a whole number, 0 or more")
    if node is None or boot is None or seq is None:
        boot = seq = None  # only the three together name a record; without them each one is a new one
    ts = _take(keys, "ts", is_number, "a number of milliseconds since 1970")
    return Record(
        received=received,
        node=node if node is not None else host(remote),
        boot=boot,
        seq=seq,
        kind=kind,
        path=None if log else _storable(stream),
        level=_take(keys, "level", _is_text, "text") if log else None,
        module=_take(keys, "module", _is_text, "text") if log else None,
        msg=_take(keys, "msg", _is_text, "text") if log else None,
        value=None if log else _number(_take(keys, "value", _is_scalar, "a number")),
        unit=None if log else _take(keys, "unit", _is_text, "text"),
        ts=None if ts is None else min(max(int(ts), -_MAX_INTEGER), _MAX_INTEGER),
        body=body,
    )


def host(remote: str) -> str:
    """Return an address without its port: each run of a command-line client has another one, and is no other node."""
    return remote.rpartition(":")[0].strip("[]") or remote


def is_number(value: Any) -> bool:
    """Tell whether a value can be a reading's: 1e999 is JSON, and infinite in Python; an int may be too large."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def _take(keys: dict[str, Any], key: str, fits: Callable[[Any], bool], wanted: str) -> Any:
    """Return the value of a key, or None where it is absent or null; raise Refused when it has the wrong type."""
    value = keys.get(key)
    if value is None:
        return None
    if not fits(value):
        raise Refused(f"{key}: must be {wanted}")
    return _storable(value) if isinstance(value, str) else value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= NAME


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_INTEGER


def _is_scalar(value: Any) -> bool:
    return is_number(value) or isinstance(value, bool)


def _number(value: float | None) -> float | None:
    if isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, int) and abs(value) > _MAX_INTEGER else value


def _storable(text: str) -> str:
    """Replace lone surrogates: JSON can write them (\\ud800), UTF-8 and so SQLite cannot."""
    return text.encode("utf-8", "replace").decode()
