"""A DTLS 1.2 client or server of python-mbedtls (PyPI; Mbed TLS 2.28 within): PSK, and cookies on the server.

    python_mbedtls_peer.py server|client '{"port": 5684, ...}'

Settings, events and orders are those of mbedtls_peer.py, as far as they are in SETTINGS here and printed or obeyed
below. Started by build/bin/python-mbedtls, a Python that has the package.
"""

import json
import os
import select
import socket
import sys
from typing import Any

from mbedtls.tls import (  # pyright: ignore[reportMissingImports]
    ClientContext,
    DTLSConfiguration,
    HandshakeStep,
    HelloVerifyRequest,
    ServerContext,
    WantReadError,
    WantWriteError,
)

SETTINGS: dict[str, Any] = {
    "port": 0,
    "identity": "node-1@site",
    "key": "000102030405060708090a0b0c0d0e0f",
    "suites": ["ccm8"],
    "timeout_ms": [1000, 60000],
    "answer": "",  # a server: "" or "echo", or "nothing"; a client: nothing
}
SUITES = {"ccm8": "CCM-8", "ccm": "CCM", "gcm": "GCM-SHA256", "cbc-sha256": "CBC-SHA256"}
_PREFIX = "TLS-PSK-WITH-AES-128-"
_TICK_S = 0.1  # for Mbed TLS to look at its timers
_MAX = 16384


def report(event: str, **more: Any) -> None:
    print(json.dumps({"event": event, **more}), flush=True)


class Session:
    def __init__(self, context: Any, sock: socket.socket, address: tuple[str, int], server: bool, echo: bool) -> None:
        self.address, self.ended = address, False
        self._sock, self._server, self._echo, self._context = sock, server, echo, context
        self._start()

    @property
    def established(self) -> bool:
        return self._buffer._handshake_state is HandshakeStep.HANDSHAKE_OVER

    def take(self, data: bytes) -> None:
        self._buffer.receive_from_network(data)
        self.work()

    def work(self) -> None:
        """Go on as far as possible."""
        try:
            if not self.established:
                self._shake()
                if not self.established:
                    return
                names = {_PREFIX + end: name for name, end in SUITES.items()}
                report("handshake", suite=names.get(self._buffer.cipher(), self._buffer.cipher()), address=self.address)
            while data := self._read():
                report("data", hex=data.hex(), address=self.address)
                if self._echo:
                    self.send(data)
        except Exception as error:
            self.ended = True
            self._flush()
            kind = "close" if "[0x7880]" in str(error) else "error"
            report(kind, what=f"{type(error).__name__}: {error}", address=self.address)

    def send(self, data: bytes) -> None:
        self._buffer.write(data)
        self._flush()

    def close(self) -> None:
        self._buffer.shutdown()
        self._flush()
        self.ended = True
        report("closed", address=self.address)

    def _start(self) -> None:
        self._buffer = self._context.wrap_buffers(*(() if self._server else (None,)))
        if self._server:
            self._buffer.setcookieparam(repr(self.address).encode())

    def _shake(self) -> None:
        while not self.established:
            try:
                self._buffer.do_handshake()
            except WantReadError:
                self._flush()
                return
            except WantWriteError:
                self._flush()
            except HelloVerifyRequest:
                self._flush()
                self._start()
                return
        self._flush()

    def _read(self) -> bytes:
        try:
            return self._buffer.read(_MAX)
        except WantReadError:
            return b""

    def _flush(self) -> None:
        while data := self._buffer.peek_outgoing(_MAX):
            self._sock.sendto(data, self.address)
            self._buffer.consume_outgoing(len(data))


def main(role: str, text: str = "{}") -> None:
    server, given = role == "server", SETTINGS | json.loads(text)
    key = bytes.fromhex(given["key"])
    known: dict[str, Any] = (
        {"pre_shared_key_store": {given["identity"]: key}} if server else {"pre_shared_key": (given["identity"], key)}
    )
    first_ms, last_ms = given["timeout_ms"]
    configuration = DTLSConfiguration(
        ciphers=tuple(_PREFIX + SUITES[name] for name in given["suites"]),
        validate_certificates=False,
        handshake_timeout_min=first_ms / 1000,
        handshake_timeout_max=last_ms / 1000,
        **known,
    )
    context = (ServerContext if server else ClientContext)(configuration)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sessions: dict[tuple[str, int], Session] = {}
    echo = server and given["answer"] in ("", "echo")
    if server:
        sock.bind(("127.0.0.1", given["port"]))
        report("listening", port=sock.getsockname()[1])
    else:
        address = ("127.0.0.1", given["port"])
        sessions[address] = Session(context, sock, address, server, echo)
        sessions[address].work()
    orders = b""
    while True:
        ready, _, _ = select.select([sock, 0], [], [], _TICK_S)
        if sock in ready:
            try:
                data, address = sock.recvfrom(65535)
            except OSError:  # ICMP's port unreachable, of something sent before
                continue
            if server and (address not in sessions or sessions[address].ended):
                sessions[address] = Session(context, sock, address, server, echo)
            if address in sessions:
                sessions[address].take(data)
        if 0 in ready:
            got = os.read(0, 65536)
            if not got:
                return
            *lines, orders = (orders + got).split(b"\n")
            for order in map(json.loads, filter(None, lines)):
                last = list(sessions.values())[-1]
                last.send(bytes.fromhex(order["hex"])) if order["do"] == "send" else last.close()
        for session in sessions.values():
            if not session.established and not session.ended:
                session.work()


if __name__ == "__main__":
    main(*sys.argv[1:])
