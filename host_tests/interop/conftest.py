"""Fixtures of the interop tests: coaplet servers on each runtime, the other implementations, relays between them."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from coaplet_tools.setup.places import Unavailable
from coaplet_tools.setup.state import program
from interop.dtls_runs import PSK, Run
from interop.dtls_tap import Plan, Tap
from interop.dtls_tap import faithful as all_go_on
from interop.processes import PROGRAMS, Server, free_port, ours, running
from interop.relay import Datagram, Relay, Rule, faithful
from runtimes import RUNTIMES, Runtime

LIMITS = {"async_slots": 6, "ack_timeout_ms": 200}  # of our servers; retransmission quick enough for a test

NODES = [(runtime, "node") for runtime in RUNTIMES]
LOOPS = [(runtime, "loop") for runtime in RUNTIMES if runtime.name in ("cpython", "unix-i386")]


def name_of(served: tuple[Runtime, str]) -> str:
    return f"{served[0].name}-{served[1]}"


@pytest.hookimpl(trylast=True)  # after pytest's own sorting by fixtures
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tshark judge at the end, when everything has been recorded."""
    items.sort(key=lambda item: item.path.name.startswith("test_tshark"))


@dataclass(frozen=True)
class OurServer:
    runtime: Runtime
    driver: str
    server: Server
    addresses: list[tuple[str, int]]  # IPv4's, then IPv6's if this machine has it


@dataclass(frozen=True)
class Printed:
    """What coap-client wrote: payloads (without the newline that it ends with), and what went wrong."""

    out: bytes
    error: str


@pytest.fixture(scope="session")
def recording() -> list[Datagram]:
    """Each datagram that any relay has seen."""
    return []


@pytest.fixture
def relay(recording: list[Datagram]) -> Iterator[Callable[..., Relay]]:
    """Put a relay in front of a server: relay(address, ours, rule)."""
    with ExitStack() as stack:

        def open_relay(upstream: tuple[str, int], side: str, rule: Rule = faithful) -> Relay:
            made = Relay(upstream, side, rule)
            stack.callback(lambda: recording.extend(made.datagrams))
            stack.callback(made.close)
            return made

        yield open_relay


@pytest.fixture(scope="session", params=NODES + LOOPS, ids=name_of)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurServer]:
    """A coaplet server on each runtime, with asyncio and without."""
    yield from _serve(request.param, tmp_path_factory)


@pytest.fixture(scope="session", params=NODES[:3], ids=name_of)
def served_node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurServer]:
    """One with async resources, on each runtime that is not emulated."""
    yield from _serve(request.param, tmp_path_factory)


def _serve(served: tuple[Runtime, str], folders: pytest.TempPathFactory) -> Iterator[OurServer]:
    runtime, driver = served
    # ports chosen here: MicroPython's sockets cannot tell which one they got
    uris = [f"coap://127.0.0.1:{free_port()}"]
    if not missing_ipv6():
        uris.append(f"coap://[::1]:{free_port('::1')}")
    limits = dict(LIMITS)
    try:
        command, env = ours(runtime, "server.py", driver, json.dumps(limits), *uris)
    except Unavailable as reason:
        pytest.skip(str(reason))
    with running(command, folders.mktemp("served") / "output", env) as server:
        yield OurServer(runtime, driver, server, server.addresses())
        complaints = [line for line in server.output.read_text().splitlines() if "READY" not in line]
        assert not [line for line in complaints if "on purpose" not in line], "\n".join(complaints)


@dataclass(frozen=True)
class SecureServer:
    """One of ours, at a coaps:// URI, with the key of dtls_peers.py."""

    runtime: Runtime
    driver: str
    address: tuple[str, int]


@pytest.fixture(scope="session")
def keylog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file to which our programs add the keys of each handshake, from the first test that asks for this on."""
    path = tmp_path_factory.mktemp("keys") / "keylog"
    path.touch()
    os.environ["COAPLET_KEYLOG"] = str(path)
    return path


@pytest.fixture(scope="session")
def secure_runs() -> list[Run]:
    """What went through each tap."""
    return []


@pytest.fixture
def tap(request: pytest.FixtureRequest, keylog: Path, secure_runs: list[Run]) -> Iterator[Callable[..., Tap]]:
    """Put a tap in front of a DTLS server: tap(address, plan, judged=False: tshark cannot read all of it)."""
    with ExitStack() as stack:

        def open_tap(upstream: tuple[str, int], plan: Plan = all_go_on, judged: bool = True) -> Tap:
            made = stack.enter_context(Tap(upstream, plan))
            secure_runs.append(Run(request.node.name, made, judged))
            return made

        yield open_tap


@pytest.fixture
def serve_secure(keylog: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., SecureServer]]:
    """Start a server of ours: serve_secure(runtime, driver, psk=..., **what Dtls takes), until the test's end."""
    with ExitStack() as stack:

        def start(runtime: Runtime, driver: str, **settings: Any) -> SecureServer:
            return stack.enter_context(_secure((runtime, driver), tmp_path_factory, **settings))

        yield start


