"""make emulate: the bridge's bookkeeping, and the node on an emulated Pico, read, killed, started again."""

import fcntl
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coaplet.serial import Serial
from coaplet_tools.emulate import flash, session
from coaplet_tools.emulate.__main__ import main
from coaplet_tools.emulate.bridge import COLLECTOR, Bridge
from coaplet_tools.emulate.chip import Chip, Line
from coaplet_tools.setup.places import BUILD

CON, NON, ACK, RST = 0, 1, 2, 3
GET, POST, CONTENT, CHANGED = 1, 2, 69, 68
IMAGE = BUILD / "firmware/RPI_PICO/firmware.uf2"


def message(kind: int, code: int, mid: int, token: bytes = b"", rest: bytes = b"") -> bytes:
    return bytes((0x40 | kind << 4 | len(token), code, mid >> 8, mid & 255)) + token + rest


# --- the bridge ---


class Ends:
    """A bridge, what it sent to the board and to peers, and a clock."""

    def __init__(self) -> None:
        self.to_board: list[bytes] = []
        self.to_peers: list[tuple[bytes, object]] = []
        self.now = 0.0
        self.bridge = Bridge(
            self.to_board.append, lambda data, peer: self.to_peers.append((data, peer)), lambda: self.now
        )

    def asks(self, peer: object, data: bytes) -> bytes:
        self.bridge.from_peer(data, peer)
        return self.to_board.pop()

    def says(self, data: bytes) -> tuple[bytes, object]:
        self.bridge.from_board(data)
        return self.to_peers.pop()


def parts(data: bytes) -> tuple[int, bytes, bytes]:
    """Return the Message ID, the token and the rest."""
    n = data[0] & 15
    return data[2] << 8 | data[3], data[4 : 4 + n], data[4 + n :]


def test_equal_mids_and_tokens_of_two_clients_are_two_requests_and_each_gets_its_answer():
    """RFC 7252 4.5, 5.3.1: the board has one peer."""
    ends = Ends()
    asked = [ends.asks(peer, message(CON, GET, 7, b"t", b"\xb1x")) for peer in ("a", "b")]
    (mid_a, token_a, rest), (mid_b, token_b, _) = map(parts, asked)
    assert mid_a != mid_b and token_a != token_b and rest == b"\xb1x"
    assert ends.says(message(ACK, CONTENT, mid_b, token_b, b"\xff2")) == (message(ACK, CONTENT, 7, b"t", b"\xff2"), "b")
    assert ends.says(message(ACK, CONTENT, mid_a, token_a, b"\xff1")) == (message(ACK, CONTENT, 7, b"t", b"\xff1"), "a")


def test_a_retransmission_is_the_same_message_until_exchange_lifetime_is_over():
    """RFC 7252 4.2, 4.8.2."""
    ends = Ends()
    request = message(CON, GET, 7, b"t")
    first = ends.asks("a", request)
    ends.now = 246
    assert ends.asks("a", request) == first
    ends.now = 248
    assert parts(ends.asks("a", request))[0] != parts(first)[0]


def test_a_separate_response_finds_who_asked_and_his_ack_finds_the_board():
    """RFC 7252 5.2.2."""
    ends = Ends()
    mid, token, _ = parts(ends.asks("a", message(CON, GET, 7, b"long one")))
    assert ends.says(message(ACK, 0, mid)) == (message(ACK, 0, 7), "a")
    assert ends.says(message(CON, CONTENT, 900, token)) == (message(CON, CONTENT, 900, b"long one"), "a")
    assert ends.asks("a", message(ACK, 0, 900)) == message(ACK, 0, 900)
    ends.bridge.from_peer(message(ACK, 0, 900), "b")  # to whom it was not sent
    assert not ends.to_board and ends.bridge.counts.stray == 1


def test_what_the_board_asks_goes_to_the_collector_and_the_answer_back():
    ends = Ends()
    request = message(CON, POST, 5, b"tok", b"\xff1")
    assert ends.says(request) == (request, COLLECTOR)
    assert ends.asks(COLLECTOR, message(ACK, CHANGED, 5, b"tok")) == message(ACK, CHANGED, 5, b"tok")
    # a separate one has a Message ID that a client's may equal
    first = ends.asks("a", message(CON, GET, 9))
    second = ends.asks(COLLECTOR, message(CON, CHANGED, 9, b"tok"))
    assert parts(first)[0] != parts(second)[0] and parts(second)[1] == b"tok"
    assert ends.says(message(ACK, 0, parts(second)[0])) == (message(ACK, 0, 9), COLLECTOR)


