# The driver for asyncio, MicroPython's and CPython's: one reader a transport, one timer.
#
# A reader waits until its transport has something, then takes in up to 8 datagrams before others may run: one wake of
# MicroPython's asyncio costs several times what the handling of a request does. The timer is one task (a timer handle
# on CPython) which is moved in the queue when an earlier deadline comes up. Nothing polls by sleeping.

import asyncio
import select

from .codes import CoapError
from .driver import Driver
from .port import MICROPYTHON, const, micropython, print_line, ticks_add, ticks_diff

_BURST = const(8)
_HOUR_MS = const(3600000)
_N_FAULTS = const(17)  # counters.py


class Node(Driver):
    """A CoAP endpoint on asyncio: server and client in one. Arguments: see Driver.

    async with node: ... opens its sockets and serves; or await node.start(), await node.stop().
    """

    def __init__(self, *listen, **kwargs):
        super().__init__(*listen, **kwargs)
        self._tasks = []  # a reader a transport; MicroPython: the timer's task, too
        self._timer = None
        self._wake_at = None  # the tick that the timer waits for
        self._in_timer = False

    async def start(self):
        """Open the sockets and begin to serve. Raises OSError, for instance when the port is taken."""
        if self.running:
            raise RuntimeError("the node runs already")
        self._open()
        for transport in self.transports:
            self._start_reader(transport)
        self._start_timer()

    async def stop(self):
        """Close the sockets; whoever waits for an answer gets a CoapError."""
        if not self.running:
            return
        self._stop_timer()
        for transport in self.transports:
            self._stop_reader(transport)
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        for ex in self.endpoint.handlers:
            if ex.state:
                if ex.waiter is not None and ex.waiter is not asyncio.current_task():
                    ex.waiter.cancel()
                self.endpoint.release(ex)
        for ex in self.endpoint.exchanges:
            if ex.message is None and ex.waiter is not None:
                ex.message = CoapError(0, "the node was stopped")  # pyright: ignore[reportAttributeAccessIssue]
                _resume(ex.waiter)
        for waiting in self.turns, self.endpoint.observations:
            for turn in waiting:
                self._wake(turn)
        self._close()
        await asyncio.sleep(0)

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *_):
        await self.stop()

    async def connect(self, uri, psk=None, timeout_ms=None, store=None):
        """Returns a Remote to send requests to. uri: "coap://host:port/path"; a path is put before every request's.

        "coaps://host" takes psk, (identity, key), and waits for a session, for timeout_ms or 93 s; store: where sleep()
        of such a Remote kept one. Raises ValueError for a URI that is none, OSError for a host that cannot be found,
        and SecurityError where there is no session. A name is looked up here, which blocks.
        """
        self.check_running()
        remote = self._remote(uri, psk, store)
        await remote.ready(timeout_ms, 1)
        return remote

    # For client.Remote

    async def wait(self, ex):
        waiter = ex.waiter = _waiter()
        try:
            await _pause(waiter, _HOUR_MS)
        finally:
            ex.waiter = None

    async def wait_for_turn(self, turn, ms):
        waiter = turn.waiter = _waiter()
        try:
            await _pause(waiter, ms)
        finally:
            turn.waiter = None

    # For Driver

    def _wake(self, ex):
        if ex.waiter is not None:
            _resume(ex.waiter)

    def spawn(self, coroutine, ex):
        ex.waiter = asyncio.create_task(coroutine)

    @micropython.native
    def _arm(self):
        """After anything that may have changed the next deadline or freed a slot."""
        endpoint = self.endpoint
        if endpoint.freed:
            self._grant()
        if endpoint.deadline is not None and self.running and not self._in_timer:
            if self._wake_at is None or ticks_diff(endpoint.deadline, self._wake_at) < 0:
                self._move_timer()

    def _on_timer(self):
        """The timer has fired. Returns the ms until it is wanted again, or -1."""
        endpoint = self.endpoint
        now = self.now()
        if endpoint.poll_timeout(now) == 0:
            self._in_timer = True
            try:
                self._on_time(now)
                self._arm()
            except Exception as error:
                self._fault(error)
            self._in_timer = False
        return endpoint.poll_timeout(now)

    @micropython.native
    def _take(self, transport):
        """Take in a datagram, if there is one, and all that follows. Returns whether there was one."""
        found = True
        try:
            found = self._receive(transport)
        except Exception as error:
            self._fault(error)
        self._arm()
        return found

    def _fault(self, error):
        """A fault of ours or of a transport is shown and counted, and ends neither reader nor timer."""
        self.endpoint.counts[_N_FAULTS] += 1
        print_line("coaplet: %s: %s" % (type(error).__name__, error))

    if MICROPYTHON:

        def _start_reader(self, transport):
            self._tasks.append(asyncio.create_task(self._read(transport)))

        def _stop_reader(self, transport):
            pass

        async def _read(self, transport):
            while True:
                pollable = transport.pollable
                if pollable is None:  # it could not be reopened
                    await asyncio.sleep_ms(1000)
                    self._take(transport)
                    continue
                readable = _Readable(pollable)
                poller = select.poll()
                poller.register(pollable, select.POLLIN)
                while transport.pollable is pollable:
                    try:
                        await readable
                    except MemoryError as error:  # asyncio had none to note who waits
                        self._fault(error)
                        await asyncio.sleep_ms(100)
                    n = _BURST
                    while n:
                        n -= 1
                        self._take(transport)
                        # asked first, since a recvfrom that finds nothing leaves mtu bytes of garbage
                        for _ in poller.ipoll(0):
                            break
                        else:
                            n = 0

        def _start_timer(self):
            self._timer = asyncio.create_task(self._time())
            self._tasks.append(self._timer)

        def _stop_timer(self):
            self._timer = None

        async def _time(self):
            while True:
                ms = self._on_timer()
                if ms < 0:
                    ms = _HOUR_MS
                self._wake_at = ticks_add(self.now(), ms)
                await asyncio.sleep_ms(ms)

        def _move_timer(self):
            if self._wake_at is not None:  # else it has not run yet, and will look for itself
                self._wake_at = self.endpoint.deadline
                core._task_queue.remove(self._timer)
                core._task_queue.push(self._timer, self._wake_at)

    else:

        def _start_reader(self, transport):
            asyncio.get_running_loop().add_reader(transport.pollable, self._drain, transport)

        def _drain(self, transport):
            n = _BURST
            while n and self._take(transport):
                n -= 1

        def _stop_reader(self, transport):
            asyncio.get_running_loop().remove_reader(transport.pollable)

        def _start_timer(self):
            self._wake_at = None
            self._arm()

        def _stop_timer(self):
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _move_timer(self):
            self._stop_timer()
            self._wake_at = self.endpoint.deadline
            ms = self.endpoint.poll_timeout(self.now())
            self._timer = asyncio.get_running_loop().call_later(ms / 1000, self._fire)

        def _fire(self):
            self._timer = self._wake_at = None
            self._on_timer()
            self._arm()


