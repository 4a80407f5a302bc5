"""A tap in the line between a DTLS client and a server, and what tshark, given the key, reads of what went through.

The tap is the relay of the CoAP tests, with the time of each datagram, datagrams that come late, and a NAT that
forgets.

tshark checks each record's tag. What it cannot do (4.4): where a flight was repeated it has lost what the extended
master secret (RFC 7627) is derived from, calls that a bug of its own in the packet, and opens no record from then on.
So where datagrams get lost, give it a key log file: "CLIENT_RANDOM <client's random> <master secret>", in hex, a line
for each handshake. It needs one, too, for a resumed session whose first handshake is not among the datagrams.
It finds a session by its Connection ID alone: two sessions with the same one, in whatever direction, confuse it.
"""

import random
import re
import struct
import subprocess
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from interop.relay import Datagram, Relay

_LINKTYPE_RAW = 101  # packets begin with their IP header
_PORT = 5684
_HOST = b"\x7f\0\0\1"
_UDP = 17

Plan = Callable[[Datagram], Sequence[float]]  # after how many seconds each copy of a datagram goes on; none: it is lost


def faithful(datagram: Datagram) -> Sequence[float]:
    return (0,)


def bad_line(seed: int, lost: float = 0.3, twice: float = 0.1, late: float = 0.1, by_s: float = 0.02) -> Plan:
    """Lose, duplicate and delay (and so reorder) shares of the datagrams."""
    draw = random.Random(seed).random

    def plan(datagram: Datagram) -> Sequence[float]:
        if draw() < lost:
            return ()
        return [by_s if draw() < late else 0 for _ in range(2 if draw() < twice else 1)]

    return plan


class Tap(Relay):
    """Relays from a port of its own to `upstream`, by a plan, until it is closed; a context manager.

    datagrams: what came, lost or not, with `times` beside it (of time.monotonic).
    """

    def __init__(self, upstream: tuple[str, int], plan: Plan = faithful) -> None:
        self.times: list[float] = []
        self._plan = plan
        self._forget = False
        self._timers: list[threading.Timer] = []
        super().__init__(upstream, "both", self._schedule)

    def __enter__(self) -> "Tap":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> tuple[str, int]:
        return self._upstream[0], self.port

    def rebind(self) -> None:
        """Give the client another port towards the server from its next datagram on, as a NAT does that forgot it."""
        self._forget = True

    def sent(self) -> list[tuple[bool, bytes]]:
        """What came so far: whether from the client, and the bytes."""
        with self._arrived:
            return [(datagram.from_client, datagram.data) for datagram in self.datagrams]

    def wait_for(self, count: int, within_s: float = 5) -> None:
        """Wait until so many datagrams have come."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.datagrams) >= count, within_s), f"{len(self.datagrams)} came"

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        super().close()

    def _schedule(self, datagram: Datagram) -> int:
        """Send the copies that come late later, in the relay's thread; return how many go on now."""
        self.times.append(time.monotonic())
        client = next(address for address in self._backs if address[1] == datagram.conversation[1])
        if self._forget and datagram.from_client:
            self._forget = False
            self._selector.unregister(self._backs[client])
            self._backs.pop(client).close()
            back = self._backs[client] = self._socket()
            back.connect(self._upstream)
            self._selector.register(back, 1, client)
        delays = self._plan(datagram)
        for delay in filter(None, delays):
            timer = threading.Timer(delay, self._send_late, (datagram, client))
            timer.daemon = True
            self._timers.append(timer)
            timer.start()
        return sum(not delay for delay in delays)

    def _send_late(self, datagram: Datagram, client: tuple[str, int]) -> None:
        with suppress(OSError):
            if datagram.from_client:
                self._backs[client].send(datagram.data)
            else:
                self._front.sendto(datagram.data, client)


Sent = tuple[bool, bytes] | tuple[bool, bytes, int]  # from the client, bytes, the client's port


