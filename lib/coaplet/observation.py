# Observing a resource of a server, the client's side (RFC 7641 3).
#
# The newest notification is kept until it is asked for; older ones that nobody has seen make way, since what counts is
# the state. When a notification is older than its Max-Age the client registers again, with the same token (3.3.1); when
# the session with the server is another one, with another. Where the server does not observe, it is asked each Max-Age.

from .codes import CoapError, SecurityError, Timeout
from .message import largest_szx
from .port import const, getrandbits, ticks_add, ticks_diff
from .wire import same

_GET = const(1)
_TKL = const(8)
_AGE_MOST_MS = const(43200000)
_LATE_MS = const(5000)  # after Max-Age (3.3.1: 5 to 15 s)
_FIRST_MS = const(2000)
_LONGEST_MS = const(300000)
_REORDERED_MS = const(128000)
_HALF = const(1 << 23)
_INTERNAL = const(160)


def is_newer(before, value, ms):
    """Tell whether a notification with the number `value` is newer than one of ms before (RFC 7641 3.4)."""
    return 0 < value - before < _HALF or before - value > _HALF or ms > _REORDERED_MS


class Observation:
    """What Remote.observe() returns: `async for reply in it`, or `reply = await it.next()`.

    The first reply is the current state. An error of the server ends it and is raised; but for the first time, what
    gets no answer, or a 5.xx one, is asked again with back-off. method: GET or FETCH, with payload and ct; refresh_s:
    how long to be without news at least before it registers again, where Max-Age is shorter; most: how many
    notifications are kept until somebody asks for them; the other arguments are request()'s. registered: whether the
    server notifies us.
    """

    def __init__(
        self, remote, path="", method=_GET, payload=None, ct=None, options=(), block=1024, refresh_s=0, most=1, **kwargs
    ):
        szx = largest_szx(block)
        if szx < 0:
            raise ValueError("block lies between 16 and 1024 bytes")
        self._remote = remote
        self._request = (method, path, payload, ct)
        self._options = tuple(options)
        self._block = () if szx == 6 else ((23, szx),)
        self._refresh_s = refresh_s
        self._kwargs = kwargs
        self.token = bytearray(remote.new_token())
        self.peer = None
        self.transport = None
        self.registered = False
        self.skipped = 0  # notifications that made way for newer ones before anybody saw them
        self.waiter = None
        self._most = most
        self._messages = []  # that nobody has seen, most at a time
        self._value = 0  # of the newest notification
        self._since = 0
        self._due = None  # when to register again
        self._backoff_ms = _FIRST_MS
        self._ended = False

    # For the endpoint and the driver: this is a sort of Exchange

    def is_meant(self, rx):
        """Tell whether a response is a notification of this."""
        return (
            rx.table[_TKL] == 8
            and same(self.token, rx.data, 4, 8)
            and rx.peer == self.peer
            and rx.transport is self.transport
        )

    def is_news(self, now, rx):
        """Tell whether a notification is newer than what is known (3.4); one without a number ends the observation."""
        value = rx.uint(6, None, 3)
        ms = ticks_diff(now, self._since)
        if value is None or not self.registered or ms < 0 or is_newer(self._value, value, ms):
            self._value = value or 0
            self._since = now
            ms = min(1000 * max(rx.max_age, self._refresh_s), _AGE_MOST_MS)
            self._due = ticks_add(now, ms + _LATE_MS + 40 * getrandbits(8))
            self.registered = value is not None
            return True
        return False

    @property
    def message(self):
        return self._messages[0] if self._messages else None

    @message.setter
    def message(self, message):
        if len(self._messages) == self._most:
            self._messages.pop(0)
            self.skipped += 1
        self._messages.append(message)

    # For whoever observes

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self._ended:
            raise StopAsyncIteration
        return await self.next()

    async def next(self):
        """Wait for the next state. Returns the reply."""
        driver = self._remote._driver
        while True:
            if self._messages:
                reply = self._messages.pop(0)
                if isinstance(reply, Exception):  # there was no memory for it
                    raise reply
                if reply.code < _INTERNAL:
                    return await self._whole(reply)
                self._later()
            if self._ended or not driver.running:
                raise CoapError(0, "the observation was cancelled" if driver.running else "the node was stopped")
            now = driver.now()
            lost = self.peer is not self._remote.peer or not getattr(self.peer, "up", True)
            left = 0 if lost or self._due is None else ticks_diff(self._due, now)
            if left > 0:
                await driver.wait_for_turn(self, left)
                continue
            try:
                reply = await self._register(0)
            except CoapError as error:
                silent = isinstance(error, (Timeout, SecurityError)) or error.code >= _INTERNAL
                if self._due is None or not silent or getattr(self._remote, "closed", False):
                    self.close()
                    raise
                self._later()
                continue
            self._backoff_ms = _FIRST_MS
            return await self._whole(reply)

    def _later(self):
        self.registered = False
        self._due = ticks_add(self._remote._driver.now(), self._backoff_ms)
        self._backoff_ms = min(2 * self._backoff_ms, _LONGEST_MS)

    async def _register(self, observe):
        remote = self._remote
        driver = remote._driver
        await remote.ready()
        endpoint = driver.endpoint
        if self.peer is not remote.peer and not observe:
            self.token[:] = remote.new_token()  # 3.3.1 is about one endpoint: another session is another one
        if not self._ended and self not in endpoint.observations:
            endpoint.observations += (self,)
        self.peer = remote.peer
        self.transport = remote.transport
        self.registered = False
        method, path, payload, ct = self._request
        options = self._options + ((6, observe),) + self._block
        reply = await remote.once(method, path, payload, ct, options=options, token=self.token, **self._kwargs)
        if self.peer is not remote.peer:  # it was looked up anew, or the session began anew
            self.peer = remote.peer
            self.transport = remote.transport
        self.registered = False
        self.is_news(driver.now(), reply)
        return reply

    async def _whole(self, reply):
        """Fetch the rest of a notification (RFC 7959 2.6). Raises CoapError for one that is an error."""
        from .client import check

        try:
            check(reply, self._remote._driver.endpoint.mtu)
        except CoapError:
            self.close()
            raise
        if reply.uint(23, 0, 3) > 7:
            from .transfer import transfer

            method, path, payload, ct = self._request
            kwargs = self._kwargs.copy()
            kwargs["options"] = self._options
            ms = kwargs.pop("timeout_ms", None)
            reply = await transfer(self._remote, method, path, payload, ct, ms, None, None, reply, **kwargs)
        return reply

    async def cancel(self):
        """End the observation, and tell the server (3.6). Returns the reply, the state as it is, or None."""
        if self._ended:
            return None
        self.close()
        if self.registered and self._remote._driver.running and getattr(self.peer, "up", True):
            return await self._register(1)
        return None

    def close(self):
        """End the observation without a word: the next notification is rejected (3.6)."""
        self._ended = True
        driver = self._remote._driver
        endpoint = driver.endpoint
        endpoint.observations = tuple(watch for watch in endpoint.observations if watch is not self)
        driver._wake(self)  # who waits for the next one

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        try:
            await self.cancel()
        except CoapError:
            pass  # it was closed first