def test_what_is_no_coap_or_for_nobody_is_counted_and_dropped():
    ends = Ends()
    for data in (b"", b"\x40\x01\x00", b"\x00\x01\x00\x01", b"\x49\x01\x00\x01123456789", b"\x42\x01\x00\x01a"):
        ends.bridge.from_peer(data, "a")
    ends.bridge.from_board(message(ACK, CONTENT, 77))
    ends.bridge.from_board(message(NON, CONTENT, 78, b"none"))
    assert not ends.to_board and not ends.to_peers
    assert (ends.bridge.counts.malformed, ends.bridge.counts.stray) == (5, 2)


def test_message_ids_do_not_run_out_while_new_ones_come():
    ends = Ends()
    seen = {parts(ends.asks("a", message(NON, GET, i & 0xFFFF)))[0] for i in range(20000)}
    assert len(seen) == 20000


# --- the board ---


@pytest.fixture
def image(peer: Callable[[str], str]) -> Path:
    """The image; where it cannot be built, the test is skipped."""
    peer("micropython-rp2040")
    return IMAGE


class Process:
    """`python -m coaplet_tools.emulate`, with its lines as they come."""

    def __init__(self, folder: Path, port: int, collector: int, *more: str, board: str = "RPI_PICO") -> None:
        words = ["--dir", folder, "--port", port, "--collector", f"coap://127.0.0.1:{collector}", *more]
        self.port = port
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "coaplet_tools.emulate", board, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until(self, pattern: str, limit_s: float = 60) -> str:
        """Return the first line that has the pattern."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            for line in self.lines:
                if re.search(pattern, line):
                    return line
            if self._process.poll() is not None and not self._reader.is_alive():
                break
            self._reader.join(0.05)
        raise AssertionError(f"{pattern!r} did not come:\n" + "\n".join(self.lines))

    def end(self, how: signal.Signals) -> int:
        self._process.send_signal(how)
        status = self._process.wait(30)
        self._reader.join(10)
        return status

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    """Two UDP ports that nobody has."""
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in socks:
        sock.bind(("127.0.0.1", 0))
    found = [sock.getsockname()[1] for sock in socks]
    for sock in socks:
        sock.close()
    return found[0], found[1]


@pytest.fixture
def emulate(image: Path, tmp_path: Path, ports: tuple[int, int]) -> Iterator[Callable[..., Process]]:
    """Start the board on the flash of this test, as often as wanted, one after the other."""
    started: list[Process] = []

    def start(*more: str) -> Process:
        started.append(Process(tmp_path / "board", *ports, *more))
        started[-1].until("the board serves")
        return started[-1]

    yield start
    for process in started:
        process.end(signal.SIGKILL)


@pytest.fixture
def get(peer: Callable[[str], str], ports: tuple[int, int]) -> Callable[..., str]:
    """Ask the board with libcoap's client."""

    def ask(path: str, *options: str) -> str:
        uri = f"coap://127.0.0.1:{ports[0]}/{path}"
        words = [peer("coap-client"), "-B", "20", *(options or ("-m", "get")), uri]
        return subprocess.run(words, capture_output=True, text=True, timeout=30).stdout.rstrip("\n")

    return ask


