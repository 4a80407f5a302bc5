# Requests of ours (RFC 7252 5.2-5.4): what a user calls. Waiting is left to the driver: asyncio or a plain loop.

import json as _json

from .codes import CoapError, Reset, SecurityError, Timeout
from .message import Message
from .port import const, random_bytes, ticks_diff
from .uri import unquote
from .wire import copy

_HOUR_MS = const(3600000)
_TOO_LARGE = const(141)
_ROOM = const(64)  # of mtu for header and options (message.py)
_BYTES = (bytes, bytearray, memoryview)

# Counters (counters.py)
_N_WAITS = const(14)
_N_PROBINGS = const(18)

# Events (endpoint.py)
_RESPONSE = const(2)
_TIMEOUT = const(3)
_REFUSED = const(5)


class Remote:
    """A peer to send requests to, from Node.connect(). Its calls are coroutines.

    Each returns the response, a Message, and raises CoapError for a 4.xx or 5.xx one, Timeout where none came and
    Reset where the peer rejected the request. ValueError: what was asked for cannot be written as a CoAP message.
    """

    def __init__(self, driver, transport, peer, base="", host=None, port=None):
        self._driver = driver
        self.transport = transport
        self.peer = peer
        self._base = base
        self.host = host  # as str, and its port, where it is a name, which may come to mean another address
        self.port = port
        self._lost = False  # nothing came the last time
        # Five unguessable bytes a connection (RFC 7252 5.3.1 wants 32 bits or more), and three that count
        self._token = bytearray(random_bytes(8))

    def get(self, path="", **kwargs):
        """GET. path: "sensors/temperature?unit=c", percent-encoded where needed. Arguments: see request()."""
        return self.request(1, path, **kwargs)

    def post(self, path="", payload=None, **kwargs):
        """POST. payload: str or bytes-like; arguments: see request()."""
        return self.request(2, path, payload, **kwargs)

    def put(self, path="", payload=None, **kwargs):
        """PUT. Arguments: see request()."""
        return self.request(3, path, payload, **kwargs)

    def delete(self, path="", **kwargs):
        """DELETE. Arguments: see request()."""
        return self.request(4, path, **kwargs)

    def fetch(self, path="", payload=None, **kwargs):
        """FETCH (RFC 8132 2): a GET whose payload says what is wanted. Arguments: see request()."""
        return self.request(5, path, payload, **kwargs)

    def patch(self, path="", payload=None, **kwargs):
        """PATCH (RFC 8132 3). Arguments: see request()."""
        return self.request(6, path, payload, **kwargs)

    def ipatch(self, path="", payload=None, **kwargs):
        """iPATCH (RFC 8132 3), which may be repeated. Arguments: see request()."""
        return self.request(7, path, payload, **kwargs)

    def observe(self, path="", **kwargs):
        """Observe a resource (RFC 7641). Returns an Observation, to be iterated over with `async for`, and ended with
        `await cancel()`, or by leaving `async with`. Arguments: see observation.Observation.
        """
        from .observation import Observation

        return Observation(self, path, **kwargs)

    async def request(
        self, method, path="", payload=None, json=None, ct=None, timeout_ms=None, into=None, progress=None, **kwargs
    ):
        """Send a request and wait for its response, both in blocks where they are large (RFC 7959).

        method: GET, POST, ...; payload: of Content-Format ct: str, bytes-like, a file (seek, readinto) or an iterator
        of bytes-like; json: an object to send as JSON instead; accept: the Content-Format wanted; options: pairs
        (number, int, str or bytes); confirmable: CON or NON; timeout_ms: for each message of it, MAX_TRANSMIT_WAIT
        (93 s) from sending if None.
        into: what a response's payload goes into: a bytearray, or a file (write); None: at most 16 KiB, see
        reply.payload. progress(bytes, of, out): called after each block, out is True for those of the request; `of`
        None where it is not known. block: bytes of a block at the most, 16 to 1024. start: the block of that size to
        begin with, of a response, where an earlier try got so far.
        """
        if not 0 < method < 32:
            raise ValueError("a method lies between 1 and 31")
        if json is not None:
            payload = _json.dumps(json, separators=(",", ":"))
            ct = 50
        if method == 1 or method == 4:
            if payload is not None:
                raise ValueError("a GET or DELETE has no payload (RFC 7252 5.5)")
        elif isinstance(payload, str):
            payload = payload.encode()
        reply = None
        if (
            into is None
            and "start" not in kwargs
            and "block" not in kwargs
            and (payload is None or isinstance(payload, _BYTES) and len(payload) <= self._driver.endpoint.mtu - _ROOM)
        ):
            try:
                reply = await self.once(method, path, payload, ct, timeout_ms=timeout_ms, **kwargs)
                if reply.uint(23, 0, 3) < 8:  # it is the first block, and the last one
                    return reply
            except CoapError as error:
                hint = error.reply.uint(27, None, 3) if error.reply and payload else None
                if error.code != _TOO_LARGE or hint is None:
                    raise
                kwargs["block"] = 16 << (hint & 7)  # RFC 7959 2.9.3: smaller blocks would do
        try:
            from .transfer import transfer
        except ImportError:
            raise CoapError(0, "this build has no transfer.py: it takes and gives what fits mtu", reply)
        return await transfer(self, method, path, payload, ct, timeout_ms, into, progress, reply, **kwargs)

    async def once(
        self,
        method,
        path="",
        payload=None,
        ct=None,
        accept=None,
        options=(),
        confirmable=True,
        timeout_ms=None,
        token=None,
    ):
        """Send one message and wait for its response: request() without blocks. token: a bytearray of 8, its own."""
        if accept is not None and not 0 <= accept < 65536:
            raise ValueError("a Content-Format lies between 0 and 65535")
        ex, timeout_ms = await self._open(confirmable, timeout_ms)
        try:
            copy(ex.token, 0, token or self.new_token(), 0, 8)
            out = self._driver.endpoint.begin(ex, method)
            if self.host:
                out.option(3, self.host)
            if self._base:
                _write_path(out, self._base)
            _write_path(out, path)
            if accept is not None:
                out.option(17, accept)
            for number, value in options:
                out.option(number, value)
            if payload is not None:
                out.payload(payload, ct)
            return await self._exchange(ex, timeout_ms)
        finally:
            self._driver.release(ex)

    async def ready(self, timeout_ms=None, attempts=0):
        """Do nothing: there is no session to wait for. Returns timeout_ms."""
        return timeout_ms

    async def ping(self, timeout_ms=None):
        """Ask whether the peer is there at all (RFC 7252 4.3). Returns the round trip in ms. Raises Timeout."""
        ex, timeout_ms = await self._open(True, timeout_ms)
        try:
            self._driver.endpoint.begin(ex, 0)
            start = self._driver.now()
            await self._exchange(ex, timeout_ms)
            return ticks_diff(self._driver.now(), start)
        finally:
            self._driver.release(ex)

    def new_token(self):
        """Returns a token that was not used before, valid until the next one."""
        token = self._token
        i = 7
        while i > 4:
            token[i] = (token[i] + 1) & 0xFF
            if token[i]:
                break
            i -= 1
        return token

    async def _open(self, confirmable, timeout_ms):
        """Wait for a slot and for NSTART. Returns the exchange and what is left of timeout_ms."""
        driver = self._driver
        driver.check_running()
        if timeout_ms is not None and timeout_ms <= 0:
            raise ValueError("timeout_ms is a positive number of milliseconds")
        if timeout_ms is not None:
            timeout_ms = min(timeout_ms, 0x1FFFFFFF)  # what ticks can tell apart: six days
        if self._lost:
            self._lost = False
            driver.look_up(self)
        now = driver.now()
        ex = None
        for turn in driver.turns:
            if turn.ex is None and turn.peer == self.peer and turn.transport is self.transport:
                break  # who came before waits
        else:
            ex = driver.endpoint.open(now, self.peer, self.transport, confirmable)
        if ex is None:
            ex = await self._wait_for_slot(now, confirmable, timeout_ms)
            if timeout_ms is not None:
                timeout_ms = max(1, timeout_ms - ticks_diff(driver.now(), now))
        return ex, timeout_ms

    async def _wait_for_slot(self, now, confirmable, timeout_ms):
        driver = self._driver
        endpoint = driver.endpoint
        endpoint.counts[_N_WAITS] += 1
        if endpoint.probing_ms(now, self.peer, self.transport):
            endpoint.counts[_N_PROBINGS] += 1
        turn = Turn(self.peer, self.transport, confirmable)
        ex = None
        driver.turns.append(turn)
        try:
            while turn.ex is None:
                left = _HOUR_MS if timeout_ms is None else timeout_ms - ticks_diff(driver.now(), now)
                if left <= 0:
                    text = "no slot was free in time: raise tx_slots or exchanges, or the timeout"
                    ms = endpoint.probing_ms(driver.now(), self.peer, self.transport)
                    if ms:
                        text = "%s answered nothing: PROBING_RATE lets it be asked again in %d ms" % (self, ms)
                    raise Timeout(0, text)
                await driver.wait_for_turn(turn, left)
                if turn.ended:
                    raise SecurityError(0, "the session ended")
                if not driver.running:  # which its turn may have come before
                    raise CoapError(0, "the node was stopped")
            ex = turn.ex
            return ex
        finally:
            driver.turns.remove(turn)
            if ex is None and turn.ex is not None:
                driver.release(turn.ex)

    async def _exchange(self, ex, timeout_ms):
        driver = self._driver
        ex.message = None
        driver.send(ex, timeout_ms)
        while ex.message is None:
            await driver.wait(ex)
        result = ex.message
        if not isinstance(result, Message):
            self._lost = self.host is not None and isinstance(result, Timeout)
            raise result
        return check(result, driver.endpoint.mtu)

    def __repr__(self):
        return "<Remote %s>" % self.transport.format(self.peer)


