"""What devices and the collector say to each other in JSON (50) or CBOR (60): what both formats can say, and no more.

Of CBOR that is null, booleans, numbers, text, arrays, and maps whose keys are text; no tags, no byte strings. What a
peer sends is bounded before it is built: cbor2 makes nothing larger than what it has read.
"""

import io
import json
import math
from typing import Any

import coaplet
from coaplet_tools.collector.limits import DEPTH
from coaplet_tools.collector.payloads import CBOR, JSON, OCTETS, TEXT, finite

__all__ = ("CBOR", "JSON", "OCTETS", "TEXT", "decode", "encode")

_MOST, _LEAST = 2**64 - 1, -(2**63)

# cbor2 knows these tags and would build dates, patterns and numbers of any size
_TAGS = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)


def decode(payload: bytes, content_format: int | None) -> Any:
    """Read a payload; no Content-Format is JSON. Raises CoapError 4.00, 4.15: its text says what is wrong."""
    if content_format in (None, JSON):
        value = _from_json(payload)
    elif content_format == CBOR:
        value = _from_cbor(payload)
    else:
        text = f"send JSON (50) or CBOR (60), not format {content_format}"
        raise coaplet.CoapError(coaplet.UNSUPPORTED_CONTENT_FORMAT, text)
    _check(value)
    return value


def encode(value: Any, content_format: int) -> bytes:
    """Write a value as JSON or CBOR. Keys of dicts may be numbers in CBOR."""
    if content_format == CBOR:
        import cbor2

        return cbor2.dumps(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _from_json(payload: bytes) -> Any:
    try:
        return json.loads(payload.decode(), parse_constant=finite, parse_float=finite)
    except UnicodeDecodeError as error:
        raise _bad("the payload is not UTF-8") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise _bad("the payload is not JSON") from error


def _from_cbor(payload: bytes) -> Any:
    import cbor2

    file = io.BytesIO(payload)
    # read_size: no byte behind the value is taken in, so that one is noticed
    decoder = cbor2.CBORDecoder(
        file,
        tag_hook=_tagged,
        semantic_decoders=dict.fromkeys(_TAGS, _tagged),
        read_size=1,
        max_depth=DEPTH,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
    )
    try:
        value = decoder.decode()
    except cbor2.CBORError as error:
        raise _bad(f"the payload is not CBOR that JSON could say: {error}") from error
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise _bad("the payload is not CBOR that JSON could say") from error
    if file.tell() != len(payload):
        raise _bad("the payload is more than one CBOR item")
    return value


def _check(value: Any) -> None:
    """Raise CoapError 4.00 for what JSON cannot say, for what nobody could store, and for too deep a nesting."""
    level = [value]
    depth = 0
    while level:
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                if not all(isinstance(key, str) for key in one):
                    raise _bad("a key is no text")
                inner += one.keys()
                inner += one.values()
            elif isinstance(one, list | tuple):
                inner += one
            elif isinstance(one, str):
                _check_text(one)
            elif isinstance(one, float):
                if not math.isfinite(one):
                    raise _bad("NaN and Infinity are no values")
            elif isinstance(one, int):
                if not _LEAST <= one <= _MOST:
                    raise _bad("an integer has more than 64 bits")
            elif one is not None:
                raise _bad(f"{type(one).__name__} is nothing that JSON could say")
        level = inner
        depth += 1
        if depth > DEPTH + 1:
            raise _too_deep()


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can write half of a surrogate pair
        raise _bad("a text is not Unicode") from error


def _tagged(*_: Any) -> Any:
    raise ValueError("a tag")


def _too_deep() -> coaplet.CoapError:
    return _bad(f"the payload is nested deeper than {DEPTH}")


def _bad(text: str) -> coaplet.CoapError:
    return coaplet.CoapError(coaplet.BAD_REQUEST, text)
