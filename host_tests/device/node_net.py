"""Nodes on the virtual network of net.py: a driver whose transport is a Link, whose clock is the network's.

Handlers, observers, transfers and a Remote's calls run here as they do on a board. What waits is a Task, which is
stepped after each datagram and each deadline; nothing else drives it.
"""

from coaplet.driver import Driver
from coaplet.port import ticks_add, ticks_diff
from helpers import CON, message, path, read
from net import Network


class Link:
    """A transport: what is sent waits in .outbox for the network."""

    pollable = family = None
    secure = multicast = more = False
    mtu = 1152

    def __init__(self):
        self.outbox = []

    def open(self):
        pass

    close = open

    def receive(self):
        return None

    def send(self, buf, peer):
        self.outbox.append((bytes(buf), peer))
        return True

    def format(self, peer):
        return str(peer)

    def address(self):
        return "virtual"


class Pause:
    """Awaitable that gives way once."""

    def __init__(self):
        self._paused = False

    def __iter__(self):
        return self

    __await__ = __iter__

    def __next__(self):
        self._paused = not self._paused
        if not self._paused:
            raise StopIteration


class Task:
    """A coroutine, and what came of it: .result, or .error."""

    def __init__(self, coroutine):
        self._coroutine = coroutine
        self.done = False
        self.result = None
        self.error = None

    def step(self):
        try:
            self._coroutine.send(None)
        except StopIteration as stop:
            self.done = True
            self.result = stop.value
        except Exception as error:
            self.done = True
            self.error = error

    def get(self):
        assert self.done
        if self.error is not None:
            raise self.error
        return self.result


class NetNode(Driver):
    """A node called `name`; arguments: Driver's. Its .link is its only transport."""

    def __init__(self, name, network, **kwargs):
        self.name = name
        self.network = network
        self.link = Link()
        self.tasks = []
        self._woken = False
        self._mid = 0
        kwargs.setdefault("random", network.random.bits)
        kwargs.setdefault("leisure_ms", 0)
        kwargs.setdefault("probing_rate", 0)
        super().__init__(transports=(self.over(self.link),), **kwargs)
        self.now = lambda: network.now
        network.hosts[name] = self
        self.errors = []
        self._open()

    def over(self, link):
        """Returns the transport, where it is another one than the link: a layer over it."""
        return link

    def resource(self, *args, **kwargs):
        register = super().resource(*args, **kwargs)
        self.server.on_error = lambda resource, error: self.errors.append(error)
        return register

    # For Driver

    async def wait(self, ex):
        await Pause()

    async def wait_for_turn(self, turn, ms):
        self.endpoint.arm(ticks_add(self.now(), max(0, ms)))
        await Pause()

    async def sleep(self, ms):
        until = ticks_add(self.now(), ms)
        while ticks_diff(until, self.now()) > 0:
            self.endpoint.arm(until)
            await Pause()

    def spawn(self, coroutine, ex):
        self._woken = True
        self.tasks.append(Task(coroutine))

    def _wake(self, ex):
        self._woken = True

    # For the network

    def sent(self):
        sent = self.link.outbox
        self.link.outbox = []
        return sent

    def take(self, data, source):
        self.endpoint.handle_datagram(self.now(), data, source, self.link)

    def events(self):
        self._follow(self.now())
        self._go_on()

    def on_time(self, now):
        self._on_time(now)
        self._go_on()

    def _go_on(self):
        steps = 100
        self._woken = True
        while self._woken:
            self._woken = False
            self._arm()
            for task in list(self.tasks):
                task.step()
                if task.done:
                    self.tasks.remove(task)
            self._arm()
            steps -= 1
            assert steps, "no end in sight"

    # For tests

    def start(self, coroutine):
        """Begin a call; returns its Task."""
        task = Task(coroutine)
        self.tasks.append(task)
        self._go_on()
        self.network.collect(self)
        return task

    def call(self, coroutine, steps=5000):
        """Run a call to its end. Returns what it returns, raises what it raises."""
        task = self.start(coroutine)
        self.network.run(lambda: task.done, steps)
        return task.get()

    def to(self, peer):
        """A Remote."""
        return self.remote(self.link, peer)

    def receive(self, data, peer="raw", multicast=False):
        """Take in a datagram from outside the network; returns what was sent, as a list of (bytes, peer)."""
        self.endpoint.handle_datagram(self.now(), data, peer, self.link, multicast)
        self.events()
        return self.sent()

    def ask(self, code, text, options=(), payload=b"", peer="raw", token=b"tk", kind=CON, mid=None):
        """The one reply to a request, as read() gives it; options: (number, bytes), beside the path."""
        if mid is None:
            self._mid += 1
            mid = self._mid
        numbers = sorted({11} | {number for number, _ in options})
        given = path(text) if text else []
        every = [pair for n in numbers for pair in given + list(options) if pair[0] == n]
        sent = self.receive(message(kind, code, mid, token, every, payload), peer)
        assert len(sent) == 1 and sent[0][1] == peer, sent
        return read(sent[0][0])

    def tell(self, ms=1, steps=5000):
        """Let time pass; returns what was sent meanwhile, each as read() gives it with the peer, in order."""
        before = len(self.network.log)
        self.network.run_for(ms, steps)
        return [(read(data), to) for _, source, to, data in self.network.log[before:] if source == self.name]