SECURE = [NODES[0], (NODES[1][0], "loop"), NODES[2]]  # of our ends at coaps://


@pytest.fixture(scope="session", params=SECURE, ids=name_of)
def secured(
    request: pytest.FixtureRequest, keylog: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecureServer]:
    """A server of ours for many tests, on each runtime that is not emulated; it asks for a Connection ID."""
    with _secure(request.param, tmp_path_factory, cid=4) as server:
        yield server


@contextmanager
def _secure(
    served: tuple[Runtime, str],
    folders: pytest.TempPathFactory,
    psk: Mapping[str, str] = MappingProxyType(dict([PSK])),
    **dtls: Any,
) -> Iterator[SecureServer]:
    runtime, driver = served
    _available(runtime)
    many = {"handshakes": 1000, "half_open": 8, "sessions": 8, **dtls}
    limits = {"async_slots": 6, "psk": dict(psk), "dtls": many}
    command, env = ours(runtime, "server.py", driver, json.dumps(limits), f"coaps://127.0.0.1:{free_port()}")
    with running(command, folders.mktemp("secured") / "output", env) as server:
        yield SecureServer(runtime, driver, server.addresses()[0])
        complaints = [line for line in server.output.read_text().splitlines() if "READY" not in line]
        assert not complaints, "\n".join(complaints)


@pytest.fixture(scope="session")
def coap_client() -> Callable[..., Printed]:
    """Run libcoap's coap-client."""
    path = _program("coap-client")

    def run(*arguments: str, stdin: bytes = b"") -> Printed:
        done = subprocess.run([path, "-B", "4", *arguments], input=stdin, capture_output=True, timeout=20)
        return Printed(done.stdout.removesuffix(b"\n"), done.stderr.decode(errors="replace").strip())

    return run


@pytest.fixture(scope="session")
def coap_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The address of libcoap's coap-server, which stores what is PUT at any path."""
    address = ("127.0.0.1", free_port())
    command = [_program("coap-server"), "-A", address[0], "-p", str(address[1]), "-d", "50"]
    with running(command, tmp_path_factory.mktemp("coap-server") / "output") as server:
        server.wait_for_pong(address)
        yield address


@pytest.fixture(scope="session")
def coap_server_ipv6(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    _need_ipv6()
    address = ("::1", free_port("::1"))
    command = [_program("coap-server"), "-A", address[0], "-p", str(address[1])]
    with running(command, tmp_path_factory.mktemp("coap-server") / "output") as server:
        server.wait_for_pong(address)
        yield address


@pytest.fixture(scope="session")
def aiocoap() -> None:
    """Skip what needs aiocoap where it cannot be had."""
    if importlib.util.find_spec("aiocoap") is None:
        pytest.skip("aiocoap is not in .venv: tools/requirements.txt has to name it")
    _need_ipv6()  # its transport is an IPv6 socket that takes IPv4, too


@pytest.fixture(scope="session")
def aiocoap_server(aiocoap: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    address = ("127.0.0.1", free_port())
    command = [sys.executable, str(PROGRAMS / "aiocoap_server.py"), address[0], str(address[1])]
    output = tmp_path_factory.mktemp("aiocoap") / "output"
    with running(command, output, {**os.environ, "AIOCOAP_SERVER_TRANSPORT": "udp6"}) as server:
        server.wait_for_pong(address)
        yield address


@pytest.fixture(scope="session")
def tshark() -> str:
    return _program("tshark")


@pytest.fixture(params=RUNTIMES, ids=lambda runtime: runtime.name)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """Each runtime that this machine can have."""
    return _available(request.param)


@pytest.fixture(params=RUNTIMES[:3], ids=lambda runtime: runtime.name)
def fast_runtime(request: pytest.FixtureRequest) -> Runtime:
    """Each runtime that is not emulated."""
    return _available(request.param)


def _available(runtime: Runtime) -> Runtime:
    try:
        runtime.command()
    except Unavailable as reason:
        pytest.skip(str(reason))
    return runtime


def _program(name: str) -> str:
    try:
        return program(name)
    except Unavailable as reason:
        pytest.skip(str(reason))


def missing_ipv6() -> str:
    """Why this machine has no IPv6 loopback, or nothing."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        return f"no IPv6 on loopback: {error.strerror}"
    return ""


def _need_ipv6() -> None:
    if reason := missing_ipv6():
        pytest.skip(reason)


@pytest.fixture
def ipv6() -> None:
    _need_ipv6()
