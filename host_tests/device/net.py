"""Endpoints on a virtual network: seeded loss, duplication, delay, reordering, truncation; a virtual clock.

The clock starts shortly before the ticks wrap, so each test crosses the wrap. Steps are bounded: a live-lock fails.
"""

from coaplet.endpoint import REQUEST, RESPONSE, Endpoint
from coaplet.port import ticks_add
from coaplet.server import Server

START = ticks_add(0, -3000)


class Random:
    """The same pseudo-random numbers on every interpreter (Wichmann and Hill's). Allocates nothing on 32 bits."""

    def __init__(self, seed):
        self._a = seed * 7 % 30000 + 1
        self._b = seed * 11 % 30000 + 101
        self._c = seed * 13 % 30000 + 1001

    def bits(self, n):
        """An integer of n <= 16 bits."""
        self._a = 171 * self._a % 30269
        self._b = 172 * self._b % 30307
        self._c = 170 * self._c % 30323
        return (self._a + self._b + self._c) & ((1 << n) - 1)

    def below(self, n):
        return self.bits(15) % n


class Link:
    """A transport of the virtual world: it has a name, and the network fetches from its endpoint."""

    def format(self, peer):
        return str(peer)


class Host:
    """An endpoint with a name, a server if it has resources, and a record of what its requests came to."""

    def __init__(self, name, network, **limits):
        self.name = name
        self.link = Link()
        limits.setdefault("random", network.random.bits)
        limits.setdefault("leisure_ms", 0)  # a response to a group's request at once
        self.endpoint = Endpoint(**limits)
        self.network = network
        self.tasks = []  # (coroutine, exchange) of async handlers
        self.results = []  # (event, code, payload, exchange)
        self.server = None
        self._count = 0
        network.hosts[name] = self

    def serve(self, path, handler, methods="GET", async_slots=2, options=(), ct=None, etag=None):
        if self.server is None:
            self.server = Server(self.endpoint, self, async_slots)
        self.server.add(path, handler, methods, ct, options, "", etag)

    def spawn(self, coroutine, ex):
        self.tasks.append((coroutine, ex))

    def complete(self, ex):
        self.endpoint.complete(self.network.now, ex)

    def finish_task(self):
        """Run the oldest async handler to its end."""
        coroutine, _ = self.tasks.pop(0)
        try:
            while True:
                coroutine.send(None)
        except StopIteration:
            pass
        self.network.collect(self)

    def request(self, peer, code, path=(), payload=None, confirmable=True, timeout_ms=None, options=()):
        """Send a request; returns its exchange, or None when it has to wait."""
        ex = self.endpoint.open(self.network.now, peer, self.link, confirmable)
        if ex is None:
            return None
        self._count += 1
        ex.token[:] = b"%08d" % self._count
        out = self.endpoint.begin(ex, code)
        for segment in path:
            out.option(11, segment)
        try:
            for number, value in options:
                out.option(number, value)
            if payload is not None:
                out.payload(payload)
        except ValueError:
            self.endpoint.release(ex)
            raise
        self.endpoint.send(self.network.now, ex, timeout_ms)
        self.network.collect(self)
        return ex

    def get(self, peer, *path):
        return self.request(peer, 1, path)

    def post(self, peer, path, payload):
        return self.request(peer, 2, (path,), payload)

    def receive(self, data, peer="raw", multicast=False):
        """Take in a datagram from outside the network; returns what was sent for it, as a list of (bytes, peer)."""
        self.endpoint.handle_datagram(self.network.now, data, peer, self.link, multicast)
        self.events()
        return self.sent()

    def sent(self):
        found = []
        while self.endpoint.poll_transmit(self.link):
            found.append((bytes(self.endpoint.tx_buf), self.endpoint.tx_peer))
        return found

    def take(self, data, source):
        self.endpoint.handle_datagram(self.network.now, data, source, self.link)

    def on_time(self, now):
        self.endpoint.handle_timeout(now)

    def events(self):
        endpoint = self.endpoint
        event = endpoint.poll_event()
        while event:
            if event == REQUEST:
                if self.server:
                    self.server.handle(self.network.now)
                else:
                    endpoint.reject()
            else:
                rx = endpoint.rx
                answered = event == RESPONSE
                self.results.append(
                    (event, rx.code if answered else 0, rx.payload if answered else b"", endpoint.exchange)
                )
                endpoint.release(endpoint.exchange)
            event = endpoint.poll_event()