class Turn:
    """A caller that waits for an exchange: Driver gives it one, in the order in which callers came."""

    def __init__(self, peer, transport, confirmable):
        self.peer = peer
        self.transport = transport
        self.confirmable = confirmable
        self.ex = None
        self.ended = False  # the peer was a session, which is no more
        self.waiter = None  # the driver's


def check(reply, mtu):
    """Returns a reply; raises CoapError for one that is an error, or not whole."""
    if reply.code > 127:
        try:
            text = reply.payload.decode() if reply.content_format is None else ""
        except ValueError:
            text = ""
        raise CoapError(reply.code, text, reply)
    if reply.truncated:
        raise CoapError(0, "the response is larger than mtu=%d bytes" % mtu, reply)
    return reply


def settle(endpoint, event):
    """Note how an exchange ended, for whoever waits for it."""
    ex = endpoint.exchange
    if event == _RESPONSE:
        ex.message = endpoint.take_rx()
    else:
        where = ex.transport.format(ex.peer)
        if event == _TIMEOUT:
            ex.message = Timeout(0, "no answer from %s: is it up, and is that its address?" % where)
        elif event == _REFUSED:
            ex.message = CoapError(0, "the response of %s has a critical option that is not understood" % where)
        else:
            ex.message = Reset(0, "%s rejected the message" % where)
    return ex


