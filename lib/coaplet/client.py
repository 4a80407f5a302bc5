# Requests of ours (RFC 7252 5.2-5.4): what a user calls. Waiting is left to the driver: asyncio or a plain loop.

from .codes import CoapError, Reset, SecurityError, Timeout
from .message import Message
from .port import const, random_bytes, ticks_diff
from .uri import unquote
from .wire import copy

_HOUR_MS = const(3600000)

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

    async def request(
        self,
        method,
        path="",
        payload=None,
        json=None,
        ct=None,
        accept=None,
        options=(),
        confirmable=True,
        timeout_ms=None,
    ):
        """Send a request and wait for its response.

        method: GET, POST, ...; payload: str or bytes-like, of Content-Format ct; json: an object to send as JSON
        instead; accept: the Content-Format wanted; options: pairs (number, int, str or bytes); confirmable: CON or
        NON; timeout_ms: for all of it, MAX_TRANSMIT_WAIT (93 s) from sending if None.
        """
        if not 0 < method < 32:
            raise ValueError("a method lies between 1 and 31")
        if (method == 1 or method == 4) and (payload is not None or json is not None):
            raise ValueError("a GET or DELETE has no payload (RFC 7252 5.5)")
        if accept is not None and not 0 <= accept < 65536:
            raise ValueError("accept is a Content-Format, 0 to 65535")
        ex, timeout_ms = await self._open(confirmable, timeout_ms)
        try:
            out = self._begin(ex, method)
            if self.host:
                out.option(3, self.host)
            if self._base:
                _write_path(out, self._base)
            _write_path(out, path)
            if accept is not None:
                out.option(17, accept)
            for number, value in options:
                out.option(number, value)
            if json is not None:
                out.json(json)
            elif payload is not None:
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

    def _begin(self, ex, method):
        token = self._token
        i = 7
        while i > 4:
            token[i] = (token[i] + 1) & 0xFF
            if token[i]:
                break
            i -= 1
        copy(ex.token, 0, token, 0, 8)
        return self._driver.endpoint.begin(ex, method)

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
                    ms = endpoint.probing_ms(driver.now(), self.peer, self.transport)
                    if ms:
                        raise Timeout(
                            0, "%s answered nothing: PROBING_RATE lets it be asked again in %d ms" % (self, ms)
                        )
                    raise Timeout(0, "no slot was free in time: raise tx_slots or exchanges, or the timeout")
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
            self._lost = self.port is not None and isinstance(result, Timeout)
            raise result
        if result.code > 127:
            payload = result.payload
            try:
                text = payload.decode() if result.content_format is None else ""
            except (UnicodeError, ValueError):
                text = ""
            raise CoapError(result.code, text, result)
        if result.truncated:
            raise CoapError(0, "the response is larger than mtu=%d bytes" % driver.endpoint.mtu, result)
        return result

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


def _write_parts(out, number, path, pos, end, separator):
    while True:
        at = path.find(separator, pos, end)
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
