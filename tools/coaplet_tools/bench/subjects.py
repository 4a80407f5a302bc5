"""The servers that are measured. Each is a process of one thread on a port of its own, with a resource "t" that says
"21.5" as text/plain; the echo sends back what it gets.
"""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from coaplet_tools.bench.processes import Broken, cpus, running
from coaplet_tools.setup.places import ROOT
from coaplet_tools.setup.programs import NATIVE
from coaplet_tools.setup.state import program

PATH = "t"
PAYLOAD = "21.5"
KEY = "coaplet-bench-01"  # text, since libcoap takes no other

_HERE = Path(__file__).parent
_UP_S = 20
_PING = b"\x40\x00\x1d\x0f"  # CoAP's (RFC 7252 4.3): a server answers with a Reset, the echo with the same
_PUT = b"\x40\x03\x1d\x10\xb1t\x10\xff" + PAYLOAD.encode()  # Uri-Path, Content-Format 0
_CREATED = b"\x60\x41\x1d\x10"


@dataclass(frozen=True)
class Subject:
    name: str
    what: str
    command: Callable[[int], list[str]]  # how to serve on a port
    echo: bool = False
    put: bool = False  # "t" has to be made with a PUT first


@dataclass(frozen=True)
class Server:
    """A subject that runs."""

    subject: Subject
    port: int
    pid: int


def _micropython(script: str, *arguments: str, options: Sequence[str] = ()) -> Callable[[int], list[str]]:
    return lambda port: [program(f"micropython-{NATIVE}"), *options, str(_HERE / script), str(port), *arguments]


def _python(script: str, *arguments: str) -> Callable[[int], list[str]]:
    return lambda port: [sys.executable, str(_HERE / script), str(port), *arguments]


def _libcoap(port: int) -> list[str]:
    return [program("coap-server"), "-A", "127.0.0.1", "-p", str(port), "-d", "10"]


# In this order in each round. MicroPython has coaplet as source, which it compiles with viper when it starts: from .mpy
# files it would serve as fast.
SUBJECTS = (
    Subject("echo", "bare UDP echo loop, MicroPython", _micropython("echo_probe.py"), echo=True),
    Subject("server", "coaplet.Loop, MicroPython", _micropython("serve_probe.py", "loop")),
    Subject("asyncio", "coaplet.Node, MicroPython", _micropython("serve_probe.py", "node")),
    Subject("libcoap", "libcoap's coap-server, C", _libcoap, put=True),
    Subject("cpython", "coaplet.Node, CPython", _python("serve_probe.py", "node")),
    Subject("cpython_poll", "coaplet.Loop, CPython", _python("serve_probe.py", "loop")),
    Subject("aiocoap", "aiocoap, CPython", _python("aiocoap_server.py")),
)

# What serves coaps, too, at the port above; by the prefix of its figures
SECURE = {
    "": Subject("server", "coaplet.Loop, MicroPython", _micropython("serve_probe.py", "loop", KEY)),
    "libcoap_": Subject("libcoap", "libcoap's coap-server, C", lambda port: [*_libcoap(port), "-k", KEY], put=True),
}

# What 1 MB is fetched from, "big"; libcoap's has to be given it. By the prefix of its figures
BLOCKS = {
    "": Subject("blocks", "coaplet.Loop, MicroPython", _micropython("blocks_probe.py")),
    "libcoap_": Subject("libcoap", "libcoap's coap-server, C", _libcoap, put=True),
}

# What is observed, "o"
OBSERVERS = 8
OBSERVED = {
    "": Subject("observed", "coaplet.Loop, MicroPython", _micropython("observe_probe.py", str(OBSERVERS))),
    "aiocoap_": Subject("aiocoap", "aiocoap, CPython", _python("aiocoap_observed.py", str(OBSERVERS))),
}

# Whose resident memory is watched. With MicroPython's default of 2 MB, the heap's last pages would be touched for the
# first time only after some 13,000 requests; of this one there is no part left by then that was never in use.
_HEAP = ("-X", "heapsize=512K")
RESIDENT = {
    "rss_growth_bytes": Subject(
        "server", "coaplet.Loop, MicroPython", _micropython("serve_probe.py", "loop", options=_HEAP)
    ),
    "rss_growth_asyncio_bytes": Subject(
        "asyncio", "coaplet.Node, MicroPython", _micropython("serve_probe.py", "node", options=_HEAP)
    ),
    "rss_growth_cpython_bytes": Subject("cpython", "coaplet.Node, CPython", _python("serve_probe.py", "node")),
}


@contextmanager
def serving(subject: Subject) -> Iterator[Server]:
    """Run a subject for as long as the block lasts, on a CPU of its own; it has been answering when the block begins.

    Raises Broken when it does not come up, or has ended by itself, and Unavailable when there is no such program.
    """
    port = free_port()
    places = cpus()
    env = {
        "MICROPYPATH": f".frozen:{ROOT / 'lib'}",
        "PYTHONPATH": str(ROOT / "lib"),
        "OPENSSL_CONF": str(_HERE / "libcoap_openssl.cnf"),
        "AIOCOAP_SERVER_TRANSPORT": "udp6",  # aiocoap's own choice on Linux, without TCP and WebSockets
    }
    with (
        tempfile.TemporaryFile() as errors,
        running(subject.command(port), places and places[0], env, errors=errors) as process,
    ):
        _wait_until_up(process, errors, subject, port)
        try:
            yield Server(subject, port, process.pid)
        except Broken:
            _check(process, errors, subject)  # which tells more
            raise
        _check(process, errors, subject)


def _wait_until_up(process: subprocess.Popen[bytes], errors: IO[bytes], subject: Subject, port: int) -> None:
    until = time.monotonic() + _UP_S
    while not _answer(port, _PING):
        _check(process, errors, subject)
        if time.monotonic() > until:
            raise Broken(f"{subject.what}: was not up after {_UP_S} s")
        time.sleep(0.01)
    if subject.put and _answer(port, _PUT, _UP_S) != _CREATED:
        raise Broken(f"{subject.what}: did not take the PUT that makes its resource")


def _answer(port: int, datagram: bytes, within_s: float = 0.2) -> bytes:
    """Send a datagram and return what comes back, b"" where nothing does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(within_s)
        probe.connect(("127.0.0.1", port))
        try:
            probe.send(datagram)
            return probe.recv(2048)
        except OSError:
            return b""


def _check(process: subprocess.Popen[bytes], errors: IO[bytes], subject: Subject) -> None:
    """Raise Broken with a server's last words if it has ended by itself."""
    if process.poll() is not None:
        errors.seek(0)
        last = errors.read().decode(errors="replace").strip().splitlines()[-3:]
        how = f"ended by itself, status {process.returncode}"
        raise Broken(f"{subject.what}: {how}: {' / '.join(last) or 'it wrote nothing'}")


def free_port() -> int:
    """Find a port of the loopback address that is free, as is the one above it, for DTLS."""
    for _ in range(100):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        try:
            for number in (port, port + 1):
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    with socket.socket(socket.AF_INET, kind) as probe:
                        probe.bind(("127.0.0.1", number))
        except (OSError, OverflowError):
            continue
        return port
    raise Broken("no port is free on 127.0.0.1")
