"""The programs that talk to each other: started with their output in a file, waited for, ended by pid."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coaplet_tools.setup.places import ROOT
from runtimes import Runtime
from second import is_second

PROGRAMS = Path(__file__).parent / "programs"

_UP_S = 20  # for a server to come up; an emulated one on a busy machine takes its time
_CLIENT_S = 20
_PING = b"\x40\x00\x1d\x0f"


class Broken(Exception):
    """A program did not do what it is there for; the text has the end of its output."""


def ours(runtime: Runtime, program: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """How to run one of the coaplet programs: its command and environment."""
    command = [*runtime.command(), str(PROGRAMS / program), str(ROOT / "lib"), *arguments]
    return command, {**os.environ, "MICROPYPATH": ".frozen"}


@contextmanager
def running(
    command: Sequence[str], output: Path, env: Mapping[str, str] | None = None, files: Sequence[int] = ()
) -> Iterator["Server"]:
    """Run a server for as long as the block lasts; it has our open files of these numbers, too.

    It has failed if it ends by itself.
    """
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=env, pass_fds=files
        )
    server = Server(process, output)
    try:
        yield server
        server.check()
    finally:
        process.kill()
        process.wait(10)


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    output: Path

    def check(self) -> None:
        if self.process.poll() is not None:
            tail = "\n".join(self.output.read_text(errors="replace").splitlines()[-20:])
            raise Broken(f"{self.process.args} ended with status {self.process.returncode}:\n{tail}")

    def wait_until_ready(self) -> str:
        """Wait for the line in which a coaplet server says where it listens. Returns what it says."""
        return self._wait(lambda: re.search(r"^READY (.*)$", self.output.read_text(errors="replace"), re.M))[1]

    def addresses(self) -> list[tuple[str, int]]:
        """Wait until a coaplet server is ready. Returns where it listens."""
        found = [text.rpartition(":") for text in self.wait_until_ready().split()]
        return [(host.strip("[]"), int(port)) for host, _, port in found]

    def wait_for_pong(self, address: tuple[str, int]) -> None:
        """Wait until something at the address answers a CoAP ping (RFC 7252 4.3)."""
        with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.05)
            probe.connect(address)

            def pong() -> bool:
                try:
                    probe.send(_PING)
                    return bool(probe.recv(64))
                except OSError:
                    return False

            self._wait(pong)

    def _wait(self, condition: Any) -> Any:
        until = time.monotonic() + _UP_S
        while not (value := condition()):
            self.check()
            if time.monotonic() > until:
                raise Broken(f"{self.process.args} was not up after {_UP_S} s")
            time.sleep(0.01)
        return value


def free_port(host: str = "127.0.0.1") -> int:
    """Find a port that is free, as is the one above it, which libcoap takes for DTLS; for UDP and for TCP."""
    lowest = 55000 if is_second() else 50000  # so that two pytests beside each other never take the same
    for port in range(lowest + 2 * (os.getpid() % 2000), lowest + 5000, 2):
        try:
            for number in (port, port + 1):
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
                        probe.bind((host, number))
        except OSError:
            continue
        return port
    raise Broken("no free port")


def run_ours(runtime: Runtime, driver: str, uri: str, steps: list[Any], **limits: Any) -> list[Any]:
    """Run our client to its end. Returns what it printed: what each step came to, and its counters.

    uri: or the number of an open file, a serial line.
    """
    files = (int(uri),) if uri.isdigit() else ()
    return _run(*ours(runtime, "client.py", driver, json.dumps(limits), uri), steps, files)


def run_aiocoap(uri: str, steps: list[Any]) -> list[Any]:
    """Run aiocoap's client to its end. Returns what each step came to."""
    command = [sys.executable, str(PROGRAMS / "aiocoap_client.py"), uri]
    return _run(command, {**os.environ, "AIOCOAP_CLIENT_TRANSPORT": "udp6"}, steps)


def _run(command: Sequence[str], env: Mapping[str, str], steps: list[Any], files: Sequence[int] = ()) -> list[Any]:
    text = json.dumps(steps) + "\n"
    done = subprocess.run(
        command, env=env, input=text, capture_output=True, text=True, timeout=_CLIENT_S, pass_fds=files
    )
    if done.returncode or done.stderr:
        raise Broken(f"status {done.returncode}: {done.stdout[-500:]}\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]
