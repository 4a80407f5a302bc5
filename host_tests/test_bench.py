"""`make bench`: its arithmetic, its load generator against servers that answer rightly and wrongly, its processes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from coaplet_tools.bench import load, probes, report
from coaplet_tools.bench.__main__ import WINDOWS
from coaplet_tools.bench.processes import Broken
from coaplet_tools.bench.subjects import (
    BLOCKS,
    OBSERVED,
    RESIDENT,
    SECURE,
    SUBJECTS,
    Server,
    Subject,
    free_port,
    serving,
)
from coaplet_tools.setup.places import Unavailable

LINUX = sys.platform == "linux"
LOAD = load.Load(replies=100, lost=0, wrong=0, rps=100, p50_us=5, p99_us=9, load_cpu_us=1, cpu_us=4)

# Arithmetic


def test_a_figure_is_the_median_with_its_spread():
    assert report.with_spread("x", [3, 1, 2, 9, 2.5]) == {"x": 2.5, "x_min": 1, "x_max": 9}


def test_a_ratio_is_taken_round_by_round():
    # the machine was slow in the first two rounds: a ratio of medians would be 20 / 30
    found = report.ratio("x", over=[10, 20, 50, 60, 10], under=[5, 10, 100, 30, 50])
    assert found == {"x": 2, "x_min": 0.2, "x_max": 2}


def test_a_ratio_wants_as_many_rounds_of_both():
    with pytest.raises(ValueError, match="shorter"):
        report.ratio("x", [1, 2], [1])


def loads(**rps: float) -> dict[tuple[str, int], list[load.Load]]:
    """Five rounds of each subject: 100 requests a second, or as given."""
    return {(s.name, w): [replace(LOAD, rps=rps.get(s.name, 100))] * 5 for s in SUBJECTS for w in WINDOWS}


def test_figures_are_flat_and_have_each_ratio_and_subject():
    figures = report.of_loads(loads(server=150, libcoap=50))
    assert (figures["server_vs_libcoap_w8"], figures["server_vs_libcoap_w1"]) == (3, 3)
    assert (figures["server_vs_echo_w8"], figures["asyncio_vs_poll_w8"]) == (1.5, 0.67)
    assert figures["server_w8_rps"] == 150 and figures["libcoap_w1_rps_max"] == 50
    for subject in SUBJECTS:
        assert {f"{subject.name}_w1_{what}" for what in ("rps", "p50_us", "p99_us", "cpu_us")} <= figures.keys()
    assert all(isinstance(value, int | float) for value in figures.values())


def test_a_ratio_of_cpu_time_is_greater_for_who_needs_less():
    several = loads()
    several["echo", 8] = [replace(LOAD, cpu_us=3)] * 5
    assert report.of_loads(several)["server_vs_echo_w8_cpu"] == 0.75


def test_each_goal_is_of_a_figure_that_is_measured():
    measured = report.of_loads(loads()).keys() | RESIDENT.keys()
    measured |= {"viper_vs_bytecode", "peers_10000_vs_10", "peers_10000_vs_10_sent", "coaps_to_coap"}
    measured |= {"blocks_vs_libcoap", "notifications_vs_aiocoap"}  # see below
    assert report.GOALS.keys() <= measured


def test_a_goal_is_reached_at_its_bound():
    least, most = report.Goal(0.65), report.Goal(1.5, most=True)
    assert least.reached(0.65) and least.reached(0.9) and not least.reached(0.64)
    assert most.reached(1.5) and most.reached(1) and not most.reached(1.51)
    assert (str(least), str(most)) == ("at least 0.65", "at most 1.5")


def test_the_table_has_goals_beside_ratios_and_says_which_are_missed():
    figures = report.of_loads(loads(server=70)) | {"rss_growth_bytes": 4096}
    lines = {line.split()[0]: line for line in report.goals_table(figures)[1:]}
    assert lines["server_vs_echo_w8"].split()[1:5] == ["0.7", "0.7", "to", "0.7"]
    assert lines["server_vs_echo_w8"].endswith("at least 0.65  reached")
    assert lines["server_vs_libcoap_w8"].endswith("at least 1.4  MISSED")
    assert lines["rss_growth_bytes"].split() == ["rss_growth_bytes", "4,096", "at", "most", "0", "MISSED"]
    assert lines["server_vs_echo_w1"].endswith("1")  # no goal


def test_the_table_of_subjects_has_a_line_each():
    lines = report.subjects_table(report.of_loads(loads(server=12345)), SUBJECTS, 8)
    assert len(lines) == 1 + len(SUBJECTS)
    assert lines[2].split() == ["coaplet.Loop,", "MicroPython", "12,345", "12,345", "to", "12,345", "5.0", "9.0", "4.0"]


def test_the_tables_have_coaps_beside_coap():
    figures = {"coaps_to_coap": 0.34, "libcoap_coaps_to_coap": 0.7}
    for prefix in SECURE:
        for name, cpu_us in ("coap", 10.0), ("coaps", 30.0):
            figures |= report.with_spread(f"{prefix}{name}_cpu_us", [cpu_us, cpu_us + 1, cpu_us + 3])
            figures |= {f"{prefix}{name}_rps": 12345, f"{prefix}{name}_waited": 98.6}
    goals = {line.split()[0]: line for line in report.goals_table(figures)[1:]}
    assert goals["coaps_to_coap"].endswith("at least 0.35  MISSED")
    assert goals["libcoap_coaps_to_coap"].split()[1:] == ["0.7"]  # to compare with
    lines = report.coaps_table(figures, SECURE)
    assert len(lines) == 1 + 2 * len(SECURE)
    assert lines[2].split()[2:] == ["coaps", "31.0", "30.0", "to", "33.0", "12,345", "99%"]


def test_the_tables_have_a_transfer_in_blocks_and_notifications():
    figures = {"blocks_vs_libcoap": 0.49, "blocks_pair_vs_libcoap": 0.3, "notifications_vs_aiocoap": 10}
    figures |= report.with_spread("blocks_pair_ms", [500.0, 600.0])
    for prefix in BLOCKS:
        figures |= report.with_spread(f"{prefix}blocks_ms", [200.0, 300.0]) | {f"{prefix}blocks_cpu_ms": 44.44}
    for prefix in OBSERVED:
        figures |= report.with_spread(f"{prefix}notifications_cpu_us", [20.0, 30.0])
        figures |= {f"{prefix}notifications_rps": 12345}
    goals = {line.split()[0]: line for line in report.goals_table(figures)[1:]}
    assert goals["blocks_vs_libcoap"].endswith("at least 0.5  MISSED")
    assert goals["blocks_pair_vs_libcoap"].split()[1:] == ["0.3"]  # to compare with
    assert goals["notifications_vs_aiocoap"].endswith("at least 10  reached")
    lines = report.blocks_table(figures, BLOCKS)
    assert len(lines) == 2 + len(BLOCKS)
    assert lines[1].split()[2:] == ["250.0", "200.0", "to", "300.0", "44.4"]
    assert lines[-1].split()[-4:] == ["550.0", "500.0", "to", "600.0"]
    lines = report.notifications_table(figures, OBSERVED)
    assert len(lines) == 1 + len(OBSERVED)
    assert lines[1].split()[2:] == ["25.0", "20.0", "to", "30.0", "12,345"]


# The load generator

ANSWER = b"\xc0\xff21.5"  # Content-Format 0, 21.5


def right(request: bytes) -> bytes:
    """The piggybacked 2.05 to a request (RFC 7252 5.2.1)."""
    return b"\x64\x45" + request[2:8] + ANSWER


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return load.build(tmp_path_factory.mktemp("load"))
    except Broken as reason:
        pytest.skip(str(reason))


class Peer(threading.Thread):
    """A server that gives each request to `answer`, (request, its number from 1 on) to the datagrams to send back."""

    def __init__(self, answer: Callable[[bytes, int], list[bytes]]) -> None:
        super().__init__(daemon=True)
        self.answer = answer
        self.requests: list[bytes] = []
        self.ports: list[int] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def run(self) -> None:
        while True:
            request, peer = self.socket.recvfrom(2048)
            if not request:
                return
            self.requests.append(request)
            self.ports.append(peer[1])
            for datagram in self.answer(request, len(self.requests)):
                self.socket.sendto(datagram, peer)

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self.join(10)
        self.socket.close()


@contextmanager
def peer(answer: Callable[[bytes, int], list[bytes]]) -> Iterator[Peer]:
    server = Peer(answer)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def ask(generator: Path, server: Peer, *options: str, window: int = 1, seconds: float = 20) -> load.Load:
    return load.run(generator, *options, port=server.port, window=window, seconds=seconds, limit_s=60)


def test_the_load_generator_asks_with_con_gets_that_no_two_are_alike(generator: Path):
    with peer(lambda request, n: [right(request)]) as server:
        found = ask(generator, server, "-n", "500", window=4)
    assert (found.replies, found.lost, found.wrong) == (500, 0, 0)
    assert 0 < found.p50_us <= found.p99_us and found.rps > 0 and found.load_cpu_us > 0
    assert {request[:2] + request[8:] for request in server.requests} == {b"\x44\x01\xb1t"}
    assert len({request[2:4] for request in server.requests}) == len(set(server.requests)) == 500
    assert len({request[4:8] for request in server.requests}) == 500  # tokens
    assert len(set(server.ports)) == 1


def test_the_load_generator_keeps_its_window_full(generator: Path):
    waiting: list[bytes] = []

    def eight_at_once(request: bytes, n: int) -> list[bytes]:
        waiting.append(request)
        if len(waiting) < 8:
            return []
        with pytest.raises(BlockingIOError):  # nobody is asked a ninth time before the first has been answered
            server.socket.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
        answers = [right(request) for request in reversed(waiting)]
        waiting.clear()
        return answers

    with peer(eight_at_once) as server:
        found = ask(generator, server, "-n", "80", "-t", "5000", window=8)
    assert (found.replies, found.lost, found.wrong) == (80, 0, 0)


def test_the_load_generator_takes_a_new_port_before_message_ids_run_out(generator: Path):
    with peer(lambda request, n: [right(request)]) as server:
        found = ask(generator, server, "-n", "250", "-m", "100", window=8)
    assert (found.replies, found.lost, found.wrong) == (250, 0, 0)
    assert [server.ports.count(port) for port in dict.fromkeys(server.ports)] == [100, 100, 50]


WRONG = {
    "another payload": lambda request: b"\x64\x45" + request[2:8] + b"\xc0\xff21.6",
    "a payload that goes on": lambda request: right(request) + b"5",
    "no payload": lambda request: b"\x64\x45" + request[2:8] + b"\xc0",
    "an empty payload after its marker": lambda request: b"\x64\x45" + request[2:8] + b"\xc0\xff",
    "4.04": lambda request: b"\x64\x84" + request[2:8] + ANSWER,
    "a CON": lambda request: b"\x44\x45" + request[2:8] + ANSWER,
    "version 2": lambda request: b"\xa4\x45" + request[2:8] + ANSWER,
    "another token": lambda request: b"\x64\x45" + request[2:4] + b"else" + ANSWER,
    "a shorter token": lambda request: b"\x63\x45" + request[2:7] + ANSWER,
    "an empty ACK": lambda request: b"\x60\x00" + request[2:4],
    "an option of length 15": lambda request: b"\x64\x45" + request[2:8] + b"\xcf\xff21.5",
    "an option past the end": lambda request: b"\x64\x45" + request[2:8] + b"\xc9\xff21.5",
    "an extended delta past the end": lambda request: b"\x64\x45" + request[2:8] + b"\xe0\xff",
    "the request itself": lambda request: request,
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG.keys())
def test_the_load_generator_counts_a_wrong_answer(generator: Path, answer: Callable[[bytes], bytes]):
    with peer(lambda request, n: [right(request) if n % 2 else answer(request)]) as server:
        found = ask(generator, server, "-n", "10", window=2)
    assert (found.replies, found.lost, found.wrong) == (5, 0, 5)


def test_an_answer_to_nothing_is_wrong(generator: Path):
    def too_many(request: bytes, n: int) -> list[bytes]:
        other = bytes((request[2], request[3] ^ 0x80))
        return [b"ab", b"\x64\x45" + other + request[4:8] + ANSWER, right(request)]

    with peer(too_many) as server:
        found = ask(generator, server, "-n", "10")
    assert (found.replies, found.lost, found.wrong) == (10, 0, 20)


def test_a_second_answer_is_wrong(generator: Path):
    with peer(lambda request, n: [right(request)] * 2) as server:
        found = ask(generator, server, "-n", "10")
    assert (found.replies, found.lost, found.wrong) == (10, 0, 9)  # the last one's comes when nobody listens


def test_options_of_any_length_may_come_before_the_payload(generator: Path):
    # ETag of 8 bytes; Max-Age; delta 13 + 7 with 13 + 2 bytes; delta 269 + 3 with 269 + 1 bytes
    options = b"\x4812345678\xa1\x3c" + b"\xdd\x07\x02" + bytes(15) + b"\xee\x00\x03\x00\x01" + b"\xff" * 270
    with peer(lambda request, n: [b"\x64\x45" + request[2:8] + options + b"\xff21.5"]) as server:
        found = ask(generator, server, "-n", "10")
    assert (found.replies, found.lost, found.wrong) == (10, 0, 0)


def test_no_payload_is_an_empty_one_unless_the_message_is_malformed(generator: Path):
    # RFC 7252 3, 3.1: a marker without a payload, an option past the end, an extended delta past the end
    ends = (b"", b"\xc0", b"\xff", b"\xc0\xff", b"\xc9a", b"\xe0a")
    with peer(lambda request, n: [b"\x64\x45" + request[2:8] + ends[n % 6]]) as server:
        command = [generator, "-n", "24", str(server.port), "1", "9", "t", ""]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert '"replies": 8, "lost": 0, "wrong": 16' in done.stdout


def test_silence_is_a_loss_and_a_new_port(generator: Path):
    with peer(lambda request, n: [] if n in (3, 6) else [right(request)]) as server:
        found = ask(generator, server, "-n", "10", "-t", "200")
    assert (found.replies, found.lost, found.wrong) == (8, 2, 0)
    assert [server.ports.count(port) for port in dict.fromkeys(server.ports)] == [3, 3, 4]


def test_a_silent_server_does_not_hold_up_the_end(generator: Path):
    with peer(lambda request, n: []) as server:
        found = ask(generator, server, "-t", "20", seconds=0.1, window=3)
    assert found.replies == found.rps == found.p99_us == 0
    assert found.lost >= 3 and found.lost % 3 == 0


def test_an_echo_is_right_when_it_is_the_request(generator: Path):
    with peer(lambda request, n: [request]) as server:
        found = ask(generator, server, "-n", "10", "-e", window=2)
    assert (found.replies, found.wrong) == (10, 0)
    with peer(lambda request, n: [request + b"x", right(request)][n % 2 :][:1]) as server:
        found = ask(generator, server, "-n", "10", "-e", window=2)
    assert (found.replies, found.wrong) == (0, 10)


def test_a_server_that_is_not_there_is_said(generator: Path):
    with pytest.raises(Broken, match=r"(the server is not there|cannot send): Connection refused"):
        load.run(generator, port=free_port(), window=1, seconds=1, limit_s=20)


@pytest.mark.parametrize("arguments", ["1 8 1 t", "0 8 1 t x", "1 0 1 t x", "1 8 0 t x", "-m 60001 1 8 1 t x"])
def test_a_wrong_argument_is_status_2(generator: Path, arguments: str):
    done = subprocess.run([generator, *arguments.split()], capture_output=True, text=True)
    assert done.returncode == 2 and "load" in done.stderr and not done.stdout


def test_a_path_of_several_segments_is_asked_for(generator: Path):
    with peer(lambda request, n: [right(request)]) as server:
        command = [generator, "-n", "1", str(server.port), "1", "9", "sensors/temperature-indoors", "21.5"]
        subprocess.run(command, check=True, capture_output=True)
    assert server.requests[0][8:] == b"\xb7sensors\x0d\x06temperature-indoors"


@pytest.mark.skipif(not LINUX, reason="only Linux tells the CPU time and memory of another process")
def test_cpu_time_and_memory_of_the_server_are_told(generator: Path):
    with peer(lambda request, n: [right(request)]) as server:
        found = ask(generator, server, "-n", "100", "-p", str(os.getpid()))
        with pytest.raises(Broken, match="No such file"):
            ask(generator, server, "-n", "1", "-p", "99999999")
    assert found.rss_bytes > 1_000_000 and found.rss_bytes % 4096 == 0
    # of the main thread, which waits all the while; a server has one thread
    assert found.cpu_us >= 0


# What makes a measurement fail


@pytest.mark.parametrize(
    "every_second, timeout_ms, reason",
    [
        (lambda request: [WRONG["4.04"](request)], 5000, "10 answers were wrong and 0 lost, of 10"),
        (lambda request: [], 100, "0 answers were wrong and 1[0-9] lost"),
    ],
    ids=["wrong", "lost"],
)
def test_wrong_and_lost_answers_break_a_measurement(generator, monkeypatch, every_second, timeout_ms, reason):
    def run(generator: Path, *options: str, **kwargs) -> load.Load:
        return original(generator, "-n", "20", "-t", str(timeout_ms), **kwargs)  # without -p: it has no process

    original = load.run
    monkeypatch.setattr(load, "run", run)
    subject = Subject("x", "server x", lambda port: [])
    with (
        peer(lambda request, n: [right(request)] if n % 2 else every_second(request)) as server,
        pytest.raises(Broken, match=f"server x: {reason}"),
    ):
        load.ask(generator, Server(subject, server.port, 0), 1, 20)


# Servers

ECHO = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", int(sys.argv[1])))
while True:
    data, peer = s.recvfrom(2048)
    if data == b"die":
        sys.exit("it has died")
    s.sendto(data, peer)
"""


