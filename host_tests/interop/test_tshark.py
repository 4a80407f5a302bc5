"""tshark's dissector and our decoder read every datagram of the interop runs alike."""

import pytest

from coaplet.message import Message
from coaplet.wire import HEAD, parse_options
from interop.conftest import NODES, name_of
from interop.dissect import Reading, dissect, write_capture
from interop.processes import run_ours
from interop.relay import Datagram

_ROOM = 64


def our_reading(data: bytes) -> Reading | None:
    """Read a datagram as the endpoint does; None: a format error."""
    kind, tkl, code = data[0] >> 4 & 3, data[0] & 15, data[1]
    if tkl > 8 or 4 + tkl > len(data):
        return None
    message = Message(_ROOM)
    message.data, message.table[9] = data, len(data)
    if parse_options(data, 4 + tkl, len(data), message.table) < 0:
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


@pytest.fixture
def traffic(served_node, relay, coap_client) -> list[Datagram]:
    """What is there even when this test runs alone: libcoap and our own client at our server."""
    link = relay(served_node.addresses[0], "server")
    coap_client("-O", "2050," + "x" * 300, "-O", "65000,", f"{link.uri}/inspect/a/b?c=d&e")
    coap_client("-m", "post", "-t", "50", "-e", '{"a":[1,2]}', f"{link.uri}/echo")
    coap_client("-O", "3001,x", f"{link.uri}/text")
    own = relay(served_node.addresses[0], "both")
    edges = (12, 13, 14, 268, 269, 270)  # of deltas and lengths; tshark knows no unknown options below 2048
    options = [[3000 + sum(edges[: i + 1]), "y" * n] for i, n in enumerate(edges)]
    steps = [
        {"method": "GET", "path": "inspect/x", "options": options},
        {"method": "GET", "path": "inspect/y", "options": [[28, 0], [60, 70000], [2054, ""], [2054, "z"]]},
        {"method": "POST", "path": "echo", "hex": "ff00ff", "ct": 42, "confirmable": False},
        {"method": "PUT", "path": "store/tshark?q=%00", "json": {"k": None}, "accept": 65535},
        {"method": "GET", "path": "slow"},
        {"method": "GET", "path": "large"},
        {"method": "ping"},
    ]
    run_ours(served_node.runtime, "node", own.uri, steps)
    own.lines(16)
    return [*link.datagrams, *own.datagrams]


@pytest.mark.parametrize("served_node", NODES[2:3], ids=name_of, indirect=True)
def test_tshark_reads_what_we_read(tshark, tmp_path, recording, traffic):
    datagrams = [*recording, *traffic]
    assert len(traffic) > 15
    write_capture(tmp_path / "capture.pcap", datagrams)
    readings = dissect(tshark, tmp_path / "capture.pcap", tmp_path)
    assert len(readings) == len(datagrams)
    for datagram, (reading, remarks) in zip(datagrams, readings, strict=True):
        shown = f"{datagram.line}: {datagram.data.hex()}: {remarks}"
        if datagram.ours:
            assert reading is not None, f"tshark calls ours malformed: {shown}"
        if datagram.data[0] & 15 > 8 and not datagram.ours:
            reading = None  # a token of RFC 8974 to tshark, a format error to us (RFC 7252 3)
        assert our_reading(datagram.data) == reading, shown


MALFORMED = {
    "a value past the end": "40010001b4",
    "length nibble 15": "40010001bf41",
    "delta nibble 15": "40010001f141",
    "token past the end": "4801000141",
}


def test_tshark_calls_malformed_what_we_do(tshark, tmp_path):
    datagrams = [Datagram(bytes.fromhex(data), True, False, (1, 40000)) for data in MALFORMED.values()]
    write_capture(tmp_path / "capture.pcap", datagrams)
    readings = dissect(tshark, tmp_path / "capture.pcap", tmp_path)
    assert [our_reading(datagram.data) for datagram in datagrams] == [None] * len(datagrams)
    assert {name: reading for name, (reading, _) in zip(MALFORMED, readings, strict=True) if reading} == {}