# How a caller waits until it is woken or ms have passed, whichever comes first: its waiter is put where who wakes it
# will look, and taken from there when it goes on.

if MICROPYTHON:
    # A task that sleeps is brought forward. asyncio.Event and wait_for would do, but take 1 KB to load, 0.5 KB a call.
    from asyncio import core  # pyright: ignore[reportAttributeAccessIssue]

    _waiter = asyncio.current_task

    def _pause(waiter, ms):
        return asyncio.sleep_ms(ms)

    def _resume(waiter):
        if not waiter.data:  # else it was cancelled, which push() would forget
            core._task_queue.remove(waiter)
            core._task_queue.push(waiter)

    class _Readable:
        """Awaitable that ends when a stream can be read. One is enough for a reader's life: it allocates nothing."""

        _stop = StopIteration()

        def __init__(self, stream):
            self._stream = stream

        def __iter__(self):
            self._queued = False
            return self

        def __next__(self):
            if self._queued:
                self._stop.__traceback__ = None
                raise self._stop
            self._queued = True
            core._io_queue.queue_read(self._stream)

else:

    def _waiter():
        return asyncio.get_running_loop().create_future()

    def _pause(waiter, ms):
        return asyncio.wait((waiter,), timeout=ms / 1000)

    def _resume(waiter):
        if not waiter.done():
            waiter.set_result(None)
