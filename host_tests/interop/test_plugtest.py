"""The ETSI plugtests: the examples' server and client against each other, and against libcoap and aiocoap.

Most of it is waiting, for notifications that must come or must not. So all that takes long is started at once, each
client with a server of its own where its cases change what others observe; each test then looks at one run.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from coaplet_tools.setup.places import ROOT, Unavailable
from coaplet_tools.setup.state import program
from interop.processes import PROGRAMS, free_port, run_ours, running
from interop.relay import Relay, Rule
from runtimes import RUNTIMES, Runtime

EXAMPLES = ROOT / "firmware/examples"
ENV = {
    **os.environ,
    "PYTHONPATH": str(ROOT / "lib"),
    "MICROPYPATH": f".frozen:{ROOT / 'lib'}",
    "PYTHONUNBUFFERED": "1",
    "AIOCOAP_CLIENT_TRANSPORT": "udp6",
    "AIOCOAP_SERVER_TRANSPORT": "udp6",
}
FAST = RUNTIMES[:3]
I386 = FAST[2]
PERIOD_MS = "100"
SIXTEEN_KIB = "".join(f"{i:04d}: each line has 32 bytes...\n" for i in range(512)).encode()

# In groups that take about equally long; left out are CORE_24 to 29 (a proxy's), and numbers that are not in use
GROUPS = ["CORE LINK BLOCK OBS_02 OBS_13", "OBS_01 OBS_04 OBS_06 OBS_07 OBS_08 OBS_09", "OBS_05 OBS_1"]
CASES = {
    *[f"CORE_{n:02d}" for n in (*range(1, 24), 31)],
    *[f"LINK_{n:02d}" for n in range(1, 10)],
    *[f"BLOCK_{n:02d}" for n in range(1, 7)],
    *[f"OBS_{n:02d}" for n in (1, 2, *range(4, 15))],
}
# Each runtime is once a client and once a server
PAIRS = {
    f"{client.name}-{server.name}": (client, server) for client, server in zip(FAST, FAST[1:] + FAST[:1], strict=True)
}
# What others' servers have, and where
LIBCOAP = {
    "messages": "BLOCK_01 BLOCK_02 BLOCK_03 BLOCK_06 CORE_03 CORE_01 CORE_02 CORE_03 CORE_04 CORE_05 CORE_06 CORE_07 "
    "CORE_08 CORE_10 CORE_12 CORE_15 CORE_23 CORE_31 LINK_01 1000 large=example_data",
    "separate": "CORE_09 CORE_11 CORE_16 CORE_17 1000 separate=async?1",
    "observing": "OBS_01 OBS_02 OBS_10 1000 obs=time obs-non=time",
    "forgetting": "OBS_04 1000 obs=time",
    "cancelling": "OBS_06 OBS_12 1000 obs=time",
}
AIOCOAP = {
    "messages": "BLOCK_01 BLOCK_02 BLOCK_03 BLOCK_06 CORE_01 CORE_05 CORE_10 CORE_12 CORE_14 CORE_15 CORE_31 LINK_01 "
    "100 test=text query=inspect/q large=bulk large-update=store/update",
    "storing": "CORE_03 CORE_07 CORE_02 CORE_03 CORE_06 100 test=store/test",
    "separate": "CORE_09 CORE_11 CORE_16 CORE_17 100 separate=slow",
    "observing": "OBS_01 OBS_02 OBS_06 OBS_10 OBS_12 100 obs=clock obs-non=clock",
    "forgetting": "OBS_04 100 obs=clock",
}


def run(command: list[str], stdin: bytes = b"") -> str:
    done = subprocess.run(command, env=ENV, input=stdin, capture_output=True, timeout=110)
    return (done.stdout + done.stderr).decode()


def losing_a_tenth(of_the_client: bool, of_the_server: bool) -> Rule:
    chance = random.Random(7959).random
    return lambda datagram: not (of_the_client if datagram.from_client else of_the_server) or chance() >= 0.1


class Runs:
    """Servers, which live until all is over, and what runs against them in the background, by name."""

    def __init__(self, folders: pytest.TempPathFactory, stack: ExitStack) -> None:
        self._folders = folders
        self._stack = stack
        self._pool = stack.enter_context(ThreadPoolExecutor(40))
        self._found: dict[str, Future[str]] = {}

    def example(self, runtime: Runtime, name: str, *arguments: str, scheme: str = "coap") -> str:
        """Start one of our examples. Returns its URI."""
        uri = f"{scheme}://127.0.0.1:{free_port()}"
        command = [*runtime.command(), str(EXAMPLES / f"{name}.py"), uri, *arguments]
        self._stack.enter_context(running(command, self._output(), ENV)).wait_until_ready()
        return uri

    def theirs(self, command: list[str], *port_as: str) -> str:
        """Start another server. port_as: what is to stand before the port. Returns its URI."""
        port = free_port()
        server = self._stack.enter_context(running([*command, *port_as, str(port)], self._output(), ENV))
        server.wait_for_pong(("127.0.0.1", port))
        return f"coap://127.0.0.1:{port}"

    def relay(self, uri: str, rule: Rule) -> str:
        relay = Relay(("127.0.0.1", int(uri.rpartition(":")[2])), "both", rule)
        self._stack.callback(relay.close)
        return relay.uri

    def _output(self):
        return self._folders.mktemp("plugtest") / "output"

    def begin(self, name: str, start: Callable[[], Callable[[], str]]) -> None:
        """Let start() start what is needed, and what it returns run in the background."""
        try:
            self._found[name] = self._pool.submit(start())
        except Unavailable as reason:
            self._found[name] = Future()
            self._found[name].set_exception(reason)

    def client(self, name: str, runtime: Runtime, start_server: Callable[[], str], cases: str) -> None:
        def start() -> Callable[[], str]:
            command = [*runtime.command(), str(EXAMPLES / "plugtest_client.py"), start_server(), *cases.split()]
            return lambda: run(command)

        self.begin(name, start)

    def result(self, name: str) -> str:
        try:
            return self._found[name].result()
        except Unavailable as reason:
            pytest.skip(str(reason))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with ExitStack() as stack:
        runs = Runs(tmp_path_factory, stack)

        def libcoap(*arguments: str) -> str:
            return runs.theirs([program("coap-server"), "-A", "127.0.0.1", "-d", "50", *arguments], "-p")

        def aiocoap() -> str:
            return runs.theirs([sys.executable, str(PROGRAMS / "aiocoap_server.py")], "127.0.0.1")

        runs.begin("libcoap-client-lossy", lambda: upload_and_download(runs))
        # A tenth of what it sends, but not its answer to the last block of the PUT, about the 19th datagram: libcoap
        # does not know a repeated message, and would take that block, sent again, for all there is
        runs.begin("libcoap-server-lossy", lambda: to_a_lossy_server(runs, libcoap("-l", "4,10,27,33")))
        for pair, (client, server) in PAIRS.items():
            for i, cases in enumerate(GROUPS):
                start = lambda server=server: runs.example(server, "plugtest_server", PERIOD_MS)  # noqa: E731
                runs.client(f"{pair}-{i}", client, start, f"{cases} {PERIOD_MS}")
        start = lambda: runs.example(I386, "plugtest_server", PERIOD_MS, scheme="coaps")  # noqa: E731
        runs.client("secure", FAST[1], start, PERIOD_MS)
        for name, start, groups in ("libcoap", libcoap, LIBCOAP), ("aiocoap", aiocoap, AIOCOAP):
            for runtime, (group, cases) in zip(FAST + FAST, groups.items(), strict=False):
                runs.client(f"{name}-{group}", runtime, start, cases)
        yield runs


def upload_and_download(runs: Runs) -> Callable[[], str]:
    """16 KiB both ways, of which coap-client loses a tenth, and the relay a tenth of what our server sends."""
    uri = runs.relay(runs.example(I386, "plugtest_server", PERIOD_MS), losing_a_tenth(False, True)) + "/large-update"
    client = [program("coap-client"), "-l", "10%", "-b", "1024"]

    def both() -> str:
        put = run([*client, "-m", "put", "-t", "0", "-f", "-", uri], SIXTEEN_KIB)
        return put + run([*client, uri])

    return both


def to_a_lossy_server(runs: Runs, uri: str) -> Callable[[], str]:
    """The same with our client and coap-server, which loses a tenth of what it sends, as the relay does of ours."""
    link = runs.relay(uri, losing_a_tenth(True, False))
    steps = [
        {"method": "PUT", "path": "large", "payload": SIXTEEN_KIB.decode(), "ct": 0, "block": 1024},
        {"method": "GET", "path": "large"},
    ]
    return lambda: json.dumps(run_ours(I386, "node", link, steps, ack_timeout_ms=100, max_retransmit=8))


# Others' clients


@pytest.fixture(scope="module", params=FAST, ids=lambda runtime: runtime.name)
def server(request: pytest.FixtureRequest, runs: Runs) -> str:
    """The URI of plugtest_server.py on each runtime."""
    try:
        return runs.example(request.param, "plugtest_server", PERIOD_MS)
    except Unavailable as reason:
        pytest.skip(str(reason))


def large() -> bytes:
    return b"".join(b"%04d: a line with 40 bytes of the state\n" % i for i in range(40))


@pytest.mark.parametrize("block", [16, 64, 512, 1024])
def test_coap_client_gets_blocks(server, coap_client, block):
    assert coap_client("-b", str(block), f"{server}/large").out.rstrip() == large().rstrip()


@pytest.mark.parametrize("block", [64, 512])
def test_coap_client_puts_blocks(server, coap_client, block):
    sent = SIXTEEN_KIB[: 20 * block + 7]
    printed = coap_client("-m", "put", "-t", "0", "-b", str(block), "-f", "-", f"{server}/large-update", stdin=sent)
    assert printed.error == ""
    assert coap_client(f"{server}/large-update").out.rstrip() == sent.rstrip()


def test_coap_client_posts_blocks_and_gets_blocks(server, coap_client):
    sent = SIXTEEN_KIB[:1500]
    printed = coap_client("-m", "post", "-t", "0", "-b", "256", "-f", "-", f"{server}/large-post", stdin=sent)
    assert printed.out.rstrip() == (sent + large()).rstrip()


def test_coap_client_creates_in_blocks(server, coap_client):
    sent = SIXTEEN_KIB[:1500]
    coap_client("-m", "post", "-t", "0", "-b", "256", "-f", "-", f"{server}/large-create", stdin=sent)
    assert coap_client(f"{server}/large-create/x").out == sent


@pytest.mark.parametrize("method", ["patch", "ipatch"])
def test_coap_client_patches(server, coap_client, method):
    assert coap_client("-m", method, "-t", "0", "-e", method, f"{server}/test").error == ""
    assert coap_client(f"{server}/test").out == method.encode()


@pytest.mark.parametrize("non", [(), ("-N",)])
def test_coap_client_observes(server, coap_client, non):
    states = coap_client("-s", "1", "-w", *non, f"{server}/obs").out.split()
    numbers = [int(state) for state in states]
    assert len(numbers) > 2 and numbers == sorted(numbers)


def test_coap_client_observes_blocks(server, coap_client):
    printed = coap_client("-s", "2", f"{server}/obs-large").out
    assert printed.count(large().removesuffix(b"\n")) > 1


def ask_aiocoap(uri: str, *steps: dict) -> list:
    command = [sys.executable, str(PROGRAMS / "aiocoap_blocks.py"), uri]
    return [json.loads(line) for line in run(command, json.dumps(steps).encode()).splitlines()]


def test_aiocoaps_client_does_blocks(aiocoap, server):
    sent = SIXTEEN_KIB[:5000].decode()
    got, put, back, post, created, there = ask_aiocoap(
        server,
        {"path": "large"},
        {"method": "PUT", "path": "large-update", "payload": sent, "content_format": 0},
        {"path": "large-update"},
        {"method": "POST", "path": "large-post", "payload": sent[:2000], "content_format": 0},
        {"method": "POST", "path": "large-create", "payload": sent[:2000], "content_format": 0},
        {"path": "large-create/x"},
    )
    assert (got["code"], got["payload"].encode()) == ("2.05", large())
    assert (put["code"], back["payload"]) == ("2.04", sent)
    assert (post["code"], post["payload"].encode()) == ("2.04", sent[:2000].encode() + large())
    assert (created["code"], created["location"]) == ("2.01", ["large-create", "x"])
    assert there["payload"] == sent[:2000]


def test_aiocoaps_client_observes(aiocoap, server):
    small, blocks = ask_aiocoap(server, {"path": "obs", "times": 4}, {"path": "obs-large", "times": 2})
    numbers = [int(state) for state in small]
    assert numbers == sorted(numbers) and len(set(numbers)) > 2
    assert all(state.endswith(large().decode()) for state in blocks)


def test_what_aiocoaps_own_tests_ask_for(aiocoap, runs, fast_runtime):
    """aiocoap_site.py, as aiocoap's tests/test_server.py would have it."""
    uri = runs.example(fast_runtime, "aiocoap_site")
    data = "01" * 1024
    steps = [
        {"path": ""},
        {"path": "empty", "accept": 9999},
        {"path": "answer"},
        {"path": "answer", "accept": 50},
        {"path": "answer", "accept": 9999},
        {"path": "slow"},
        {"path": "big"},
        {"path": "big", "etags": [b"big".hex()]},
        {"path": "slowbig"},
        {"path": "manualbig"},
        {"method": "PUT", "path": "replacing/one", "payload": data},
        {"path": "replacing/one"},
        {"method": "POST", "path": "replacing/one", "payload": data},
        {"path": "error/generic"},
        {"path": "error/pretty"},
        {"path": "error/double"},
        {"method": "POST", "path": "create/"},
        {"path": "whoami"},
    ]
    replies = ask_aiocoap(uri, *steps)
    codes = "2.05 2.05 2.05 2.05 4.06 2.05 2.05 2.03 2.05 2.05 2.04 2.05 2.05 5.00 4.00 5.00 2.01 2.05"
    assert [reply["code"] for reply in replies] == codes.split()
    root, _, _, answer, _, _, big, valid, slow_big, manual_big, _, replaced, posted, _, _, _, created, whoami = replies
    assert root["payload"] == "Welcome to the test server"
    assert json.loads(answer["payload"]) == {"answer": 42}
    assert (len(big["payload"]), big["etag"], valid["payload"]) == (10240, valid["etag"], "")
    assert len(slow_big["payload"]) == len(manual_big["payload"]) == 1600
    assert replaced["payload"] == posted["payload"] == "O1" * 1024
    assert created["location"] == ["create", "here", "", "this=this", "that=that"]
    assert "127.0.0.1:" in whoami["payload"]