def _write_path(out, path):
    """Add path?query as Uri-Path and Uri-Query options (RFC 7252 6.4, steps 8 and 9).

    path: str or, to allocate nothing, bytes; percent-encoded where needed.
    """
    if isinstance(path, str):
        path = path.encode()
    if b"#" in path:
        raise ValueError("a fragment (#) is not sent: write %23 for the character")
    query = path.find(b"?")
    start = 1 if path.startswith(b"/") else 0
    end = len(path) if query < 0 else query
    if start < end:
        _write_parts(out, 11, path, start, end, b"/")
    if query >= 0:
        _write_parts(out, 15, path, query + 1, len(path), b"&")


def _write_parts(out, number, path, pos, end, mark):
    while True:
        at = path.find(mark, pos, end)
        stop = end if at < 0 else at
        if path.find(b"%", pos, stop) < 0:
            part = path
            n = stop - pos
        else:
            part = unquote(path[pos:stop])
            pos = 0
            n = len(part)
        if n > 255 or number == 11 and 0 < n < 3 and part[pos] == part[pos + n - 1] == 46:
            raise ValueError("a path segment is not . or .., and like a query at most 255 bytes (RFC 7252 5.10.1)")
        out.add(number, part, pos, n)
        if at < 0:
            return
        pos = at + 1
