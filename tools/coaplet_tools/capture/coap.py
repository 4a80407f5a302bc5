"""One CoAP message in words: what RFC 7252 3 puts where, for those who see it for the first time."""

from coaplet import code_text

_TYPES = ("confirmable (CON)", "non-confirmable (NON)", "acknowledgement (ACK)", "reset (RST)")
_METHODS = {1: "GET", 2: "POST", 3: "PUT", 4: "DELETE"}
_OPTIONS = {4: "ETag", 11: "Uri-Path", 12: "Content-Format", 14: "Max-Age", 15: "Uri-Query", 3: "Uri-Host"}
_NAMES = {67: "Valid", 68: "Changed", 69: "Content", 128: "Bad Request", 163: "Service Unavailable"}
_FORMATS = {b"": "text", b"\x32": "JSON"}


def describe(message: bytes) -> str:
    """Say what a message is: its type, code, Message ID, token, options and payload, in a few clauses."""
    kind, code, mid = message[0] >> 4 & 3, message[1], int.from_bytes(message[2:4])
    pos = 4 + (message[0] & 15)
    token = message[4:pos]
    name = _METHODS.get(code) or f"{code_text(code)} {_NAMES.get(code, '')}".strip()
    parts = [f"CoAP {'empty message' if not code else name}, {_TYPES[kind]}, Message ID {mid:#06x}"]
    if token:
        parts.append(f"token {token.hex()}")
    options: list[str] = []
    number = 0
    while pos < len(message) and message[pos] != 0xFF:
        head = message[pos]
        delta, pos = _extended(head >> 4, message, pos + 1)
        size, pos = _extended(head & 15, message, pos)
        number += delta
        value = message[pos : pos + size]
        pos += size
        options.append(f"{_OPTIONS.get(number, f'option {number}')} {_value(number, value)}")
    payload = message[pos + 1 :]
    return ", ".join(parts + options) + (f"; payload of {len(payload)} bytes: {payload.decode()}" if payload else "")


def _extended(nibble: int, message: bytes, pos: int) -> tuple[int, int]:
    if nibble < 13:
        return nibble, pos
    n = nibble - 12  # 1 or 2 more bytes
    return int.from_bytes(message[pos : pos + n]) + (13 if n == 1 else 269), pos + n


def _value(number: int, value: bytes) -> str:
    if number in (3, 11, 15):
        return value.decode()
    if number == 12:
        return _FORMATS.get(value, str(int.from_bytes(value)))
    return value.hex() if number == 4 else str(int.from_bytes(value))
