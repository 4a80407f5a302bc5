"""Golioth's ETags: CRC-64/ISO of the payload (polynomial x^64 + x^4 + x^3 + x + 1, reflected), little-endian."""

_POLYNOMIAL = 0xD800000000000000
_ONES = 0xFFFFFFFFFFFFFFFF


def _entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = tuple(_entry(value) for value in range(256))


class Crc64:
    """CRC-64/ISO as in ISO 3309, piece by piece: all ones at the start, inverted at the end."""

    def __init__(self) -> None:
        self._crc = _ONES

    def update(self, data: bytes) -> None:
        crc = self._crc
        for byte in data:
            crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
        self._crc = crc

    def value(self) -> int:
        return self._crc ^ _ONES

    def digest(self) -> bytes:
        """Return the 8 bytes of the ETag option (RFC 7252 5.10.6) that tags what came so far."""
        return self.value().to_bytes(8, "little")


def crc64(data: bytes) -> int:
    """Compute CRC-64/ISO."""
    crc = Crc64()
    crc.update(data)
    return crc.value()


def etag(payload: bytes) -> bytes:
    """Return the 8 bytes of the ETag option that tags this payload."""
    crc = Crc64()
    crc.update(payload)
    return crc.digest()
