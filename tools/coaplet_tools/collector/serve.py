"""One run of the collector: the database, the node that listens, the stop.

`Collector` is what `coaplet-collector serve` and `make run` start; both use it as a context manager in their loop.
"""

import asyncio
import importlib.util
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from coaplet import Node
from coaplet_tools.collector.devices import Keyring
from coaplet_tools.collector.display import Display
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.history import History
from coaplet_tools.collector.limits import RATE, UPLOADS
from coaplet_tools.collector.rate import Rate, limit
from coaplet_tools.collector.refusals import Refusals
from coaplet_tools.collector.resources import Resources
from coaplet_tools.collector.services import Services
from coaplet_tools.collector.show import complain
from coaplet_tools.collector.writer import Writer

# Requests that wait for a commit; the next one gets 5.03. Requests remembered: what comes twice within 247 s while
# fewer others came is answered from there, and all the rest by UNIQUE(node, boot, seq).
_LIMITS = {
    "async_slots": 256,
    "duplicates": 10_000,
    "exchanges": 256,
    "tx_slots": 64,
    "observers": 1000,
    "replay_bytes": 320,  # whatever is answered to a record is kept for a repeat, and so goes out with the ACK
    "transfers": UPLOADS,
}


# A session is kept for 3 h after its device's last word; with a Connection ID (RFC 9146) it outlives a change of the
# device's address. Who returns later resumes it. Of devices that begin at once, as after a power cut, 100 a second are
# served, and the others try again.
_DTLS = {
    "cid": 8,
    "idle_ms": 3 * 3600 * 1000,
    "sessions": 10_000,
    "resumable": 10_000,
    "half_open": 1000,
    "handshakes": 100,
}
_KEYS_S = 1.0  # how often to see whose key has gone
_NEWS_S = 0.1  # how often to see what commands have changed


class Collector:
    """`async with Collector(...) as collector`: it listens, and stores until the block ends.

    listen: URIs such as "coaps://0.0.0.0" or "coap://0.0.0.0:5683"; the keys for coaps are those of `devices.py` in the
    database. rate: requests a second that a device may send (rate.py); 0: as many as it likes. Entering raises
    CollectorError.
    After that: addresses (texts such as "127.0.0.1:5683"), uris (the same as "coap://127.0.0.1:5683"), counts, node,
    keys (the Keyring, None without coaps).
    """

    def __init__(self, listen: Sequence[str], database: Path, display: Display, rate: int = RATE) -> None:
        self._listen = listen
        self._database = database
        self._writer = Writer(database)
        self._watches: list[asyncio.Task[None]] = []
        self._secure = any(uri.lower().startswith("coaps:") for uri in listen)
        for package in ("cryptography", "cbor2") if self._secure else ():
            if importlib.util.find_spec(package) is None:
                raise CollectorError(f"coaps:// needs the package {package}: pip install {package}")
        self.keys: Keyring | None = None
        security: dict[str, Any] = {"psk": self._find_key, "dtls": _DTLS} if self._secure else {}
        try:
            self.node = Node(*listen, **security, **_LIMITS)
        except ValueError as error:
            raise CollectorError(f"--listen: {error}") from error
        self._layers: list[Any] = [layer for layer in self.node.transports if getattr(layer, "secure", False)]
        refusals = Refusals(display.shut_out)
        for layer in self._layers:
            layer.on_failure = lambda session, layer=layer: refusals.note(
                layer.format(session), session.identity, session.error
            )
        self._history = History(self._layers, database) if self._secure else None
        speaks = (self._history.speaks,) if self._history else ()
        self._resources = Resources(self.node, self._writer, display, *speaks)
        self.counts = self._resources.counts
        self._services = Services(self.node, database, self._is_connected) if self._secure else None
        self._floods = Refusals(lambda remote, identity, _, more: display.throttled(remote, identity, more))
        if rate:
            limit(self.node, Rate(rate), self._note_flood)
        self.addresses: list[str] = []
        self.uris: list[str] = []

    async def __aenter__(self) -> Self:
        await self._writer.__aenter__()
        try:
            if self._secure:
                self.keys = Keyring(self._database)
            if self._services:
                await self._services.open()
            if self._history:
                self._history.open()
            await self.node.start()
        except (OSError, UnicodeError) as error:
            await self._close()
            places = " ".join(self._listen)
            raise CollectorError(f"cannot listen on {places}: {getattr(error, 'strerror', None) or error}") from error
        except BaseException:
            await self._close()  # or the writer's thread keeps the process alive
            raise
        self.addresses = [self.node.address(i) for i in range(len(self._listen))]
        schemes = [uri.partition(":")[0].lower() for uri in self._listen]
        self.uris = [f"{scheme}://{address}" for scheme, address in zip(schemes, self.addresses, strict=True)]
        if self.keys is not None:
            self._watches.append(asyncio.create_task(self._watch_keys(self.keys)))
        if self._services:
            self._watches.append(asyncio.create_task(self._watch_news(self._services)))
        if self._history:
            self._history.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening, commit what waits, close the database."""
        for watch in self._watches:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
        await self.node.stop()
        if self._history:
            await self._history.close()
        await self._close()

    async def _close(self) -> None:
        if self.keys is not None:
            self.keys.close()
        if self._services:
            await self._services.close()
        await self._writer.__aexit__()

    def _note_flood(self, remote: str, identity: bytes | None) -> None:
        self.counts.throttled += 1
        self._floods.note(remote, identity, "")

    def _find_key(self, identity: bytes) -> bytes | None:
        if self.keys is None:
            return None
        before = self.keys.trouble
        key = self.keys.find(identity)
        if self.keys.trouble not in ("", before):
            complain("coaplet-collector", f"no key can be looked up, and no device can come in: {self.keys.trouble}")
        return key

    async def _watch_keys(self, keys: Keyring) -> None:
        """End the sessions of devices whose key has gone. None comes back: to resume one, the key is asked for, too."""
        while True:
            await asyncio.sleep(_KEYS_S)
            if gone := keys.revoked():
                self.end_sessions(gone)

    async def _watch_news(self, services: Services) -> None:
        """Tell devices of what commands have changed for them."""
        while True:
            await asyncio.sleep(_NEWS_S)
            await services.look()

    def _is_connected(self, identity: str) -> bool:
        name = identity.encode()
        return any(session.up and session.identity == name for layer in self._layers for session in layer.all())

    def end_sessions(self, identities: set[bytes]) -> int:
        """End all sessions of devices, and the handshakes that have asked for their keys. Returns how many."""
        ended = 0
        for layer in self._layers:
            for session in layer.all():
                if session.identity in identities:
                    layer.end(session, "its key was taken away")
                    ended += 1
        return ended


def stop_event() -> asyncio.Event:
    """Return an event that Ctrl-C and the signals that ask a process to end set, instead of what they do otherwise."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