def test_the_client_says_what_a_server_lacks_and_what_it_does_wrong(runs, fast_runtime):
    uri = runs.example(fast_runtime, "aiocoap_site")
    cases = ["CORE_01", "CORE_02", "CORE_13", "LINK_02", "LINK_09", "BLOCK_03", "OBS_01", "large-update=replacing/one"]
    command = [*fast_runtime.command(), str(EXAMPLES / "plugtest_client.py"), uri, *cases]
    done = subprocess.run([*command, "test=answer", "obs=empty"], env=ENV, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert [line.strip() for line in done.stdout.splitlines()] == [
        "PASS CORE_01",
        "FAIL CORE_02 4.05 to DELETE of /test",
        "SKIP CORE_13 there is no /seg1/seg2/seg3",
        "SKIP LINK_02 there are no such links",
        "SKIP LINK_09 there is no /path",
        "PASS BLOCK_03",
        "FAIL OBS_01 it is not observed",
        "2 PASS, 2 FAIL, 3 SKIP",
    ]
    done = subprocess.run([*command[:-8], "CORE_01", "test=answer"], env=ENV, capture_output=True, timeout=60)
    assert done.returncode == 0


# What runs in the background since the first of these tests


@pytest.mark.parametrize("pair", PAIRS)
def test_each_case_passes_between_our_client_and_our_server(runs, pair):
    lines = [line.strip() for i in range(len(GROUPS)) for line in runs.result(f"{pair}-{i}").splitlines()]
    assert {line for line in lines if " PASS, " not in line} == {f"PASS {case}" for case in CASES}


def test_each_case_that_looks_at_no_datagram_passes_over_dtls(runs):
    lines = [" ".join(line.split()[:2]) for line in runs.result("secure").splitlines()]
    skipped = {"CORE_12", "CORE_15", "CORE_16", "OBS_05", "OBS_06", "OBS_11"}
    assert {line for line in lines if line.startswith("PASS ")} == {f"PASS {case}" for case in CASES - skipped}
    assert {line for line in lines if line.startswith("SKIP ")} == {f"SKIP {case}" for case in skipped}


@pytest.mark.parametrize("group", LIBCOAP)
def test_our_client_against_libcoaps_server(runs, group):
    check(runs.result(f"libcoap-{group}"), LIBCOAP[group])


@pytest.mark.parametrize("group", AIOCOAP)
def test_our_client_against_aiocoaps_server(aiocoap, runs, group):
    check(runs.result(f"aiocoap-{group}"), AIOCOAP[group])


def check(printed: str, cases: str) -> None:
    lines = [line.strip() for line in printed.splitlines()]
    assert lines[:-1] == [f"PASS {case}" for case in cases.split() if case[0].isupper()]


def test_16_kib_both_ways_with_coap_client_at_ten_percent_loss(runs):
    assert runs.result("libcoap-client-lossy").strip() == SIXTEEN_KIB.decode().strip()


def test_16_kib_both_ways_with_coap_server_at_ten_percent_loss(runs):
    put, got, counters = json.loads(runs.result("libcoap-server-lossy"))
    assert put["code"] in ("2.01", "2.04")
    assert bytes.fromhex(got["payload"]) == SIXTEEN_KIB
    assert counters["retransmissions"] > 0