def python(script: str) -> Subject:
    return Subject("x", "server x", lambda port: [sys.executable, "-c", script, str(port)], echo=True)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(not LINUX, reason="make bench is for Linux")
def test_a_server_is_gone_after_its_block(generator: Path):
    with serving(python(ECHO)) as server:
        assert is_alive(server.pid)
        found = load.ask(generator, server, 8, 20, 200)
    assert found.replies == 200 and found.cpu_us > 0
    assert not is_alive(server.pid)
    with pytest.raises(KeyboardInterrupt), serving(python(ECHO)) as server:
        raise KeyboardInterrupt
    assert not is_alive(server.pid)


@pytest.mark.skipif(not LINUX, reason="make bench is for Linux")
def test_a_server_that_ends_by_itself_is_said_with_its_last_words(generator: Path):
    dead = python("import sys; sys.exit('no such port')")
    with pytest.raises(Broken, match="server x: ended by itself, status 1: no such port"), serving(dead):
        pass
    with (
        pytest.raises(Broken, match="server x: ended by itself, status 1: it has died"),
        serving(python(ECHO)) as server,
    ):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as killer:
            killer.sendto(b"die", ("127.0.0.1", server.port))
        while True:
            load.ask(generator, server, 1, 1)


# coaps


@pytest.mark.skipif(not LINUX, reason="make bench is for Linux")
def test_each_server_is_asked_over_coap_and_over_coaps():
    try:
        figures = probes.coaps(1)
    except Unavailable as reason:
        pytest.skip(str(reason))
    for prefix in SECURE:
        coap, coaps = (figures[f"{prefix}{scheme}_cpu_us"] for scheme in ("coap", "coaps"))
        assert coap > 0 and coaps > 0 and figures[f"{prefix}coaps_to_coap"] == pytest.approx(coap / coaps, rel=0.1)
        assert figures[f"{prefix}coaps_rps"] > 0 and 0 <= figures[f"{prefix}coaps_waited"] <= 100


