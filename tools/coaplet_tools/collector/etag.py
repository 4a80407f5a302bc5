"""Golioth's ETags: CRC-64/ISO of the payload (polynomial x^64 + x^4 + x^3 + x + 1, reflected), little-endian."""

_POLYNOMIAL = 0xD800000000000000
_ONES = 0xFFFFFFFFFFFFFFFF


def _entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = tuple(_entry(value) for value in range(256))


def crc64(data: bytes) -> int:
    """Compute CRC-64/ISO as in ISO 3309: all ones at the start, inverted at the end."""
    crc = _ONES
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ _ONES


def etag(payload: bytes) -> bytes:
    """Return the 8 bytes of the ETag option (RFC 7252 5.10.6) that tags this payload."""
    return crc64(payload).to_bytes(8, "little")