def test_the_node_is_read_posts_its_logs_survives_a_power_cut_and_stops(emulate, get, ports, tmp_path: Path):
    """One test, as each start of the board takes seconds."""
    collector = subprocess.Popen(
        [
            *(sys.executable, "-m", "coaplet_tools.collector", "serve", "--json"),
            *("--listen", f"coap://127.0.0.1:{ports[1]}", "--db", str(tmp_path / "collector.db")),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        board = emulate()
        # all that it links to, each by a request of its own
        links = re.findall(r"<(/[^>]*)>", get(".well-known/core"))
        assert {"/sensors", "/sensors/temperature", "/sensors/adc1", "/info", "/config", "/led", "/time"} <= set(links)
        answers = {link: get(link[1:]) for link in links}
        # its clock is not set: 5.03, which libcoap's client writes to stderr
        assert [link for link in links if not answers[link]] == ["/time"]
        assert answers["/sensors/temperature"] == "27"
        sensors = json.loads(answers["/sensors"])
        assert sensors["adc1"] == {"value": 1.65, "unit": "V"} and sensors["memory-free"]["value"] > 50000
        info = json.loads(answers["/info"])
        assert (info["board"], info["boot"]) == ("RPI_PICO", 1)
        assert get("led", "-m", "put", "-e", "1") == "" and get("led") == "1"
        # the collector has what the node had to say
        found = records(collector, lambda found: {"log", "temperature", "uptime"} <= set(found))
        log = found["log"]
        assert (log["node"], log["module"], log["msg"]) == ("pico", "boot", "up")
        assert log["body"]["reset"] == "power" and found["temperature"]["value"] == 27
        # stored, and then the power fails
        assert get("config", "-m", "put", "-t", "50", "-e", '{"name":"kitchen"}') == "name: at next start"
        board.end(signal.SIGKILL)
        board = emulate()
        assert "kitchen, boot 2" in board.until("node: up")
        info = json.loads(get("info"))
        assert (info["name"], info["boot"]) == ("kitchen", 2)
        assert board.end(signal.SIGTERM) == 0
        assert "node: stopped" in board.lines
        assert re.search(r"stopped after [\d.]+ s .*; 0 damaged frames, 0 malformed", board.lines[-1])
    finally:
        collector.kill()
        collector.communicate()
    files = flash.read((tmp_path / "board/flash.bin").read_bytes())
    assert json.loads(files["/state/boot.json"]) == {"boot": 2}
    assert json.loads(files["/state/config.good.json"])["name"] == "kitchen"


def records(collector: subprocess.Popen[str], enough: Callable[[dict[str, dict]], bool]) -> dict[str, dict]:
    """Read events of the collector until there are enough; return the first log and the first reading of each path."""
    assert collector.stdout
    found: dict[str, dict] = {}
    for line in collector.stdout:
        event = json.loads(line)
        if event.get("event") == "record":
            found.setdefault(event["path"] or event["kind"], event)
            if enough(found):
                return found
    raise AssertionError(f"the collector ended; it had {found}")


def test_a_wrong_frame_and_noise_on_the_line_are_passed_over(image: Path, tmp_path: Path):
    """RFC 1662 C: a frame whose FCS does not fit is dropped, and the next one found."""
    with session.open_flash(tmp_path / "flash.bin") as file:
        chip = Chip(image, file.read())
    printed = bytearray()
    chip.console.receive = printed.extend
    chip.start()
    line = Line(chip)
    sent = bytearray()
    line.receive = sent.append
    chip.run_until(lambda: b"node: serving" in printed, 60, "serve")
    frames = bytearray()
    made = Serial(_Written(frames), 1152)
    made.send(message(CON, GET, 1, b"1", b"\xb3led"), None)
    damaged = bytes(frames[:-4]) + bytes((frames[-4] ^ 1,)) + bytes(frames[-3:])
    made.send(message(CON, GET, 2, b"2", b"\xb3led"), None)
    good = bytes(frames[len(damaged) :])
    line.write(b"noise \xdb\xdb" + damaged + b"more" + good)
    chip.run_until(lambda: message(ACK, CONTENT, 2, b"2") in sent, 60, "answer")
    assert message(ACK, CONTENT, 1, b"1") not in sent


class _Written:
    def __init__(self, frames: bytearray) -> None:
        self._frames = frames

    def readinto(self, buf: bytearray) -> int | None:
        return None

    def write(self, data: memoryview) -> int:
        self._frames += data
        return len(data)


# --- the command line ---


def test_no_board_and_one_that_cannot_be_emulated_are_wrong_usage(capsys):
    assert main([]) == 2 and "RPI_PICO" in capsys.readouterr().err
    assert main(["ESP32_GENERIC"]) == 2 and "ESP32_GENERIC cannot" in capsys.readouterr().err


def test_a_collector_that_is_not_on_this_machine_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        main(["RPI_PICO", "--collector", "coap://192.0.2.1"])
    assert end.value.code == 2 and "127.0.0.1" in capsys.readouterr().err


def test_a_flash_without_a_file_system_is_refused_in_one_line(tmp_path: Path, capsys):
    (tmp_path / "flash.bin").write_bytes(b"\0" * flash.SIZE)
    assert main(["RPI_PICO", "--dir", str(tmp_path)]) == 1
    assert "no file system" in capsys.readouterr().err
    assert (tmp_path / "flash.bin").read_bytes() == b"\0" * flash.SIZE


def test_a_second_board_on_the_same_flash_is_refused(tmp_path: Path, capsys):
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["RPI_PICO", "--dir", str(tmp_path)]) == 1
    assert "runs already" in capsys.readouterr().err
