"""One record: what a node sent, checked, as it will lie in the database.

What a peer sends is checked here and trusted afterwards. A record needs no key at all, since any CoAP client may
post; but a key that the database has a column for must have its type, or the record is refused, naming the key.
"""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["log", "reading"]
LEVELS = ("debug", "info", "warn", "error")

TEXT = 0  # Content-Formats, RFC 7252 12.3
JSON = 50

_LONGEST_NAME = 128
_DEEPEST = 32
_MAX_INTEGER = 2**63 - 1  # of SQLite


class Refused(ValueError):
    """A record that cannot be taken. str() says why, in one line for its sender."""


class UnknownFormat(Refused):
    """Its Content-Format is none that can be read."""


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
    body: str


def read_record(path: str, content_format: int | None, payload: bytes, remote: str, received: int) -> Record:
    """Check what was posted and make a record of it.

    path: `logs` or `.s/PATH`; remote: the sender's address, "192.0.2.1:40000"; received: ms since 1970.
    Raises Refused, UnknownFormat.
    """
    stream = path.partition("/")[2] if path.startswith(".s/") else None
    kind: Kind = "log" if path in ("logs", ".s/logs") else "reading"
    if kind == "reading" and not stream:
        raise Refused("the path of a stream is .s/NAME")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        if content_format in (None, TEXT, JSON):
            raise Refused("the payload is not UTF-8") from error
        text = ""
    if kind == "log" and (content_format == TEXT or content_format is None and not text.lstrip().startswith("{")):
        if not text:
            raise Refused("the payload is empty")
        value: Any = {"msg": text}
        body = json.dumps(text)
    elif content_format in (None, JSON):
        value = _parse(text)
        body = text
    else:
        formats = "JSON (50)" if kind == "reading" else "JSON (50) or text (0)"
        raise UnknownFormat(f"{path}: send {formats}, not format {content_format}")
    return _make(kind, None if kind == "log" else stream, value, body, remote, received)


def _make(kind: Kind, path: str | None, value: Any, body: str, remote: str, received: int) -> Record:
    if isinstance(value, dict):
        keys = value
    elif kind == "log":
        raise Refused("a log record is a JSON object")
    else:
        keys = {"value": value} if _is_number(value) else {}
    node = _take(keys, "node", _is_name, f"text of 1 to {_LONGEST_NAME} characters")
    boot = _take(keys, "boot", _is_count, "a whole number, 0 or more")
    seq = _take(keys, "seq", _is_count, "a whole number, 0 or more")
    if node is None or boot is None or seq is None:
        boot = seq = None  # only the three together name a record; without them each one is a new one
    ts = _take(keys, "ts", _is_number, "a number of milliseconds since 1970")
    log = kind == "log"
    return Record(
        received=received,
        node=_storable(node) if node is not None else _host(remote),
        boot=boot,
        seq=seq,
        kind=kind,
        path=None if path is None else _storable(path),
        level=_take(keys, "level", _is_text, "text") if log else None,
        module=_take(keys, "module", _is_text, "text") if log else None,
        msg=_take(keys, "msg", _is_text, "text") if log else None,
        value=None if log else _number(_take(keys, "value", _is_scalar, "a number")),
        unit=None if log else _take(keys, "unit", _is_text, "text"),
        ts=None if ts is None else min(max(int(ts), -_MAX_INTEGER), _MAX_INTEGER),
        body=body,
    )


def _parse(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise Refused(f"the JSON is nested deeper than {_DEEPEST}") from error
    except ValueError as error:
        raise Refused("the payload is not JSON") from error
    if _depth(value) > _DEEPEST:
        raise Refused(f"the JSON is nested deeper than {_DEEPEST}")
    return value


def _finite(text: str) -> float:
    # NaN and Infinity are no JSON; 1e999 is, but nobody could write it out again.
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _depth(value: Any) -> int:
    # Who reads the record later has less of a stack left, perhaps, than whoever stored it.
    depth, level = 0, [value]
    while level := [inner for inner in level if isinstance(inner, dict | list)]:
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        depth += 1
    return depth


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
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_INTEGER


def _is_number(value: Any) -> bool:
    # 1e999 is JSON, and infinite in Python; an integer may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def _is_scalar(value: Any) -> bool:
    return _is_number(value) or isinstance(value, bool)


def _number(value: float | None) -> float | None:
    if isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, int) and abs(value) > _MAX_INTEGER else value


def _storable(text: str) -> str:
    """Replace lone surrogates: JSON can write them (\\ud800), UTF-8 and so SQLite cannot."""
    return text.encode("utf-8", "replace").decode()


def _host(remote: str) -> str:
    # Without the port: each run of a command-line client has another one, and is no other node.
    return remote.rpartition(":")[0].strip("[]") or remote