BOTH = """
import sys
from coaplet import Loop
loop = Loop(*("coap%s://127.0.0.1:%d" % (s, int(sys.argv[1]) + len(s)) for s in ("", "s")), psk={"bench": "another"})
loop.resource("t")(lambda request, response: response.text(sys.argv[2]))
loop.open()
loop.run_forever()
"""


@pytest.mark.skipif(not LINUX, reason="make bench is for Linux")
@pytest.mark.parametrize("text, reason", [("21.6", "a wrong answer: 6445"), ("21.5", "no session: .* wrong key")])
def test_a_wrong_answer_or_no_session_breaks_the_measurement_of_coaps(monkeypatch, text: str, reason: str):
    subject = Subject("x", "server x", lambda port: [sys.executable, "-c", BOTH, str(port), text])
    monkeypatch.setattr(probes, "SECURE", {"": subject})
    with pytest.raises(Broken, match=f"coaps.py failed: {reason}"):
        probes.coaps(1)


# Blocks and notifications


@pytest.mark.skipif(not LINUX, reason="make bench is for Linux")
def test_1_mb_is_fetched_in_blocks_from_each_server():
    try:
        figures = probes.blocks(1)
    except Unavailable as reason:
        pytest.skip(str(reason))
    for prefix in BLOCKS:
        assert figures[f"{prefix}blocks_ms"] > 0 and figures[f"{prefix}blocks_cpu_ms"] > 0
    ratio = figures["libcoap_blocks_ms"] / figures["blocks_ms"]
    assert figures["blocks_vs_libcoap"] == pytest.approx(ratio, rel=0.1)
    assert figures["blocks_pair_ms"] > 0 and "blocks_pair_vs_libcoap" in figures


