"""`make capture`: what it writes opens in tshark decrypted, and what it says of each packet is so."""

import asyncio
import re
import socket
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from coaplet_tools.capture import __main__, coap, pcapng, session
from coaplet_tools.capture.explain import Unreadable, explain
from coaplet_tools.capture.session import Life, capture
from coaplet_tools.capture.tap import Datagram
from coaplet_tools.collector import devices
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.setup.places import Unavailable
from coaplet_tools.setup.programs import NATIVE
from coaplet_tools.setup.state import program

_MESSAGES = [
    "ClientHello",
    "HelloVerifyRequest",
    "ClientHello",
    "ServerHello, ServerHelloDone",
    "ClientKeyExchange, ChangeCipherSpec, Finished",
    "ChangeCipherSpec, Finished",
    "CoAP POST",
    "CoAP answer",
    "Alert close_notify",
    "Alert close_notify",
]


@dataclass(frozen=True)
class Taken:
    life: Life
    file: Path
    key: bytes


@pytest.fixture(scope="module", params=["cpython", f"micropython-{NATIVE}", "micropython-i386"])
def taken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Taken:
    """Take one log of a node on each interpreter."""
    try:
        interpreter = sys.executable if request.param == "cpython" else program(request.param)
    except Unavailable as reason:
        pytest.skip(str(reason))
    file = tmp_path_factory.mktemp("capture") / "log.pcapng"
    keys: list[bytes] = []
    add = devices.add
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "add", lambda *words: keys.append(add(*words)) or keys[0])
        return Taken(asyncio.run(capture(interpreter, file)), file, keys[0])


