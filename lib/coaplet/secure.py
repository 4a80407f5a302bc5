# coaps:// for a node: where its sessions come from, who waits for them, and what happens when one is lost.
#
# A SecureRemote keeps a session with its server: when one ends, or never comes up, it begins the next one in the
# background, after 1 s at first and 5 minutes at last. Requests wait for it; those that were on their way when a
# session ended fail (RFC 7252 9.1.1: an answer belongs to the session of its request).

from .client import Remote
from .codes import CoapError, SecurityError, Timeout
from .dtls.layer import Dtls
from .dtls.record import OVERHEAD
from .port import const, getrandbits, random_bytes, resolve, ticks_add, ticks_diff
from .udp import Udp
from .uri import is_address, is_group

_PORT = const(5684)  # RFC 7252 6.2
_GET = const(1)
_ANSWERING = const(3)  # transmission.py
_FIRST_MS = const(1000)
_LONGEST_MS = const(300000)
_LOOK_MS = const(1000)  # how often it is looked whether the node runs still
_SILENT_MS = const(10000)  # as long as three transmissions
_WAIT_MS = const(93000)  # MAX_TRANSMIT_WAIT


def as_bytes(text, most, what):
    """Returns an identity or a key as bytes. Raises ValueError, TypeError."""
    if isinstance(text, str):
        text = text.encode()
    text = bytes(text)
    if not 0 < len(text) <= most:
        raise ValueError("%s has 1 to %d bytes (RFC 4279 5.3)" % (what, most))
    return text


def as_psk(psk):
    """Returns (identity, key), bytes. Raises ValueError."""
    if psk is None:
        raise ValueError('coaps:// needs a pre-shared key: psk=("identity", b"key")')
    identity, key = psk
    return as_bytes(identity, 128, "an identity"), as_bytes(key, 64, "a key")


def as_finder(psk):
    """Returns a function of an identity from what Node was given: a dict, or such a function."""
    if psk is None:
        raise ValueError(
            'serving coaps:// needs pre-shared keys: psk={"identity": b"key"}, or a function of an identity'
        )
    if callable(psk):
        return psk
    keys = {}
    for item in psk.items():
        identity, key = as_psk(item)
        keys[identity] = key
    return keys.get


def secure(driver, host, port, find_key=None):
    """Returns a Dtls over a UDP socket, for a driver."""
    mtu = driver.endpoint.mtu
    return _layer(driver, Udp(host, _PORT if port is None else port, mtu + OVERHEAD), mtu, find_key)


def _layer(driver, lower, mtu, find_key=None):
    layer = Dtls(lower, mtu, find_key, **driver.dtls or {})
    layer.now = lambda: driver.now()
    layer.arm = driver.endpoint.arm
    layer.changed = lambda session: _on_change(driver, layer, session)  # pyright: ignore[reportAttributeAccessIssue]
    return layer


class Records:
    """What is below a Dtls on a line that carries CoAP in the clear, too: the line gives it each record that comes."""

    family = None
    more = multicast = False

    def __init__(self, line):
        self.line = line
        self.send = line.send
        self.format = line.format
        self.address = line.address
        self.pollable = line.pollable
        self.found = None

    def receive(self):
        """Returns (record, peer), once, or None."""
        found = self.found
        self.found = None
        return found

    def open(self):
        """Do nothing: the line is the node's."""

    close = open


def over(driver, line):
    """Returns the Dtls on a line, made if there is none."""
    for layer in driver.transports:
        if isinstance(layer, Dtls) and getattr(layer.lower, "line", None) is line:
            return layer
    records = Records(line)
    layer = _layer(driver, records, min(driver.endpoint.mtu, line.mtu - OVERHEAD))

    def take(found):
        records.found = found
        driver._receive(layer)

    line.on_record = take
    driver.transports.append(layer)
    driver.timed += (layer,)
    return layer


def listen_at(driver, host, port, psk):
    """Returns the transport of coaps://host:port. psk: Driver's."""
    layer = secure(driver, host, port, as_finder(psk))
    driver.timed += (layer,)
    return layer


