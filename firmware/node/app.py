"""The node as a whole: starts its parts in order, keeps their two tasks, stops them.

    storage: the boot counter, the configuration     (a damaged one costs a line, never the start)
    network: board.connect, then the board's own transports, or the listening socket (no network, an address that is
             not ours: last good config)
    parts:   queue, records, log, sensors, resources
    tasks:   the sender, the sensors' interval, and what is watched at the cloud

One line on the console for each event: up, serving, collector reachable / away / back, config
changed, warnings. The only file of the package that knows all the others.
"""

import asyncio
import os

from coaplet import Node

from . import FIRMWARE, VERSION
from .clock import Clock
from .clouds import make
from .config import Config
from .log import Log, console
from .queue import Queue
from .records import Records
from .resources import Resources
from .schema import SECURE, key_bytes
from .sender import Sender
from .sensors import Sensors
from .store import Store, count_boot

_LEAVE_TENTHS = 100


class App:
    """board: the board module; store: a Store, by default of `folder`; out: function of a line.

    After `start`: coap, clock, config, boot, queue, records, log, sensors, sender, cloud (queue, sender and cloud are
    None without a collector); and where the cloud may change the node watches, settings, rpc, state, update, else None.
    """

    def __init__(self, board, folder, store=None, out=console):
        self.board = board
        self._store = store or Store(folder)
        self._out = out
        self._tasks = []
        self._sampling = None
        self._leaving = False
        self._left = asyncio.Event()
        self.watches = self.settings = self.rpc = self.state = self.update = None
        self.coap = None

    async def start(self):
        """Bring the node up. Raises OSError when no address can be listened on."""
        board = self.board
        self.clock = Clock(board)
        self.boot, boot_line = count_boot(self._store, self.clock.now_ms(), os.urandom)
        config = self.config = Config(self._store)
        config_lines = [config.load()]
        try:
            await board.connect(config.running)
        except OSError as e:
            if not config.fall_back("wifi_name", "wifi_password"):
                raise
            config_lines.append("config refused: %s; using the last good one" % e)
            await board.connect(config.running)
        try:
            await self._listen()
        except OSError as e:
            if not config.fall_back("listen"):
                raise
            config_lines.append("config refused: %s; using the last good one" % e)
            await self._listen()
        running = config.running
        # Nothing awaits from here to the end, so no request finds the node half made.
        self.queue = Queue(running["queue"]) if running["collector"] else None
        self.records = Records(self.queue, self.clock, running["name"], self.boot)
        log = self.log = Log(self.records, running["log_level"], self._out)
        self.sensors = Sensors(board, running, self.queue, self.records, log, self.clock)
        self.sender = self.cloud = None
        if self.queue:
            self._begin_cloud()
        paths = Resources(self).register()
        log.say("up, %s, boot %d, coap://%s" % (running["name"], self.boot, self.coap.address(0)))
        log.say("serving " + paths)
        cause = board.reset_cause()
        more = {"reset": cause} if cause else {}
        log.post("info", "boot", "up", firmware=FIRMWARE, version=VERSION, board=board.name, **more)
        config_lines.append(config.accept())
        for line in config_lines:
            if line:
                log.warning("config", line)
        if boot_line:
            log.warning("boot", boot_line)
        if self.sender:
            self._tasks.append(asyncio.create_task(self.sender.run()))
        else:
            log.say("no collector is configured: nothing is sent")
        self._sample()  # without a collector, too: for who observes, and for the histories

    async def stop(self):
        """Stop the tasks and close the socket. Records that wait are lost: the queue is RAM."""
        for task in self._tasks + [self._sampling]:
            if task:
                task.cancel()
        self._tasks = []
        self._sampling = None
        if self.watches:
            self.watches.follow(None)
        if self.coap:
            await self.coap.stop()
            self.coap = None

    async def run(self):
        """Start, and serve until cancelled, or until somebody calls leave()."""
        try:
            await self.start()
            while not self._leaving:
                try:
                    await asyncio.wait_for(self._left.wait(), 3600)
                except asyncio.TimeoutError:
                    self.clock.up_ms()  # a node that nobody asks must not miss a wrap of its ticks
            await self.run_out()
        finally:
            await self.stop()

    async def run_out(self):
        """Wait until the sender has brought what waits, or 10 s; what is left then is lost."""
        for _ in range(_LEAVE_TENTHS):
            if not self.queue or not self.queue.queued:
                break
            await asyncio.sleep(0.1)

    def leave(self):
        """Have run() end, when the records that wait were brought, or 10 s later."""
        self._leaving = True
        self._left.set()

    def configured(self, now, later):
        """Follow a changed configuration. Returns the text that says when each key takes effect."""
        if not now and not later:
            return "no change"
        if "log_level" in now:
            self.log.set_level(self.config.running["log_level"])
        if "interval_s" in now and self._sampling:
            self._sample()
        line = self.config.accept() if now else None
        if line:
            self.log.warning("config", line)
        texts = []
        if now:
            texts.append(", ".join(now) + ": in force")
        if later:
            texts.append(", ".join(later) + ": at next start")
        text = "; ".join(texts)
        self.coap.changed("config")
        self.log.info("config", "changed", keys=text)
        return text

    def _begin_cloud(self):
        running = self.config.running
        self.cloud = make(self)
        follow = None
        if str(running["collector"]).startswith(SECURE) or running["allow_plain"]:
            follow = self._watch_cloud(running)
        self.sender = Sender(self.queue, self.clock, self.log, running, self.cloud, self._connect, follow=follow)

    def _watch_cloud(self, running):
        # Imported here: 4 KB of functions and classes, of no use where the cloud may not change anything
        from .methods import methods
        from .settings import Settings
        from .state import State
        from .update import Update
        from .watch import Watches

        board = self.board
        log = self.log
        self.settings = Settings(self.config, self.configured, log)
        self.rpc = methods(self)
        self.state = State({"firmware": FIRMWARE, "version": VERSION, "board": board.name, "boot": self.boot}, log)
        if board.led_get:
            self.state.offer("led", self._led, self._set_led)
        self.update = Update(VERSION, log)
        self.watches = Watches(running, log)
        self.cloud.watch(self.watches)
        return self.watches.follow

    def _led(self):
        return 1 if self.board.led_get() else 0

    def _set_led(self, wanted):
        if wanted not in (0, 1):  # true and false are 1 and 0
            raise ValueError("must be 0 or 1")
        self.board.led_set(bool(wanted))
        self.coap.changed("led")

    async def _listen(self):
        running = self.config.running
        limits = self.board.limits
        make = getattr(self.board, "transports", None)
        lines = make and make(running)
        if lines:
            self.coap = Node(transports=lines, probing_rate=running["probing_rate"], **limits)
            await self.coap.start()
            return
        uri = running["listen"]
        try:
            coap = Node(uri, probing_rate=running["probing_rate"], **limits)
            await coap.start()
        except (OSError, ValueError) as e:
            raise OSError("listen: cannot listen on %s: %s" % (uri, e))
        self.coap = coap

    async def _connect(self, uri):
        if not uri.startswith(SECURE):
            return await self.coap.connect(uri)
        running = self.config.running
        psk = running["psk_identity"], key_bytes(running["psk_key"])
        # Each of a handshake's three round trips may take as long as an answer does.
        return await self.coap.connect(uri, psk=psk, timeout_ms=3 * running["answer_ms"])

    def _sample(self):
        # A new task takes up a changed interval at once; the old one may sleep for a day.
        if self._sampling:
            self._sampling.cancel()
        self._sampling = asyncio.create_task(self.sensors.run(self.config.running["interval_s"]))
