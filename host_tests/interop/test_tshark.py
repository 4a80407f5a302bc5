"""tshark's dissector and our decoder read every datagram of the interop runs alike."""

from dataclasses import replace

import pytest

from interop.conftest import NODES, name_of
from interop.dissect import Reading, dissect, our_reading, write_capture
from interop.processes import run_ours
from interop.relay import Datagram


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
        ours = our_reading(datagram.data)
        if ours and reading and is_last_block(ours) and reading.payload.endswith(ours.payload):
            ours = replace(ours, payload=reading.payload)  # tshark shows what it has put together
        assert ours == reading, shown


def is_last_block(reading: Reading) -> bool:
    blocks = [int.from_bytes(value) for number, value in reading.options if number in (23, 27)]
    return any(value >> 4 and not value & 8 for value in blocks)


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