def _tshark(tshark: str, file: Path, *options: str) -> str:
    done = subprocess.run(
        [tshark, "-r", file, *options],
        env={"HOME": str(file.parent), "XDG_CONFIG_HOME": str(file.parent), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_packet_is_told_and_every_record_of_the_session_was_opened(taken: Taken):
    life = taken.life
    assert life.answer == "2.03 OK"
    titles = [packet.title for packet in life.packets]
    # On a busy machine a flight may go out twice.
    assert list(dict.fromkeys(titles)) == list(dict.fromkeys(_MESSAGES))
    assert sum(packet.sealed for packet in life.packets) >= 6
    for datagram, packet in zip(life.datagrams, life.packets, strict=True):
        sizes = re.findall(r"(\d+) \+ (\d+) bytes", packet.text)
        assert sum(int(head) + int(body) for head, body in sizes) == len(datagram.data)


def test_tshark_opens_every_record_with_what_is_in_the_file_alone(taken: Taken, peer: Callable[[str], str]):
    debug = taken.file.with_suffix(".debug")
    output = _tshark(
        peer("tshark"), taken.file, "-T", "pdml", "-o", f"tls.debug_file:{debug}", "-o", f"dtls.debug_file:{debug}"
    )
    packets = list(ElementTree.fromstring(output))
    assert len(packets) == len(taken.life.datagrams)
    right = re.findall(r"auth_tag\(OK\)|mac ok", debug.read_text(errors="replace"))
    assert len(right) == sum(packet.sealed for packet in taken.life.packets)
    codes: list[str | None] = []
    for packet, told in zip(packets, taken.life.packets, strict=True):
        assert not [proto for proto in packet.iter("proto") if proto.get("name") == "_ws.malformed"]
        remarks = [field.get("showname", "") for field in packet.iter("field") if field.get("name") == "_ws.expert"]
        assert not [remark for remark in remarks if "(Comment/" not in remark and "(Chat/" not in remark], remarks
        comments = [field.get("show") for field in packet.iter("field") if field.get("name") == "frame.comment"]
        assert comments == [told.text]
        codes += [field.get("show") for field in packet.iter("field") if field.get("name") == "coap.code"]
    assert codes == ["2", "67"]


def test_it_is_valid_ip_and_udp_with_right_checksums(taken: Taken, peer: Callable[[str], str]):
    options = ("-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-T", "fields")
    fields = ("-e", "udp.checksum.status", "-e", "ip.checksum.status", "-e", "udp.port")
    for line in _tshark(peer("tshark"), taken.file, *options, *fields).splitlines():
        status, of_ip, ports = line.split("\t")
        assert status == "1" and of_ip in ("1", "") and "5684" in ports.split(",")


def test_the_file_has_the_sessions_secret_and_not_the_nodes_key(taken: Taken):
    data = taken.file.read_bytes()
    assert taken.life.keylog.encode() in data
    assert taken.key not in data and taken.key.hex().encode() not in data
    assert re.fullmatch(r"CLIENT_RANDOM [0-9a-f]{64} [0-9a-f]{96}\n", taken.life.keylog)


def test_over_ipv6_the_packets_are_valid_too(peer: Callable[[str], str], tmp_path: Path):
    file = tmp_path / "six.pcapng"
    client = ("::1", 40000, 0, 0)
    datagrams = [Datagram(b"odd" + bytes(n), client, not n % 2, 10**18 + n) for n in range(4)]
    pcapng.write(file, datagrams, 9, "", [""] * 4)
    options = (
        "-o",
        "udp.check_checksum:TRUE",
        "-T",
        "fields",
        "-e",
        "udp.checksum.status",
        "-e",
        "ipv6.src",
        "-e",
        "udp.length",
    )
    lines = [line.split("\t") for line in _tshark(peer("tshark"), file, *options).splitlines()]
    assert lines == [["1", "::1", str(11 + n)] for n in range(4)]


def test_a_packet_that_was_changed_is_not_explained(taken: Taken):
    life = taken.life
    master = bytes.fromhex(life.keylog.split()[2])
    for i, packet in enumerate(life.packets):
        if packet.sealed:
            last = life.datagrams[i]
            changed = last.data[:-1] + bytes([last.data[-1] ^ 1])
            datagrams = [*life.datagrams[:i], Datagram(changed, last.client, last.from_client, last.ns)]
            with pytest.raises(Unreadable):
                explain(datagrams, master)


def test_a_coap_message_in_words():
    # RFC 7252 figure 16, with a payload; and an option whose number and length are extended (3.1)
    post = bytes.fromhex("42 02 7d34 abcd b4") + b"logs" + b"\x11\x32" + b"\xff{}"
    assert coap.describe(post) == (
        "CoAP POST, confirmable (CON), Message ID 0x7d34, token abcd, Uri-Path logs, Content-Format JSON; "
        "payload of 2 bytes: {}"
    )
    long = b"\x50\x45" + struct.pack("!H", 1) + b"\xed" + struct.pack("!HB", 2048 - 269, 1) + bytes(13) + b"\x07"
    assert coap.describe(long) == "CoAP 2.05 Content, non-confirmable (NON), Message ID 0x0001, option 2048 7"
    assert coap.describe(b"\x60\0\0\x01") == "CoAP empty message, acknowledgement (ACK), Message ID 0x0001"


def test_as_a_command(tmp_path: Path):
    out = tmp_path / "x" / "log.pcapng"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as busy:
        with suppress(OSError):
            busy.bind(("127.0.0.1", 5684))
        command = [sys.executable, "-m", "coaplet_tools.capture", "--node", "cpython", "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert out.stat().st_size > 1000
    assert "so there is no packet" in " ".join(done.stdout.split())
    assert re.search(r"^7  node -> collector  [\d.]+ ms, \d+ bytes: CoAP POST$", done.stdout, re.MULTILINE)
    assert "the collector's port is 5684 in place of" in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 112


@pytest.mark.parametrize("interpreter", ["/bin/true", "/bin/false", "/nix/micropython"])
def test_a_node_that_cannot_run_is_one_line(interpreter: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert __main__.main(["--interpreter", interpreter, "--out", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_a_node_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session, "_NODE_S", 0.1)
    hangs = tmp_path / "hangs"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o700)
    with pytest.raises(CollectorError, match="did not come to an end"):
        asyncio.run(capture(str(hangs), tmp_path / "x"))