CUT_SHORT = """
import sys
from coaplet import Loop
loop = Loop("coap://127.0.0.1:" + sys.argv[1])
loop.resource("t")(lambda request, response: response.text("21.5"))
loop.resource("big")(lambda request, response: response.payload(bytes(5000)))
loop.open()
loop.run_forever()
"""


@pytest.mark.skipif(not LINUX, reason="make bench is for Linux")
def test_another_payload_breaks_the_measurement_of_blocks(monkeypatch):
    subject = Subject("x", "server x", lambda port: [sys.executable, "-c", CUT_SHORT, str(port)])
    monkeypatch.setattr(probes, "BLOCKS", BLOCKS | {"": subject})
    try:
        with pytest.raises(Broken, match="server x: what coap-client fetched"):
            probes.blocks(1)
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.skipif(not LINUX, reason="make bench is for Linux")
def test_each_server_notifies_its_observers():
    try:
        figures = probes.notifications(1)
    except Unavailable as reason:
        pytest.skip(str(reason))
    ours, theirs = (figures[f"{prefix}notifications_cpu_us"] for prefix in OBSERVED)
    assert ours > 0 and figures["notifications_vs_aiocoap"] == pytest.approx(theirs / ours, rel=0.1)
    assert all(figures[f"{prefix}notifications_rps"] > 8 for prefix in OBSERVED)