def _on_change(driver, layer, session):
    """A session came up, or ended."""
    if not session.up:
        for ex in driver.endpoint.exchanges:
            if ex.state and ex.peer is session and ex.message is None:
                ex.message = SecurityError(0, session.error)
                driver._wake(ex)
        for exchanges in driver.endpoint.exchanges, driver.endpoint.handlers:
            for ex in exchanges:
                if ex.peer is session and ex.state == _ANSWERING:  # who asked is no more
                    driver.endpoint.release(ex)
        if driver.endpoint.probing_ms(driver.now(), session, layer):
            driver.endpoint.acquit(session, layer)
        for turn in driver.turns:
            if turn.peer is session:
                turn.ended = True
                driver._wake(turn)
        for watch in driver.endpoint.observations:
            if watch.peer is session:
                driver._wake(watch)
    for owner in session.owners:
        owner.on_change(session)


class SecureRemote(Remote):
    """A server that is reached over DTLS. Calls and errors are Remote's; SecurityError where there is no session."""

    def __init__(self, driver, psk, base, host, port, store=None, line=None):
        if is_group(host):
            raise ValueError("DTLS reaches one host, no group: " + host)
        super().__init__(driver, None, None, base, None if is_address(host) else host, port)
        self._psk = as_psk(psk)
        self._where = (host, _PORT if port is None else port)
        self._address = None
        self._line = line  # a transport whose other end it is
        self._store = store
        self._resumption = None
        self._waiters = []
        self._silent = None  # (session, when it was heard of last, when it was asked something first since)
        self._backoff_ms = _FIRST_MS
        self.deadline = None  # of the next attempt
        self.closed = False
        self.error = ""  # of the last attempt, or session
        self._connect()
        driver.timed += (self,)

    def _connect(self):
        """Begin a handshake, with another address of the host than the last time where it has several. Blocks as
        looking up a name does. Raises OSError."""
        driver = self._driver
        failed = None
        line = self._line
        if line:
            layer = over(driver, line)
            if not self._may_have(layer, line.peer):
                raise OSError("another session has the line")
            self._reach(layer, line.peer)
            return
        for family, address in resolve(self._where[0], self._where[1], self._address):
            try:
                layer = driver.reaching(
                    family, self._where[0], lambda layer, at=address: self._may_have(layer, at), secure
                )
            except OSError as error:
                failed = error
                continue
            if layer not in driver.timed:
                driver.timed += (layer,)
            self._reach(layer, address)
            return
        raise failed

    def _reach(self, layer, address):
        self._address = address
        self.transport = layer
        if self._store and self._wake(layer, address):
            return
        self.peer = layer.sessions.get(address) or layer.connect(address, self._psk, self._resumption)
        self.peer.owners.append(self)
        if self.peer.up:
            self.on_change(self.peer)

    def _may_have(self, layer, address):
        """Tell whether a transport's session with an address is, or can be, ours: an address has but one."""
        if not isinstance(layer, Dtls) or layer.acceptor:  # whose peers may be clients at the same address
            return False
        session = layer.sessions.get(address)
        return session is None or len(session.owners) > 0 and session.owners[0]._psk == self._psk

    def _wake(self, layer, address):
        """Go on with the session that was kept, once. Returns whether there was one."""
        store = self._store
        self._store = None
        found = layer.restore(address, store)
        if found is None:
            return False
        self.peer = found[0]
        self.peer.owners.append(self)
        self._resumption = self.peer.resumption
        self._token[:] = found[2]
        self._driver.endpoint.mid = found[1]
        return True

    def sleep(self, store):
        """Keep the session for later: connect(uri, psk, store=store) goes on with it, once, and without a handshake.

        store: see dtls/sleep.py. Raises OSError, SecurityError where there is no session.
        """
        from .dtls.sleep import sleep

        session = self.peer
        if not session.up:
            raise SecurityError(0, "there is no session to keep: " + self.error)
        sleep(session, store, self._driver.endpoint.mid, self._token)
        self.transport.end(session, "it was kept for later", False)
        self.close()

    def on_change(self, session):
        """The session came up, or ended: this may be in the middle of whatever found out."""
        if session is not self.peer:
            return
        if session.up:
            self.error = ""
            self._backoff_ms = _FIRST_MS
            self._resumption = session.resumption
            self._token = bytearray(random_bytes(8))
        elif not self.closed:
            self.error = session.error
            self._resumption = session.resumption  # none, of one that never came up (RFC 5246 7.2.2)
            self._later(self._backoff_ms)
        for waiter in self._waiters:
            self._driver._wake(waiter)

    def _later(self, ms):
        """Try again in about so many ms."""
        ms -= ms * getrandbits(8) >> 10  # not all nodes of a site at once
        self._backoff_ms = min(2 * self._backoff_ms, _LONGEST_MS)
        self.deadline = ticks_add(self._driver.now(), ms)
        self._driver.endpoint.arm(self.deadline)

    def handle_timeout(self, now):
        """For the driver: try again when it is time."""
        if self.deadline is None or ticks_diff(self.deadline, now) > 0:
            return
        self.deadline = None
        try:
            self._connect()
        except (OSError, MemoryError) as error:
            self.error = "%s could not be asked: %s" % (self._where[0], error or "no memory")
            self._later(self._backoff_ms)

    async def ready(self, timeout_ms=None, attempts=0):
        """Wait until there is a session, for 93 s if timeout_ms is None. Raises SecurityError, which says what failed.

        attempts: 1 gives up when the handshake fails, 0 waits for the next ones. Returns what is left of timeout_ms.
        """
        driver = self._driver
        start = driver.now()
        most = _WAIT_MS if timeout_ms is None else timeout_ms
        waiter = Waiter()
        self._waiters.append(waiter)
        try:
            while not self.peer.up:
                left = most - ticks_diff(driver.now(), start)
                if left <= 0 or self.closed or attempts and self.error:
                    error = "it was closed" if self.closed else self.error
                    if not error:  # what the handshake would say if it ended now
                        handshake = self.peer.handshake
                        error = handshake.hopeless() if handshake else "no answer"
                    raise SecurityError(0, "no session with %s:%d: %s" % (self._where[0], self._where[1], error))
                await driver.wait_for_turn(waiter, min(left, _LOOK_MS))
                if not driver.running:
                    raise CoapError(0, "the node was stopped")
        finally:
            self._waiters.remove(waiter)
            if attempts and not self.peer.up:  # who asked has no Remote that could be closed
                self.close()
        if timeout_ms is not None:
            timeout_ms = max(1, timeout_ms - ticks_diff(driver.now(), start))
        return timeout_ms

    async def request(self, method, *args, timeout_ms=None, **kwargs):
        """Remote.request(). A GET that was on its way when its session ended is sent again in the next one."""
        start = self._driver.now()
        try:
            return await super().request(method, *args, timeout_ms=timeout_ms, **kwargs)
        except SecurityError:
            left = (timeout_ms or _WAIT_MS) - ticks_diff(self._driver.now(), start)
            if method != _GET or not self.deadline or left <= 0 or hasattr(kwargs.get("into"), "write"):
                raise
        return await super().request(method, *args, timeout_ms=timeout_ms and left, **kwargs)

    async def _open(self, confirmable, timeout_ms):
        self._lost = False  # a name is looked up when a session is to be had
        while True:
            timeout_ms = await self.ready(timeout_ms)
            session = self.peer
            heard = session.used
            now = self._driver.now()
            try:
                ex, timeout_ms = await super()._open(confirmable, timeout_ms)
            except SecurityError:  # the session ended while this waited for its turn
                continue
            except Timeout:  # PROBING_RATE
                self._doubt(session, heard, now, False)
                raise
            if session.up:
                return ex, timeout_ms
            self._driver.release(ex)

    async def _exchange(self, ex, timeout_ms):
        session = self.peer
        heard = session.used
        now = self._driver.now()
        try:
            return await super()._exchange(ex, timeout_ms)
        except Timeout:
            self._doubt(session, heard, now, timeout_ms is None)
            raise

    def _doubt(self, session, heard, since, long):
        """A server has not answered. It may have forgotten the session, and cannot say so: who would believe it?

        heard: when it was heard of before; since: when it was asked; long: for as long as a CON takes.
        """
        if session.used != heard or not session.up:
            return
        if self._silent is None or self._silent[0] is not session or self._silent[1] != heard:
            self._silent = (session, heard, since)
        if long or ticks_diff(self._driver.now(), self._silent[2]) >= _SILENT_MS:
            self.transport.end(session, "the server answered nothing any more")

    def close(self, say=True):
        """End the session, and have no other. say: whether the server is told."""
        self.closed = True
        self.deadline = None
        self._driver.timed = tuple(timed for timed in self._driver.timed if timed is not self)
        self.peer.owners.remove(self)
        if not self.peer.owners and (self.peer.up or self.peer.handshake):
            self.transport.end(self.peer, "it was closed", say)
        for waiter in self._waiters:
            self._driver._wake(waiter)

    def __repr__(self):
        return "<SecureRemote %s:%d>" % self._where


class Waiter:
    """Who waits for a session; the driver's as a Turn is."""

    waiter = None