def two(client=None, server=None, **kwargs):
    """(network, client "c", server "s"): arguments of the nodes, as dicts, and of the network."""
    network = Network(**kwargs)
    return network, NetNode("c", network, **client or {}), NetNode("s", network, **server or {})


def values(m, number):
    """The values of an option of what read() returned."""
    return [value for n, value in m[4] if n == number]


def number_of(m, number):
    """The integer of an option of what read() returned, or None."""
    found = values(m, number)
    return int.from_bytes(found[0], "big") if found else None


def blk(number, more, size):
    """The value of a Block option (RFC 7959 2.2) in its shortest form."""
    szx = 0
    while 16 << szx < size:
        szx += 1
    value = number << 4 | (8 if more else 0) | szx
    wire = value.to_bytes(3, "big")
    while wire[:1] == b"\0":
        wire = wire[1:]
    return wire


def pattern(n, seed=0):
    """n bytes of which no two blocks are the same."""
    data = bytearray(n)
    for i in range(n):
        data[i] = (i * 7 + (i >> 4) * 13 + (i >> 8) * 29 + seed) & 255
    return bytes(data)


class Brief(list):
    """A network's log of so much that not all can be kept: it counts, and keeps each CON that keep() wants."""

    count = 0

    def __init__(self, keep=lambda data: False):
        super().__init__()
        self.keep = keep

    def append(self, entry):
        self.count += 1
        if self.keep(entry[3]):
            super().append(entry)


def gaps(times):
    """The time between each and the next."""
    return [times[i + 1] - times[i] for i in range(len(times) - 1)]


class File:
    """A file in memory, which notes whether it was closed, and fails from `full` bytes on."""

    def __init__(self, data=b"", full=None):
        self.data = bytearray(data)
        self.at = 0
        self.full = full
        self.closed = False
        self.reads = []

    def seek(self, at, whence=0):
        self.at = len(self.data) + at if whence == 2 else at
        return self.at

    def readinto(self, buf):
        n = max(0, min(len(buf), len(self.data) - self.at))
        buf[:n] = self.data[self.at : self.at + n]
        self.at += n
        self.reads.append(n)
        return n

    def write(self, data):
        assert not self.closed
        if self.full is not None and self.at + len(data) > self.full:
            raise OSError(28)
        self.data[self.at : self.at + len(data)] = data
        self.at += len(data)
        return len(data)

    def close(self):
        self.closed = True