CHANGING = """
import sys
from coaplet import Loop
loop = Loop("coap://127.0.0.1:" + sys.argv[1])
state = 0
def changing(request, response):
    global state
    state += {new}
    response.text(str(state))
    loop.changed("o")
loop.resource("o", observe={observe})(changing)
loop.open()
loop.run_forever()
"""


@pytest.mark.skipif(not LINUX, reason="make bench is for Linux")
@pytest.mark.parametrize(
    "observe, new, reason",
    [(100, 1, "a wrong notification: 54"), (True, 0, "a wrong notification"), (False, 1, "a wrong notification: 64")],
    ids=["NON", "nothing new", "no observation"],
)
def test_a_wrong_notification_breaks_the_measurement(monkeypatch, observe: int, new: int, reason: str):
    script = CHANGING.format(observe=observe, new=new)
    subject = Subject("x", "server x", lambda port: [sys.executable, "-c", script, str(port)])
    monkeypatch.setattr(probes, "OBSERVED", {"": subject})
    with pytest.raises(Broken, match=f"observers.py failed: {reason}"):
        probes.notifications(1)


# The whole


@pytest.mark.skipif(not LINUX, reason="make bench is for Linux")
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_no_process_is_left_when_it_is_ended(tmp_path: Path, generator: Path, number: int, status: int):
    mark = f"COAPLET_BENCH_TEST={tmp_path}"
    bench = subprocess.Popen(
        [sys.executable, "-u", "-m", "coaplet_tools.bench", "--seconds", "30"],
        env={**os.environ, "COAPLET_BENCH_TEST": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert bench.stdout
    try:
        assert bench.stdout.readline().startswith("bench: round 1"), bench.stdout.read()
        wait_until(lambda: bench.poll() is not None or len(marked(mark)) > 2)  # itself, a server, the load generator
        assert bench.poll() is None, bench.stdout.read()
        bench.send_signal(number)
        assert bench.wait(20) == status
        if status > 0:
            assert not marked(mark)
        wait_until(lambda: not marked(mark))
    finally:
        bench.kill()
        out, _ = bench.communicate()
    assert status < 0 or out == "bench: interrupted\n"


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def marked(mark: str) -> list[int]:
    """The processes that were started with a certain variable in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            pass
    return found
