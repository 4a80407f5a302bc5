"""CBOR of what JSON can say (RFC 8949 3), for clouds that take it: encoding alone."""

import struct

# As many digits as this board's floats have
_DOUBLE = 1 + 2**-30 != 1


def encode(value):
    """Return the CBOR of None, a bool, int below 2^64, float, str, list, tuple or dict of them. Raises TypeError."""
    out = bytearray()
    _put(out, value)
    return bytes(out)


def _put(out, value):
    if value is None:
        out.append(0xF6)
    elif value is True or value is False:
        out.append(0xF5 if value else 0xF4)
    elif isinstance(value, int):
        if value < 0:
            _head(out, 1, -1 - value)
        else:
            _head(out, 0, value)
    elif isinstance(value, float):
        out.append(0xFB if _DOUBLE else 0xFA)
        out.extend(struct.pack(">d" if _DOUBLE else ">f", value))
    elif isinstance(value, str):
        text = value.encode()
        _head(out, 3, len(text))
        out.extend(text)
    elif isinstance(value, (list, tuple)):
        _head(out, 4, len(value))
        for one in value:
            _put(out, one)
    elif isinstance(value, dict):
        _head(out, 5, len(value))
        for key in value:
            _put(out, key)
            _put(out, value[key])
    else:
        raise TypeError("no CBOR of " + type(value).__name__)


def _head(out, major, n):
    major <<= 5
    if n < 24:
        out.append(major | n)
        return
    size = 1
    info = 24
    while n >> (8 * size):
        size *= 2
        info += 1
    if size > 8:
        raise TypeError("no CBOR of such a number")
    out.append(major | info)
    out.extend(n.to_bytes(size, "big"))
