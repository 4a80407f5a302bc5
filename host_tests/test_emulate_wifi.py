"""make emulate BOARD=RPI_PICO_W: the network behind the radio, by packets made by hand; and the node on it.

The node's test needs an image of micropython.org, which no package carries: PICO_W_UF2=<file> names one.
"""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rp2040py.external.cyw43 import net
from rp2040py.external.cyw43.nat import GATEWAY_IP, GATEWAY_MAC, GUEST_IP

from coaplet_tools.emulate import flash, session
from coaplet_tools.emulate.__main__ import main
from coaplet_tools.emulate.chip import Chip
from coaplet_tools.emulate.link import bound
from coaplet_tools.emulate.models import PICO_W
from coaplet_tools.emulate.radio import Radio
from coaplet_tools.emulate.wifi_link import WifiLink
from test_emulate import Process, records

MAC = b"\x02board"
_JOINING_S = 180  # of the world, at most; 16 on a machine of its own
FAR_IP = bytes((192, 0, 2, 1))


class Medium:
    """What a link needs of a radio."""

    def __init__(self) -> None:
        self.network: WifiLink | None = None
        self.given: list[bytes] = []
        self.waiting = 0

    def give(self, frame: bytes) -> None:
        self.given.append(frame)


class Board:
    """A board by hand: it sends datagrams through its radio, and reads what the link gives it."""

    def __init__(self, collector: int) -> None:
        self.radio = Medium()
        self.front = bound(0)
        self.link = WifiLink(self.radio, self.front, ("127.0.0.1", collector))  # pyright: ignore[reportArgumentType]

    def sends(self, payload: bytes, to: int, own: int = 5683, ip: bytes = GATEWAY_IP) -> None:
        self.sends_ip(net.IP_PROTO_UDP, net.pack_udp(GUEST_IP, ip, own, to, payload), ip)

    def sends_ip(self, proto: int, payload: bytes, ip: bytes = GATEWAY_IP) -> None:
        self.sends_frame(net.ETHERTYPE_IPV4, net.pack_ipv4(GUEST_IP, ip, proto, payload))

    def sends_frame(self, kind: int, payload: bytes) -> None:
        self.link.handle_outbound_ethernet_frame(net.pack_ethernet(GATEWAY_MAC, MAC, kind, payload))

    def gets(self) -> tuple[int, int, bytes]:
        """Return the source port, the destination port and the payload of the one datagram given to the board."""
        for sock in self.link.sockets:
            self.link.take(sock)
        (frame,) = self.radio.given
        self.radio.given.clear()
        eth = net.parse_ethernet(frame)
        assert eth and (eth.dst_mac, eth.src_mac) == (MAC, GATEWAY_MAC)
        assert net.internet_checksum(eth.payload[:20]) == 0
        ip = net.parse_ipv4(eth.payload)
        assert ip and (ip.src_ip, ip.dst_ip) == (GATEWAY_IP, GUEST_IP)
        pseudo = GATEWAY_IP + GUEST_IP + struct.pack(">HH", net.IP_PROTO_UDP, len(ip.payload))
        assert net.internet_checksum(pseudo + ip.payload) == 0  # RFC 768
        udp = net.parse_udp(ip.payload)
        assert udp
        return udp.src_port, udp.dst_port, udp.payload


def peer_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(5)
    return sock


def port_of(sock: socket.socket) -> int:
    return sock.getsockname()[1]


@pytest.fixture
def peers() -> Iterator[tuple[socket.socket, socket.socket]]:
    socks = peer_socket(), peer_socket()
    yield socks
    for sock in socks:
        sock.close()


@pytest.fixture
def board(peers: tuple[socket.socket, socket.socket]) -> Iterator[Board]:
    """A board that has joined; the first of the peers is its collector."""
    made = Board(port_of(peers[0]))
    made.sends_frame(net.ETHERTYPE_ARP, b"")
    yield made
    made.link.close()
    made.front.close()


