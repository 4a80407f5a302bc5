"""A relay of UDP datagrams between one client and a server on this machine, which keeps a copy of each."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Self

from coaplet_tools.collector.errors import CollectorError

Address = tuple[Any, ...]  # as the socket module has it


@dataclass(frozen=True)
class Datagram:
    """client: the client's address; from_client: its direction; ns: when it was relayed, since 1970."""

    data: bytes
    client: Address
    from_client: bool
    ns: int


class Tap:
    """`async with Tap(port, server) as tap`: what comes to `port` of the loopback addresses goes to `server`, and back.

    port: 0 takes any. server: (host, port) of IPv4. After that: port, datagrams. Entering raises CollectorError.
    """

    def __init__(self, port: int, server: tuple[str, int]) -> None:
        self.port = port
        self.datagrams: list[Datagram] = []
        self._server = server
        self._fronts: list[asyncio.DatagramTransport] = []
        self._backs: dict[Address, asyncio.DatagramTransport] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        # Both, since a name such as localhost may stand for either.
        for host in ("127.0.0.1", "::1"):
            try:
                front, _ = await loop.create_datagram_endpoint(lambda: _End(self._up), local_addr=(host, self.port))
            except OSError as error:
                if not self._fronts:
                    raise CollectorError(f"port {self.port} of 127.0.0.1: {error.strerror}") from error
                continue  # a machine without IPv6
            self._fronts.append(front)
            self.port = front.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for end in (*self._fronts, *self._backs.values()):
            end.close()
        await asyncio.sleep(0)

    def _up(self, data: bytes, client: Address, front: asyncio.DatagramTransport) -> None:
        self._note(data, client, True)
        if client in self._backs:
            self._backs[client].sendto(data)
            return
        task = asyncio.create_task(self._open(data, client, front))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, data: bytes, client: Address, front: asyncio.DatagramTransport) -> None:
        def down(answer: bytes, _: Address, __: asyncio.DatagramTransport) -> None:
            self._note(answer, client, False)
            front.sendto(answer, client)

        back, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _End(down), remote_addr=self._server
        )
        self._backs[client] = back
        back.sendto(data)

    def _note(self, data: bytes, client: Address, from_client: bool) -> None:
        self.datagrams.append(Datagram(data, client, from_client, time.time_ns()))


class _End(asyncio.DatagramProtocol):
    def __init__(self, take: Any) -> None:
        self._take = take

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._take(data, addr, self._transport)
