"""A node's cloud on the virtual network of node_net.py: the real sender, watches and remotes against a scripted server.

No asyncio: what the node starts are tasks of its NetNode. The clock is the network's. Steps are bounded.
"""

import json

import node.watch
from coaplet import CoapError
from helpers import ACK, CON, RST
from net import Network
from node.clock import Clock
from node.clouds import make
from node.config import Config
from node.log import Log
from node.queue import Queue
from node.records import Records
from node.rpc import Rpc
from node.sender import Sender
from node.settings import Settings
from node.state import State
from node.update import Update
from node.watch import Watches
from node_fakes import Board, Files
from node_net import NetNode, Pause, Task

CLOUDS = ("golioth", "thingsboard", "emqx", "coap")
TOKEN = "A1 b&2"
CONFIG = {
    "golioth": {},
    "thingsboard": {"cloud_token": TOKEN},
    "emqx": {"cloud_user": "a&b", "cloud_token": TOKEN},
    "coap": {"cloud_path": "data/{node}/{kind}/{name}", "cloud_method": "PUT"},
}
PATHS = {
    "golioth": ("logs", ".s", ".s/*"),
    "thingsboard": ("api/*",),
    "emqx": ("mqtt/*", "ps/*"),
    "coap": ("data/*",),
}
WALL = 1700000000000
EMPTY = 0


class Ticking(Board):
    """A board whose ticks are the network's, and whose clock is set unless `wall` is None."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.wall = WALL

    def ticks_ms(self):
        return self.network.elapsed & 0x3FFFFFFF

    def clock(self):
        return None if self.wall is None else self.wall + self.network.elapsed


class Signal:
    """In place of an asyncio.Event."""

    def __init__(self):
        self._set = False

    def set(self):
        self._set = True

    def clear(self):
        self._set = False

    async def wait(self):
        while not self._set:
            await Pause()


class _Spawned(Task):
    def cancel(self):
        try:
            self._coroutine.close()
        except ValueError:  # it runs: it is who cancels
            pass


class Tasks:
    """In place of asyncio, for what makes tasks: they are a NetNode's."""

    def __init__(self, host):
        self._host = host

    def create_task(self, coroutine):
        task = _Spawned(coroutine)
        self._host.tasks.append(task)
        self._host._woken = True
        return task


class Server(NetNode):
    """A server with a script. weather: function of (request, response, list of seq) that raises or writes an error, and
    returns True for "do not take it"; taken: seq of each record, in order; times: when a request with records came.

    slow_ms: how long a response takes. resets: every CON is rejected. late_acks: an empty ACK goes out behind the
    response that it was for.
    """

    paths = None  # of what takes records, else PATHS

    def __init__(self, network, cloud, name="s"):
        self.resets = 0
        self.late_acks = False
        self.held = []
        self.early = 0
        super().__init__(name, network)
        self.cloud = cloud
        self.weather = None
        self.slow_ms = 0
        self.taken = []
        self.times = []
        self.requests = []
        self.connections = 0
        self.serve()
        for path in PATHS[cloud] if self.paths is None else self.paths:
            self.resource(path, methods="POST PUT", body=bytearray(2048))(self._handle)

    def serve(self):
        """What it has beside what takes records; which comes first."""

    async def _handle(self, request, response):
        text = request.path + ("?" + "&".join(request.query) if request.query else "")
        payload = bytes(request.payload)
        method = request.method
        if self.cloud == "emqx":
            if request.path == "mqtt/connection" and method == 2:
                self.connections += 1
                response.code = 65
                response.text("t%d" % self.connections)
                return
            if "token=t%d" % self.connections not in request.query:
                raise CoapError(129, "Invalid token or clientid in connection mode")
        self.requests.append((method, text, payload))
        seqs = seqs_of(json.loads(payload)) if payload else []
        if seqs:
            self.times.append(self.network.elapsed)
        if self.slow_ms:
            await self.sleep(self.slow_ms)
        if self.weather and self.weather(payload, response, seqs):
            return
        self.taken += seqs
        response.code = 65 if self.cloud == "thingsboard" else 68

    def take(self, data, source):
        if self.resets and data[0] >> 4 & 3 == CON:
            self.resets -= 1
            self.link.outbox.append((bytes((0x40 | RST << 4, 0)) + data[2:4], source))
            return
        super().take(data, source)

    def sent(self):
        sent = super().sent()
        if not self.late_acks:
            return sent
        out = []
        for data, peer in sent:
            if data[0] >> 4 & 3 == ACK and data[1] == EMPTY:
                self.held.append((data, peer))
            else:
                out.append((data, peer))
                if self.held and data[0] >> 4 & 3 == CON:
                    self.early += 1
                    out += self.held
                    self.held = []
        return out