# --- the network ---


def test_a_client_reaches_the_boards_port_5683_and_gets_its_answer_from_where_it_asked(board: Board, peers):
    client = peers[1]
    client.sendto(b"request", board.front.getsockname())
    source, own, payload = board.gets()
    assert (source, own, payload) == (port_of(client), 5683, b"request")
    board.sends(b"answer", to=source)
    assert client.recvfrom(99) == (b"answer", board.front.getsockname())


def test_two_clients_are_two_ports_of_the_gateway(board: Board, peers):
    for client in peers[1], peer_socket():
        client.sendto(b"request", board.front.getsockname())
        source, _, _ = board.gets()
        assert source == port_of(client)
    client.close()


def test_the_gateways_port_is_that_of_this_machine_through_one_lasting_socket_for_each_port_of_the_board(board, peers):
    other = peers[1]
    seen = set()
    for text in b"one", b"two":
        board.sends(text, to=port_of(other), own=40000)
        payload, address = other.recvfrom(99)
        assert payload == text
        seen.add(address)
    assert len(seen) == 1 and address != board.front.getsockname()
    # unasked, and long after: the socket lasts
    for text in b"three", b"four":
        other.sendto(text, address)
        assert board.gets() == (port_of(other), 40000, text)
    board.sends(b"five", to=port_of(other), own=40001)
    assert other.recvfrom(99)[1] not in seen


def test_the_collector_is_the_gateways_port_5685_wherever_it_is(board: Board, peers):
    collector = peers[0]
    board.sends(b"record", to=5685)
    assert collector.recvfrom(99) == (b"record", board.front.getsockname())
    collector.sendto(b"thanks", board.front.getsockname())
    assert board.gets() == (5685, 5683, b"thanks")


