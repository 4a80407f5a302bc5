"""tshark's reading of recorded datagrams, from a capture file written by hand, and our decoder's, to be compared."""

import struct
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from coaplet.message import Message
from coaplet.wire import HEAD, parse
from interop.relay import Datagram

_LINKTYPE_RAW = 101  # packets begin with their IP header
_COAP_PORT = 5683
_SERVER = b"\x7f\0\0\1"
_UDP = 17
_ROOM = 64  # options of a message


@dataclass(frozen=True)
class Reading:
    """One datagram as a decoder understood it; None instead: malformed."""

    kind: int
    code: int
    mid: int
    token: bytes
    options: tuple[tuple[int, bytes], ...]
    payload: bytes


def our_reading(data: bytes) -> Reading | None:
    """Read a datagram as the endpoint does; None: a format error."""
    kind, tkl, code = data[0] >> 4 & 3, data[0] & 15, data[1]
    if tkl > 8 or 4 + tkl > len(data):
        return None
    message = Message(_ROOM)
    message.data, message.table[9] = data, len(data)
    if parse(data, 4 + tkl, len(data), message.table, 0) < 0:
        return None
    cells = range(HEAD, HEAD + 3 * message.table[1], 3)
    options = [message.table[k : k + 3] for k in cells]
    return Reading(
        kind=kind,
        code=code,
        mid=int.from_bytes(data[2:4]),
        token=data[4 : 4 + tkl],
        options=tuple((number, data[pos : pos + n]) for number, pos, n in options),
        payload=bytes(message.payload),  # pyright: ignore[reportArgumentType]
    )


def write_capture(path: Path, datagrams: Sequence[Datagram]) -> None:
    """Write a pcap file of IPv4 packets, a conversation having the same client address and port throughout."""
    clients: dict[tuple[int, int], bytes] = {}
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, _LINKTYPE_RAW))
        for number, datagram in enumerate(datagrams):
            client = clients.setdefault(datagram.conversation, struct.pack("!I", 0x7F010001 + len(clients)))
            packet = _packet(client, datagram)
            file.write(struct.pack("<IIII", number // 1000, number % 1000 * 1000, len(packet), len(packet)))
            file.write(packet)


def _packet(client: bytes, datagram: Datagram) -> bytes:
    ports = (datagram.conversation[1], _COAP_PORT)
    ends = (client, _SERVER)
    if not datagram.from_client:
        ports, ends = ports[::-1], ends[::-1]
    udp = struct.pack("!HHHH", *ports, 8 + len(datagram.data), 0) + datagram.data
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, _UDP, 0) + b"".join(ends)
    total = sum(struct.unpack("!10H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:] + udp


def dissect(
    tshark: str, capture: Path, folder: Path, *, tolerant: bool = False
) -> list[tuple[Reading | None, list[str]]]:
    """Read a capture with tshark: for each packet its reading, and what tshark finds remarkable about it.

    tolerant: what tshark finds wrong with one option's number or length makes no malformed packet.
    """
    done = subprocess.run(
        # 5683 is CoAP's port anyway; a private home, so that no user's preferences change what is seen
        [tshark, "-r", capture, "-T", "pdml", "-d", f"udp.port=={_COAP_PORT},coap"],
        env={"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    packets = list(ElementTree.fromstring(done.stdout))
    if tolerant:
        for option in (option for packet in packets for option in packet.iter("field")):
            if option.get("name") == "coap.opt.name":
                for malformed in option.findall("proto[@name='_ws.malformed']"):
                    option.remove(malformed)
    return [(_reading(packet), list(_remarks(packet))) for packet in packets]


def _reading(packet: ElementTree.Element) -> Reading | None:
    coap = packet.find("proto[@name='coap']")
    if coap is None or packet.find(".//proto[@name='_ws.malformed']") is not None:
        return None
    value = {field.get("name"): _bytes(field) for field in coap.findall("field")}
    return Reading(
        kind=value["coap.type"][0] >> 4 & 3,
        code=value["coap.code"][0],
        mid=int.from_bytes(value["coap.mid"]),
        token=value.get("coap.token", b""),
        options=tuple(_option(field) for field in coap.findall("field[@name='coap.opt.name']")),
        payload=value.get("coap.payload") or value.get("coap.block_payload") or b"",
    )


def _bytes(field: ElementTree.Element) -> bytes:
    return bytes.fromhex(field.get("unmaskedvalue") or field.get("value") or "")


def _option(field: ElementTree.Element) -> tuple[int, bytes]:
    """Take the number from the description, and the value from what follows the option's header."""
    parts = {part.get("name"): part for part in field}
    number = int(parts["coap.opt.desc"].get("show", "").removeprefix("Type ").partition(",")[0])
    extended = [parts[name] for name in ("coap.opt.delta_ext", "coap.opt.length_ext") if name in parts]
    return number, _bytes(field)[1 + sum(int(part.get("size", "0")) for part in extended) :]


def _remarks(packet: ElementTree.Element) -> Iterator[str]:
    for field in packet.iter("field"):
        if field.get("name") == "_ws.expert":
            yield field.get("showname", "").removeprefix("Expert Info ")