def write_pcap(path: Path, datagrams: Iterable[Sent]) -> None:
    """Write a capture file of datagrams on 127.0.0.1, the server's port being that of coaps."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, _LINKTYPE_RAW))
        for number, (from_client, data, *port) in enumerate(datagrams):
            client = port[0] if port else 40000
            ports = (client, _PORT) if from_client else (_PORT, client)
            udp = struct.pack("!HHHH", *ports, 8 + len(data), 0) + data
            ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), number & 0xFFFF, 0, 64, _UDP, 0, _HOST, _HOST)
            file.write(struct.pack("<IIII", number // 1000, number % 1000 * 1000, len(ip + udp), len(ip + udp)))
            file.write(ip + udp)


def read_records(
    tshark: str,
    folder: Path,
    datagrams: Iterable[Sent],
    key: bytes | None,
    *,
    keylog: Path | None = None,
    coap: bool = False,
) -> list[dict[str, Any]]:
    """Let tshark decrypt datagrams with the pre-shared key, or a key log file. Returns a dict for each record:

    datagram    the number of the one that it was in
    from_client
    type        "handshake", "change_cipher_spec", "alert", "application_data"; with a Connection ID the inner one where
                it was decrypted, else "cid"
    epoch, sequence
    cid         hex, or None where the record has none
    size        of the fragment as sent, bytes
    readable    of epoch 0, or decrypted with a tag that is right
    messages    names of handshake messages, as tshark has them: "Client Hello"
    fields      tshark's fields of handshake messages and alerts, each by name a list of what it shows
    alert       its description, or None
    data        application data, hex, or None
    remarks     what tshark found wrong with the datagram, "Malformed Packet" among it

    coap: application data is read as CoAP, `data` stays None, and remarks have CoAP's, too.
    """
    datagrams = list(datagrams)
    capture, debug = folder / "dtls.pcap", folder / "dtls.debug"
    write_pcap(capture, datagrams)
    options = [f"dtls.psk:{key.hex()}"] if key is not None else []
    options += [f"tls.keylog_file:{keylog}"] if keylog else []
    options += [f"dtls.debug_file:{debug}", f"tls.debug_file:{debug}"]  # of the two, what is set last counts
    words = [word for option in options for word in ("-o", option)]
    decode = ("-d", f"udp.port=={_PORT},dtls", "-d", f"dtls.port=={_PORT},{'coap' if coap else 'data'}")
    done = subprocess.run(
        [tshark, "-r", capture, "-T", "pdml", *decode, *words],
        # a private home, so that no user's preferences change what is seen
        env={"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    packets = ElementTree.fromstring(done.stdout)
    assert len(packets) == len(datagrams)
    opened = set(_opened(debug.read_text(errors="replace")))
    return [
        record
        for number, packet in enumerate(packets)
        for record in _records(number, packet, datagrams[number][0], opened)
    ]


def assert_all_read(records: Sequence[dict[str, Any]]) -> None:
    """Every record was decrypted, and nothing is malformed."""
    assert records
    for record in records:
        assert record["readable"], f"not decrypted: {record}"
        assert not record["remarks"], f"{record['remarks']}: {record}"


_TYPES = {20: "change_cipher_spec", 21: "alert", 22: "handshake", 23: "application_data", 25: "cid"}


def _opened(debug: str) -> Iterator[tuple[int, int, int]]:
    """Datagram, epoch and sequence number of each record whose tag tshark found right, out of its debug output.

    Its packet details do not tell: application data that it cannot open has the name of a protocol there, too.
    """
    datagram = epoch = sequence = 0
    for found in _STEP.finditer(debug):
        if found["frame"]:
            datagram = int(found["frame"]) - 1
        elif found["epoch"]:
            epoch, sequence = int(found["epoch"]), int(found["sequence"])
        else:
            yield datagram, epoch, sequence


_STEP = re.compile(
    r"^dissect_dtls enter frame #(?P<frame>\d+) "
    r"|^dissect_dtls_record: content_type \d+ epoch (?P<epoch>\d+) seq (?P<sequence>\d+)"
    r"|^auth_tag\(OK\)|mac ok$",
    re.MULTILINE,
)


def _records(
    number: int, packet: ElementTree.Element, from_client: bool, opened: Set[tuple[int, int, int]]
) -> Iterator[dict[str, Any]]:
    remarks = [_show(field, "showname") for field in packet.iter("field") if field.get("name") == "_ws.expert"]
    remarks = [remark for remark in remarks if "(Note/" not in remark and "(Chat/" not in remark]
    remarks += ["Malformed Packet" for proto in packet.iter("proto") if proto.get("name") == "_ws.malformed"]
    plain = [field.get("value", "") for field in packet.iter("field") if field.get("name") == "data.data"]
    found = [field for field in packet.iter("field") if field.get("name") == "dtls.record"]
    if not found:
        remarks.append("no DTLS record")
        yield dict(_NOTHING, datagram=number, from_client=from_client, remarks=remarks)
    for field in found:
        fields: dict[str, list[str]] = {}
        for part in field.iter("field"):
            fields.setdefault(part.get("name", ""), []).append(_show(part, "show"))
        content = fields.get("dtls.record.content_type") or fields["dtls.record.special_type"]
        kind = _TYPES[int(content[0])]
        epoch = int(fields["dtls.record.epoch"][0])
        cid = fields.get("dtls.record.connection_id")
        sequence = int(fields["dtls.record.sequence_number"][0])
        readable = epoch == 0 or (number, epoch, sequence) in opened
        yield {
            "datagram": number,
            "from_client": from_client,
            "type": kind,
            "epoch": epoch,
            "sequence": sequence,
            "cid": cid[0].replace(":", "") if cid else None,
            "size": int(fields["dtls.record.length"][0]),
            "readable": readable,
            "messages": [
                _show(part, "showname").removeprefix("Handshake Type: ").rpartition(" (")[0]
                for part in field.iter("field")
                if part.get("name") == "dtls.handshake.type"
            ],
            "fields": {name: shown for name, shown in fields.items() if name.startswith(("dtls.hand", "dtls.alert"))},
            "alert": _description(field) if kind == "alert" else None,
            "data": plain.pop(0) if kind == "application_data" and readable and plain else None,
            "remarks": remarks,
        }


_NOTHING: dict[str, Any] = {
    "type": None,
    "epoch": None,
    "sequence": None,
    "cid": None,
    "size": 0,
    "readable": False,
    "messages": [],
    "fields": {},
    "alert": None,
    "data": None,
}


def _description(record: ElementTree.Element) -> str | None:
    for part in record.iter("field"):
        if part.get("name") == "dtls.alert_message.desc":
            return _show(part, "showname").removeprefix("Description: ").rpartition(" (")[0]
    return None


def _show(field: ElementTree.Element, name: str) -> str:
    return field.get(name, "")
