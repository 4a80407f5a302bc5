"""Ends of DTLS on a virtual network and clock; records and messages written by hand.

The clock starts shortly before the ticks wrap. Steps are bounded: a live-lock fails. Addresses are names.
"""

import gc
import sys

from coaplet.dtls.layer import Dtls
from coaplet.port import ticks_add, ticks_diff
from net import START, Random

PSK = (b"id", b"secret")
KEYS = {b"id": b"secret"}
MTU = 256
CHANGE, ALERT, HANDSHAKE, DATA, CID = 20, 21, 22, 23, 25
CCM_8, CCM, GCM = 0xC0A8, 0xC0A4, 0x00A8


class Wire:
    """loss, duplication: percent; delays: (least, most) in ms, each datagram its own, so they overtake."""

    def __init__(self, seed=1, loss=0, duplication=0, delays=(1, 1)):
        self.now = START
        self.elapsed = 0
        self.random = Random(seed)
        self.loss = loss
        self.duplication = duplication
        self.delays = delays
        self.hosts = {}
        self.log = []  # (elapsed, source, target, bytes) of each datagram sent
        self.change = None  # (source, target, bytes) -> datagrams that go on in its place
        self.steps = 0
        self._way = []  # (arrival in elapsed ms, bytes, source, target)

    def send(self, data, source, target):
        self.log.append((self.elapsed, source, target, data))
        for one in (data,) if self.change is None else self.change(source, target, data):
            self.carry(one, source, target)

    def carry(self, data, source, target):
        random = self.random
        if self.loss and random.below(100) < self.loss:
            return
        least, most = self.delays
        for _ in range(2 if self.duplication and random.below(100) < self.duplication else 1):
            late = least + (random.below(most - least + 1) if most > least else 0)
            self._way.append((self.elapsed + late, data, source, target))

    def step(self, most=None):
        """Do the next thing that happens, within so many ms. Returns False when nothing will."""
        best = most
        which = None
        for i in range(len(self._way)):
            wait = self._way[i][0] - self.elapsed
            if best is None or wait < best:
                best = wait
                which = i
        host = None
        for one in self.hosts.values():
            if one.layer.deadline is not None:
                wait = max(0, ticks_diff(one.layer.deadline, self.now))
                if best is None or wait < best:
                    best = wait
                    host = one
        if best is None or which is None and host is None:
            return False
        self.steps += 1
        self.advance(max(best, 0))
        if host is not None:
            host.layer.handle_timeout(self.now)
        else:
            _, data, source, target = self._way.pop(which)
            if target in self.hosts:
                self.hosts[target].take(data, source)
        return True

    def advance(self, ms):
        self.now = ticks_add(self.now, ms)
        self.elapsed += ms

    def run(self, done, steps=500):
        while not done():
            steps -= 1
            assert steps > 0, "no end in sight"
            assert self.step(), "nothing will happen any more"

    def run_for(self, ms, steps=500):
        until = self.elapsed + ms
        while self.step(until - self.elapsed):
            steps -= 1
            assert steps > 0, "no end in sight"
        self.advance(until - self.elapsed)


class Host:
    """An end: a layer over a transport of the virtual network, what came out of it, and what became of its sessions."""

    more = False

    def __init__(self, wire, name, mtu=MTU, **kwargs):
        self.wire = wire
        self.address = name
        self.inbox = []
        self.got = []  # (plaintext, session)
        self.changes = []  # (whether it is up, why it is not)
        self.layer = Dtls(self, mtu, **kwargs)
        self.layer.now = lambda: wire.now
        self.layer.changed = lambda session: self.changes.append((session.up, session.error))
        wire.hosts[name] = self

    def send(self, buf, address):
        self.wire.send(bytes(buf), self.address, address)
        return True

    def receive(self):
        return self.inbox.pop(0) if self.inbox else None

    def format(self, address):
        return address

    def close(self):
        pass

    def take(self, data, source):
        """Take in a datagram, at once."""
        self.inbox.append((data, source))
        while self.inbox or self.layer.more:
            found = self.layer.receive()
            if found:
                self.got.append((bytes(found[0]), found[1]))
        self.calculate()

    def answers(self, data, source):
        """What is sent for a datagram, which goes nowhere else."""
        wire = self.wire
        before = wire.change
        sent = []
        wire.change = lambda a, b, one: sent.append((b, one)) or ()
        self.take(data, source)
        wire.change = before
        return sent

    def calculate(self):
        """Do what is left of handshakes to calculate, as a driver whose time is not taken by others."""
        layer = self.layer
        steps = 20
        while True:
            halves = list(layer.acceptor.halves.values()) if layer.acceptor else []
            for session in halves + list(layer.sessions.values()):
                if session.handshake is not None and (session.handshake.steps or session.handshake.held):
                    break
            else:
                return
            steps -= 1
            assert steps, "no end in sight"
            layer.handle_timeout(self.wire.now)

    def move(self, name):
        del self.wire.hosts[self.address]
        self.address = name
        self.wire.hosts[name] = self


