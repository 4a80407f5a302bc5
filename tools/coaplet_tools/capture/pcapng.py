"""Writes a capture file: pcapng (draft-ietf-opsawg-pcapng), datagrams in UDP and IP, and the secrets that open them.

The secrets lie in a Decryption Secrets Block, in the format of a TLS key log file, in front of the packets: Wireshark
reads them with the file.
"""

import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from coaplet_tools.capture.tap import Address, Datagram

_SECTION, _INTERFACE, _PACKET, _SECRETS = 0x0A0D0D0A, 1, 6, 10
_COMMENT, _APPLICATION, _RESOLUTION = 1, 4, 9  # options
_LINKTYPE_RAW = 101  # a packet begins with its IP header
_TLS_KEY_LOG = 0x544C534B
_UDP = 17


def write(path: Path, datagrams: Iterable[Datagram], server_port: int, keylog: str, comments: Iterable[str]) -> None:
    """Write datagrams, the server being at `server_port` of the client's own address. comments: one a datagram."""
    with path.open("wb") as file:
        section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
        file.write(_block(_SECTION, section + _options((_APPLICATION, b"coaplet make capture"))))
        interface = struct.pack("<HHI", _LINKTYPE_RAW, 0, 0) + _options((_RESOLUTION, b"\x09"))
        file.write(_block(_INTERFACE, interface))
        secrets = keylog.encode()
        file.write(_block(_SECRETS, struct.pack("<II", _TLS_KEY_LOG, len(secrets)) + _padded(secrets)))
        for datagram, comment in zip(datagrams, comments, strict=True):
            packet = _packet(datagram, server_port)
            head = struct.pack("<IIIII", 0, datagram.ns >> 32, datagram.ns & 0xFFFFFFFF, len(packet), len(packet))
            file.write(_block(_PACKET, head + _padded(packet) + _options((_COMMENT, comment.encode()))))


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size


def _options(*options: tuple[int, bytes]) -> bytes:
    parts = [struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options]
    return b"".join(parts) + bytes(4)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _packet(datagram: Datagram, server_port: int) -> bytes:
    """Put a datagram into UDP (RFC 768) and IP as it went over the loopback interface."""
    address: Address = datagram.client
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    host = socket.inet_pton(family, address[0])
    ports = (address[1], server_port) if datagram.from_client else (server_port, address[1])
    size = 8 + len(datagram.data)
    pseudo = host + host + struct.pack("!II", size, _UDP)  # RFC 8200 8.1; of IPv4 the sum is the same
    checksum = _checksum(pseudo + struct.pack("!HHHH", *ports, size, 0) + datagram.data) or 0xFFFF
    udp = struct.pack("!HHHH", *ports, size, checksum) + datagram.data
    if family == socket.AF_INET6:
        return struct.pack("!IHBB", 0x60000000, size, _UDP, 64) + host + host + udp
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, 64, _UDP, 0) + host + host
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + udp


def _checksum(data: bytes) -> int:
    """Compute the Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