def test_dns_tcp_and_other_hosts_are_dropped_and_counted(board: Board, peers):
    listener = socket.create_server(("127.0.0.1", 0))
    board.sends(b"name?", to=53)
    board.sends(b"name?", to=53, ip=FAR_IP)
    syn = net.pack_tcp(GUEST_IP, GATEWAY_IP, 40000, port_of(listener), seq=1, ack=0, flags=net.TCP_SYN, window=1000)
    board.sends_ip(net.IP_PROTO_TCP, syn)
    board.sends(b"time?", to=port_of(peers[1]), ip=FAR_IP)
    board.sends(b"anybody?", to=port_of(peers[1]), ip=bytes((255,) * 4))
    board.sends(b"name!", to=5353, ip=bytes((224, 0, 0, 251)))
    board.sends_ip(1, b"\x08\0\0\0\0\0\0\0")  # a ping
    board.sends_frame(0x86DD, bytes(40))  # IPv6
    fragment = bytearray(net.pack_ipv4(GUEST_IP, GATEWAY_IP, net.IP_PROTO_UDP, bytes(8)))
    fragment[6] = 0x20  # RFC 791 3.1: more fragments
    board.sends_frame(net.ETHERTYPE_IPV4, bytes(fragment))
    board.link.handle_outbound_ethernet_frame(b"short")
    assert board.link.dropped == {"DNS": 2, "TCP": 1, "for other hosts": 1, "multicast": 2, "other": 4}
    assert board.link.sockets == (board.front,) and not board.radio.given
    listener.setblocking(False)
    peers[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    with pytest.raises(BlockingIOError):
        peers[1].recvfrom(99)
    listener.close()


def test_a_peer_that_the_gateway_cannot_stand_for_is_dropped_and_counted(board: Board):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.2", 0))
        stranger.sendto(b"request", board.front.getsockname())
        board.link.take(board.front)
    assert not board.radio.given and board.link.dropped == {"stray": 1}


def test_nothing_is_sent_to_a_board_that_has_not_joined_or_lost_its_power_or_has_too_much_waiting(board: Board, peers):
    def given() -> int:
        peers[1].sendto(b"request", board.front.getsockname())
        board.link.take(board.front)
        n = len(board.radio.given)
        board.radio.given.clear()
        return n

    assert given() == 1
    board.link.reset()  # as the radio does when its power is cut
    assert given() == 0
    board.sends_frame(net.ETHERTYPE_ARP, b"")
    assert given() == 1
    board.radio.waiting = 64
    assert given() == 0
    assert "2 lost" in board.link.report()


def test_the_boards_ports_are_bounded_and_the_one_unused_for_longest_gives_way(board: Board, peers):
    for own in range(40000, 40064):
        board.sends(b"", to=port_of(peers[1]), own=own)
    board.sends(b"", to=port_of(peers[1]), own=40000)
    before = board.link.sockets
    board.sends(b"", to=port_of(peers[1]), own=50000)
    after = board.link.sockets
    assert len(before) == len(after) == 65
    (gone,) = set(before) - set(after)
    assert gone.fileno() == -1 and gone is before[1]  # that of 40001


def test_arp_and_dhcp_are_answered(board: Board):
    arp = net.pack_arp(net.ARP_OP_REQUEST, MAC, GUEST_IP, bytes(6), GATEWAY_IP)
    board.sends_frame(net.ETHERTYPE_ARP, arp)
    eth = net.parse_ethernet(board.radio.given.pop())
    reply = eth and net.parse_arp(eth.payload)
    assert reply and (reply.op, reply.sender_mac, reply.sender_ip) == (net.ARP_OP_REPLY, GATEWAY_MAC, GATEWAY_IP)
    discover = net.pack_dhcp(net.DHCP_OP_REQUEST, 7, MAC, bytes(4), {53: bytes((net.DHCP_MSG_DISCOVER,))})
    board.sends(discover, to=67, own=68, ip=bytes((255,) * 4))
    assert len(board.radio.given) == 1 and not board.link.dropped


# --- the radio ---


def test_a_pin_of_the_radio_reads_as_it_is_driven_until_its_power_is_cut():
    """The board's LED hangs on one. Messages as cyw43-driver writes them (cyw43_ll.c)."""
    radio = Radio()
    bus = radio.device.bus

    def asks(command: int, words: bytes) -> int:
        body = struct.pack("<IIII", command, len(words), 7 << 16, 0) + words
        size = 12 + len(body)
        bus._write_wlan(struct.pack("<HHBBBBI", size, ~size & 0xFFFF, 0, 0, 0, 12, 0) + body)
        return int.from_bytes(bus._read_wlan(2048).to_bytes(2048, "little")[28:32], "little")

    def pins() -> int:
        return asks(262, b"ccgpioin\0")

    assert pins() == 0
    asks(263, b"gpioout\0" + struct.pack("<II", 1, 1))
    asks(263, b"gpioout\0" + struct.pack("<II", 2, 2))
    asks(263, b"gpioout\0" + struct.pack("<II", 4, 0))
    assert pins() == 3
    asks(263, b"gpioout\0" + struct.pack("<II", 1, 0))
    assert pins() == 2
    assert asks(262, b"mcast_list\0\0") == 0
    bus.power_off()
    assert pins() == 0


def test_the_network_forgets_a_board_whose_radio_has_no_power():
    radio = Radio()
    with bound(0) as front:
        link = WifiLink(radio, front, ("127.0.0.1", 5685))
        link.handle_outbound_ethernet_frame(net.pack_ethernet(GATEWAY_MAC, MAC, net.ETHERTYPE_ARP, b""))
        for lost in 0, 1:
            front.sendto(b"request", front.getsockname())
            link.take(front)
            assert f"{lost} lost" in link.report()
            radio.device.bus.power_off()


def test_frames_to_the_board_do_not_raise_what_it_may_send():
    """The board's driver stops where its count of sent frames equals the radio's credit, both modulo 256."""
    radio = Radio()
    bus = radio.device.bus
    for _ in range(300):
        radio.give(bytes(60))
        frame = bus._read_wlan(2048).to_bytes(2048, "little")
        assert frame[9] == 1


# --- the image, the flash ---


def test_without_an_image_one_line_says_which_one_and_where_it_is_had(capsys):
    assert main(["RPI_PICO_W"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search(r"UF2=<RPI_PICO_W-.*v1\.25\.0\.uf2.*micropython\.org/download/", said)


def uf2(content: bytes, family: int = 0xE48BFF56) -> bytes:
    head = struct.pack("<8I", 0x0A324655, 0x9E5D5157, 0x2000, 0x10000000, 256, 0, 1, family)
    return head + content.ljust(476, b"\0") + struct.pack("<I", 0x0AB16F30)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("firmware.uf2", uf2(b"Raspberry Pi Pico with RP2040")),
        ("RPI_PICO-20250415-v1.25.0.uf2", uf2(b"Raspberry Pi Pico W")),
        ("RPI_PICO_W-20240101-v1.22.0.uf2", uf2(b"Raspberry Pi Pico W")),
        ("firmware.uf2", uf2(b"Raspberry Pi Pico 2 W", 0xE48BFF59)),
        ("firmware.uf2", b"none"),
        ("firmware.bin", b""),
    ],
)
def test_an_image_that_is_none_of_a_pico_w_is_refused_in_one_line(tmp_path: Path, capsys, name: str, data: bytes):
    (tmp_path / name).write_bytes(data)
    assert main(["RPI_PICO_W", "--uf2", str(tmp_path / name), "--dir", str(tmp_path / "board")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and name in said
    assert not (tmp_path / "board").exists()


def test_its_flash_has_library_and_node_of_today_and_the_configuration_of_the_first_day(tmp_path: Path):
    path = tmp_path / "flash.bin"
    session.open_flash(path, PICO_W).close()
    image = path.read_bytes()
    files = flash.read(image)
    assert len(image) == 848 * 1024
    assert {"/main.py", "/lib/board.mpy", "/lib/node/wifi.mpy", "/lib/coaplet/server.mpy"} <= set(files)
    assert files["/lib/coaplet/wire.mpy"][:2] == b"M\x06"
    config = json.loads(files["/state/config.json"])
    assert (config["wifi_name"], len(config["wifi_password"])) == ("RP2040PY-GUEST", 8)
    assert config["collector"] == "coap://10.0.0.1:5685"
    changed = {"/lib/board.mpy": b"old", "/lib/node/gone.mpy": b"old", "/state/config.json": b"{}", "/mine.py": b""}
    path.write_bytes(flash.change(image, changed))
    session.open_flash(path, PICO_W).close()
    assert flash.read(path.read_bytes()) == {**files, "/state/config.json": b"{}", "/mine.py": b""}


def test_the_flash_of_another_board_is_refused_in_one_line(tmp_path: Path, capsys):
    image = tmp_path / "firmware.uf2"
    image.write_bytes(uf2(b"Raspberry Pi Pico W"))
    (tmp_path / "flash.bin").write_bytes(flash.build({}))
    assert main(["RPI_PICO_W", "--uf2", str(image), "--dir", str(tmp_path)]) == 1
    assert "no flash of RPI_PICO_W" in capsys.readouterr().err


def test_without_a_link_the_radio_has_no_network(tmp_path: Path):
    """rp2040py's own bridge would carry what the board sends to real hosts."""
    image = tmp_path / "firmware.uf2"
    image.write_bytes(uf2(b"Raspberry Pi Pico W"))
    radio = Chip(image, model=PICO_W).radio
    assert radio and radio.network is None


# --- the board ---


@pytest.fixture
def image() -> Path:
    """The image; where none is given, the test is skipped."""
    given = os.environ.get("PICO_W_UF2")
    if not given:
        pytest.skip("PICO_W_UF2= names no image of micropython.org for the Pico W")
    return Path(given)


def lost_of(requests: int, port: int) -> int:
    """Ask for the LED so many times; return how often it had to be asked again.

    Two datagrams at once are one too many for a socket of lwIP before MicroPython 1.26: the collector's answers to the
    node come to the same one.
    """
    lost = 0
    with peer_socket() as client:
        client.settimeout(2)
        for mid in range(requests):
            head = bytes((mid >> 8, mid & 255))
            answer = b""
            while answer[:4] != b"\x60\x45" + head:
                client.sendto(b"\x40\x01" + head + b"\xb3led", ("127.0.0.1", port))
                try:
                    answer = client.recv(99)
                except TimeoutError:
                    lost += 1
                    assert lost < 20
    print(f"{lost} of {requests} were lost")
    return lost


def test_the_node_joins_is_read_posts_its_logs_joins_again_after_a_reset_and_stops(
    image: Path, peer: Callable[[str], str], tmp_path: Path
):
    """One test, as each start of the radio takes a quarter of a minute."""
    socks = peer_socket(), peer_socket()
    port, collector_port = map(port_of, socks)
    for sock in socks:
        sock.close()

    def get(path: str, *options: str) -> str:
        words = [peer("coap-client"), "-B", "20", *(options or ("-m", "get")), f"coap://127.0.0.1:{port}/{path}"]
        return subprocess.run(words, capture_output=True, text=True, timeout=30).stdout.rstrip("\n")

    words = ["serve", "--json", "--listen", f"coap://127.0.0.1:{collector_port}", "--db", tmp_path / "collector.db"]
    command = [sys.executable, "-m", "coaplet_tools.collector", *map(str, words)]
    collector = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    board = Process(tmp_path / "board", port, collector_port, "--uf2", str(image), board="RPI_PICO_W")
    try:
        board.until("the board serves", _JOINING_S)
        board.until(r"node: wifi: joined, 10\.0\.0\.2, ")
        links = re.findall(r"<(/[^>]*)>", get(".well-known/core"))
        assert {"/sensors", "/sensors/temperature", "/signal", "/info", "/config", "/led", "/time"} <= set(links)
        answers = {link: get(link[1:]) for link in links}
        # its clock is not set: 5.03, which libcoap's client writes to stderr
        assert [link for link in links if not answers[link]] == ["/time"]
        assert answers["/sensors/temperature"] == "27"
        assert json.loads(answers["/sensors"])["memory-free"]["value"] > 50000
        info = json.loads(answers["/info"])
        assert (info["board"], info["boot"]) == ("RPI_PICO_W", 1)
        assert get("led", "-m", "put", "-e", "1") == "" and get("led") == "1"
        found = records(collector, lambda found: {"log", "temperature", "uptime"} <= set(found))
        log = found["log"]
        assert (log["node"], log["module"], log["msg"]) == ("pico-w", "boot", "up")
        assert found["temperature"]["value"] == 27
        # more frames than the radio's credit can count
        assert lost_of(300, port) < 10
        assert not [line for line in board.lines if "CYW43" in line]
        # stored, and then a reset by program
        assert get("config", "-m", "put", "-t", "50", "-e", '{"name":"kitchen"}') == "name: at next start"
        mpremote = [sys.executable, "-m", "mpremote", "connect", str(tmp_path / "board/console"), "reset"]
        subprocess.run(mpremote, check=True, capture_output=True, timeout=60)
        assert "kitchen, boot 2" in board.until("node: up, kitchen", _JOINING_S)
        assert json.loads(get("info"))["name"] == "kitchen"
        assert board.end(signal.SIGTERM) == 0
        assert "node: stopped" in board.lines
        assert re.search(r"stopped after [\d.]+ s .*; dropped: \d+ DNS, 0 TCP, 0 for other hosts", board.lines[-1])
    finally:
        board.end(signal.SIGKILL)
        collector.kill()
        collector.communicate()
    files = flash.read((tmp_path / "board/flash.bin").read_bytes())
    assert json.loads(files["/state/config.good.json"])["name"] == "kitchen"