def pair(client=None, server=None, mtu=MTU, **kwargs):
    """A network with a client "c" and a server "s"; client, server: arguments of Dtls; kwargs: the network's."""
    gc.collect()
    wire = Wire(**kwargs)
    server = dict(server or {})
    server.setdefault("find_key", KEYS.get)
    return wire, Host(wire, "c", mtu, **client or {}), Host(wire, "s", mtu, **server)


def shake(wire, c, s, psk=PSK, resumption=None):
    """Do a handshake; returns the session of the client, up or with an error, and that of the server."""
    before = s.layer.sessions.get(c.address)
    session = c.layer.connect(s.address, psk, resumption)
    wire.run(lambda: session.error or session.up and s.layer.sessions.get(c.address) not in (None, before))
    return session, s.layer.sessions.get(c.address)


def connected(client=None, server=None, **kwargs):
    """A pair with a session: (network, client, server, client's session, server's)."""
    wire, c, s = pair(client, server, **kwargs)
    a, b = shake(wire, c, s)
    assert a.up and b.up, a.error
    return wire, c, s, a, b


def talk(wire, c, s, a, b):
    """See that data goes both ways."""
    for host, other, session, to, data in ((c, s, a, b, b"\x40there"), (s, c, b, a, b"\x40and back")):
        n = len(other.got)
        assert host.layer.send(data, session)
        wire.run(lambda: len(other.got) > n)
        assert other.got[n] == (data, to)


def kept(host, session, kind, content):
    """A record of a session, as it would go out."""
    n = session.keys.seal(host.layer.scratch, kind, content, len(content))
    return bytes(host.layer.scratch.sealed[:n])


def state(session):
    """All of a session that only who has the key may change."""
    keys = session.keys
    numbers = (keys.next, keys.last, bytes(keys.window), bytes(keys.block)) if keys else None
    return session.address, session.up, session.error, numbers, session.used, session.moving, session.handshake


def records(data, cid=0):
    """The records of a datagram, each as bytes; cid: of how many bytes the Connection ID is."""
    found = []
    while data:
        at = 13 + (cid if data[0] == CID else 0)
        at += data[at - 2] << 8 | data[at - 1]
        found.append(data[:at])
        data = data[at:]
    return found


def record(kind, content, seq=0, version=b"\xfe\xfd"):
    """A record of epoch 0."""
    return bytes((kind,)) + version + b"\0\0" + seq.to_bytes(6, "big") + len(content).to_bytes(2, "big") + content


def message(kind, seq, body, at=0, size=None):
    """A handshake message, or the fragment of it at body[at : at + size]."""
    size = len(body) - at if size is None else size
    head = bytes((kind,)) + len(body).to_bytes(3, "big") + seq.to_bytes(2, "big")
    return head + at.to_bytes(3, "big") + size.to_bytes(3, "big") + body[at : at + size]


def hello_verify(cookie, seq=0):
    return record(HANDSHAKE, message(3, seq, b"\xfe\xff" + bytes((len(cookie),)) + cookie), seq, b"\xfe\xff")


def kinds(data):
    """What the records of a datagram are: types of handshake messages, -20 for a ChangeCipherSpec, -1 sealed."""
    return [-1 if r[0] == CID or r[4] else -r[0] if r[0] != HANDSHAKE else r[13] for r in records(data)]


class Replaced:
    """In a `with`: other values for names of a module of coaplet.dtls."""

    def __init__(self, module, **values):
        __import__("coaplet.dtls." + module)
        self._module = sys.modules["coaplet.dtls." + module]
        self._values = values

    def _swap(self):
        for name in self._values:
            value = getattr(self._module, name)
            setattr(self._module, name, self._values[name])
            self._values[name] = value

    def __enter__(self):
        self._swap()
        return self

    def __exit__(self, *_):
        self._swap()
