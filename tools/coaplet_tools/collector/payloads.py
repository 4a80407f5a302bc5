"""What a payload says: JSON and CBOR as Python's values, checked before anything is made of them.

CBOR (RFC 8949) is taken for what JSON can say as well, since that is how a record is kept: no tags, which a decoder
would make other objects of, keys are texts, numbers are finite. Byte strings become hexadecimal texts, `undefined`
null. Each item is looked at before cbor2 sees one: what it is given is well-formed, and nested no deeper than JSON may
be. Lengths are believed only as far as there are bytes.
"""

import json
import math
from typing import Any

from coaplet_tools.collector.limits import DEPTH

try:
    import cbor2
except ImportError:  # without it JSON and text are taken
    cbor2 = None

TEXT = 0  # Content-Formats, RFC 7252 12.3, RFC 8949 9.3
OCTETS = 42
JSON = 50
CBOR = 60

_BREAK = 0xFF


class Refused(ValueError):
    """A record that cannot be taken. str() says why, in one line for its sender."""


class UnknownFormat(Refused):
    """Its Content-Format is none that can be read."""


def to_text(payload: bytes) -> str:
    """Return a payload as text. Raises Refused when it is not UTF-8."""
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise Refused("the payload is not UTF-8") from error


def from_json(text: str) -> Any:
    """Return what a JSON text says. Raises Refused: no JSON, nested too deep, a number that is not finite."""
    try:
        value = json.loads(text, parse_constant=finite, parse_float=finite)
    except RecursionError as error:
        raise Refused(f"the JSON is nested deeper than {DEPTH}") from error
    except ValueError as error:
        raise Refused("the payload is not JSON") from error
    if _depth(value) > DEPTH:
        raise Refused(f"the JSON is nested deeper than {DEPTH}")
    return value


def from_cbor(payload: bytes) -> Any:
    """Return what CBOR says, as values of JSON. Raises Refused, UnknownFormat."""
    if cbor2 is None:
        raise UnknownFormat("CBOR is not understood here: the collector's machine has no package cbor2")
    if _skip(payload, 0, 0) != len(payload):
        raise Refused(_NOT_CBOR)
    try:
        return _plain(cbor2.loads(payload))
    except Refused:
        raise
    except Exception as error:  # a text that is not UTF-8, say
        raise Refused(_NOT_CBOR) from error


def to_json(value: Any) -> str:
    """Write a value as JSON, as short as it can be, and so that it can be stored."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text):
        return text
    return json.dumps(value, separators=(",", ":"), allow_nan=False)  # a lone surrogate stays the escape that it was


def finite(text: str) -> float:
    """Read a number as json.loads has it read: NaN and Infinity are no JSON; nobody could write 1e999 out again."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [inner for inner in level if isinstance(inner, dict | list)]:
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        depth += 1
    return depth


_NOT_CBOR = "the payload is not CBOR"
_INTEGERS = (0, 1)
_BYTES = 2
_TEXTS = 3
_ARRAY = 4
_MAP = 5
_TAG = 6


def _skip(data: bytes, at: int, depth: int) -> int:
    """Return where the item at `at` ends. depth: how many others it lies in. Raises Refused."""
    major, n, start = _head(data, at)
    if major == _TAG:
        raise Refused("CBOR tags are not understood")
    if major in _INTEGERS:
        if n is None:
            raise Refused(_NOT_CBOR)
        return start
    if major in (_BYTES, _TEXTS):
        return _skip_string(data, major, n, start)
    if major not in (_ARRAY, _MAP):
        simple = data[at] & 31
        if not 20 <= simple <= 27 or simple == 24:  # false, true, null, undefined, three sizes of floats
            raise Refused(_NOT_CBOR)
        return start
    if depth == DEPTH:
        raise Refused(f"the CBOR is nested deeper than {DEPTH}")
    while n is None or n:  # an item has a byte at least: it ends with the data
        if n is None:
            if data[start : start + 1] == bytes((_BREAK,)):
                return start + 1
        else:
            n -= 1
        if major == _MAP:
            if data[start : start + 1] and data[start] >> 5 != _TEXTS:
                raise Refused("a key of a CBOR map must be text")
            start = _skip(data, start, depth + 1)
        start = _skip(data, start, depth + 1)
    return start


def _skip_string(data: bytes, major: int, n: int | None, start: int) -> int:
    if n is not None:
        if n > len(data) - start:
            raise Refused(_NOT_CBOR)
        return start + n
    while data[start : start + 1] != bytes((_BREAK,)):  # chunks of a known length (RFC 8949 3.2.3)
        kind, n, start = _head(data, start)
        if kind != major or n is None:
            raise Refused(_NOT_CBOR)
        start = _skip_string(data, major, n, start)
    return start + 1


def _head(data: bytes, at: int) -> tuple[int, int | None, int]:
    """Return an item's major type, its argument, or None where it is endless, and where its content begins."""
    if at >= len(data):
        raise Refused(_NOT_CBOR)
    major, n = data[at] >> 5, data[at] & 31
    at += 1
    if n < 24:
        return major, n, at
    if n == 31:
        return major, None, at
    size = 1 << n - 24
    if n > 27 or at + size > len(data):
        raise Refused(_NOT_CBOR)
    return major, int.from_bytes(data[at : at + size], "big"), at + size


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused("NaN and Infinity cannot be kept: JSON has no such numbers")
    return value if value is None or isinstance(value, str | int | float) else None  # undefined