def seqs_of(given):
    """The numbers of the records in a payload of any of the clouds. A reading's value is its number."""
    found = []
    for one in given if isinstance(given, list) else [given]:
        one = one.get("values", one)
        one = one.get("log", one)
        if "seq" in one:
            found.append(one["seq"])
        else:
            for name in one:
                value = one[name]
                if isinstance(value, dict):
                    found.append(value["seq"])  # Golioth's, in a batch
                elif name in ("x", "y"):
                    found.append(value)
    return found


class Bench:
    """A node with a cloud, and its server. records: how many the queue holds; wall: whether the clock is set.

    Attributes: the parts of the node, as App has them; network, c, the node on it, server.
    """

    def __init__(self, cloud, records=64, config=None, server=None, wall=True, level="info"):
        self.network = Network()
        self.c = NetNode("c", self.network)
        self.server = server(self.network) if server else Server(self.network, cloud)
        self.to = self.server.name
        self.connects = 0
        self.errors = []  # of the next connects
        self.lines = []
        given = {"name": "n-1", "collector": "coap://s", "cloud": cloud, "keepalive_s": 0, "allow_plain": True}
        given.update(CONFIG[cloud])
        given.update(config or {})
        self.files = Files({"state/config.json": json.dumps(given)})
        self.config = Config(self.files.store())
        assert self.config.load() is None
        self.board = Ticking(self.network)
        if not wall:
            self.board.wall = None
        self.clock = Clock(self.board)
        self.queue = Queue(records)
        self.records = Records(self.queue, self.clock, "n-1", 7)
        self.log = Log(self.records, level, self.lines.append)
        self.changes = []
        self.settings = Settings(self.config, lambda now, later: self.changes.append((now, later)), self.log)
        self.rpc = Rpc(self.log)
        self.state = State({"board": "b", "boot": 7}, self.log)
        self.update = Update("1.0.0", self.log)
        self.cloud = make(self)
        running = self.config.running
        self.waits = []
        node.watch.asyncio = Tasks(self.c)
        self.watches = Watches(running, self.log, self._sleep)
        self.sender = Sender(
            *(self.queue, self.clock, self.log, running, self.cloud, self._connect),
            **{"random": lambda n: bytes(n), "sleep": self._sleep, "follow": self.watches.follow},
        )
        self.sender._event = Signal()
        self.task = None

    async def _sleep(self, seconds):
        self.waits.append(seconds)
        await self.c.sleep(int(seconds * 1000))

    async def _connect(self, uri):
        self.connects += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.c.to(self.to)

    def watch(self):
        self.cloud.watch(self.watches)

    def read(self, count=1, name="x"):
        """Queue readings, whose value is their number."""
        path = self.queue.path(".s/" + name)
        for _ in range(count):
            self.records.reading(path, str(self.records.seq + 1), "1")
        self.go()

    def say(self, count=1, msg="m", **extra):
        """Queue logs."""
        for _ in range(count):
            self.log.post("info", "test", msg, **extra)
        self.go()

    def start(self):
        """Let the sender run, for ever."""
        self.task = self.c.start(self.sender.run())

    def go(self):
        """Let the node do what it can do now."""
        if self.task:
            self.c._go_on()
            self.network.collect(self.c)

    def drain(self, steps=20000):
        """Run until the queue is empty."""
        if self.task is None:
            self.start()
        self.network.run(lambda: not self.queue.queued or self.task.done, steps)
        self.network.run_for(500, steps)
        assert not self.task.done, self.task.error
        assert not self.server.errors, self.server.errors

    def run_for(self, ms, steps=20000):
        self.network.run_for(ms, steps)
        assert not self.task.done, self.task.error

    def settled(self):
        """See that each record arrived once, in order, or was counted as dropped or refused."""
        self.drain()
        taken = self.server.taken
        for i in range(len(taken) - 1):
            assert taken[i] < taken[i + 1], taken
        lost = self.records.seq - len(taken)
        assert lost == self.queue.dropped + self.sender.refused, (lost, self.queue.dropped, self.sender.refused)
        return lost