class Network:
    """loss, duplication, truncation: percent; delays: (least, most) in ms, each datagram its own, so they overtake."""

    def __init__(self, seed=1, loss=0, duplication=0, truncation=0, delays=(1, 1)):
        self.now = START
        self.elapsed = 0
        self.hosts = {}
        self.random = Random(seed)
        self.loss = loss
        self.duplication = duplication
        self.truncation = truncation
        self.delays = delays
        self.lose = None  # (number of datagram, bytes) -> True to lose it; in place of chance
        self.carried = 0
        self.log = []  # (elapsed, from, to, bytes) of every datagram put on the wire
        self._wire = []  # (arrival in elapsed ms, bytes, from, to)

    def collect(self, host):
        for data, peer in host.sent():
            self.send(data, host.name, peer)

    def send(self, data, source, target):
        self.carried += 1
        self.log.append((self.elapsed, source, target, data))
        if self.lose is not None:
            if self.lose(self.carried, data):
                return
        elif self.random.below(100) < self.loss:
            return
        copies = 2 if self.random.below(100) < self.duplication else 1
        for _ in range(copies):
            least, most = self.delays
            late = least + (self.random.below(most - least + 1) if most > least else 0)
            arriving = data
            if self.random.below(100) < self.truncation:
                arriving = data[: self.random.below(len(data))]
            self._wire.append((self.elapsed + late, arriving, source, target))

    def _next(self):
        """(ms until something happens, index of the datagram or None), or None when nothing will."""
        best = None
        which = None
        for i in range(len(self._wire)):
            wait = self._wire[i][0] - self.elapsed
            if best is None or wait < best:
                best = wait
                which = i
        for host in self.hosts.values():
            wait = host.endpoint.poll_timeout(self.now)
            if wait >= 0 and (best is None or wait < best):
                best = wait
                which = None
        return None if best is None else (max(best, 0), which)

    def step(self):
        """Do the next thing that happens. Returns False when nothing will."""
        coming = self._next()
        if coming is None:
            return False
        self.advance(coming[0])
        if coming[1] is not None:
            _, data, source, target = self._wire.pop(coming[1])
            host = self.hosts.get(target)
            if host is not None:
                host.take(data, source)
                host.events()
                self.collect(host)
        for host in self.hosts.values():
            if host.endpoint.poll_timeout(self.now) == 0:
                host.on_time(self.now)
                host.events()
                self.collect(host)
        return True

    def advance(self, ms):
        self.now = ticks_add(self.now, ms)
        self.elapsed += ms

    def run(self, done, steps=5000):
        """Step until done(); fails when it takes more steps than given."""
        while not done():
            steps -= 1
            assert steps > 0, "no end in sight"
            assert self.step(), "nothing will happen any more"

    def run_for(self, ms, steps=5000):
        until = self.elapsed + ms
        while True:
            coming = self._next()
            if coming is None or self.elapsed + coming[0] > until:
                self.advance(until - self.elapsed)
                return
            steps -= 1
            assert steps > 0, "no end in sight"
            self.step()


def pair(**kwargs):
    """A network with hosts "a" and "b"; kwargs are the network's, those that begin with limit_ the endpoints'."""
    limits = {}
    for name in list(kwargs):
        if name.startswith("limit_"):
            limits[name[6:]] = kwargs.pop(name)
    network = Network(**kwargs)
    return network, Host("a", network, **limits), Host("b", network, **limits)
