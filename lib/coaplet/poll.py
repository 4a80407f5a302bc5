# The driver without asyncio: a plain loop over select.poll, for boards and programs that have no event loop.

import select

from .driver import Driver, receive
from .endpoint import Endpoint
from .port import MICROPYTHON, micropython

_poll_timeout = Endpoint.poll_timeout  # a function is called sooner than a method


class Loop(Driver):
    """A CoAP endpoint in a plain loop: server and client in one. Arguments: see Driver.

        loop = Loop("coap://0.0.0.0")
        loop.open()
        loop.run_forever()                        serves, or
        remote = loop.connect("coap://host")
        reply = loop.run(remote.get("path"))      sends a request, and serves until its answer is there

    Handlers are plain functions here.
    """

    def __init__(self, *listen, **kwargs):
        super().__init__(*listen, **kwargs)
        self._busy = False
        self._lost = False  # some transport could not be reopened

    def check_running(self):
        super().check_running()
        if self._busy:
            raise RuntimeError("a handler of a Loop cannot wait for requests of its own")

    def open(self):
        """Open the sockets. Raises OSError."""
        self._open()
        self._poller = select.poll()
        for transport in self.transports:
            self._start_reader(transport)

    def close(self):
        """Close the sockets."""
        self._close()

    def connect(self, uri, psk=None):
        """Returns a Remote; give what its calls return to run(). See Node.connect(); a session is waited for by the
        first request."""
        self.check_running()
        return self._remote(uri, psk)

    @micropython.native
    def poll(self, timeout_ms=-1):
        """Wait up to timeout_ms (-1: for ever) and do what there is to do.

        Returns whether anything arrived. Allocates: what the transport's receive() does.
        """
        if self._busy or not self.running:
            self.check_running()
        self._busy = True
        try:
            endpoint = self.endpoint
            ms = -1
            if endpoint.deadline is not None:
                now = self.now()
                ms = _poll_timeout(endpoint, now)
                if ms == 0:
                    self._on_time(now)  # which may do what the caller waits for
            if timeout_ms >= 0 and (ms < 0 or timeout_ms < ms):
                ms = timeout_ms
            found = self._wait(ms)
            if endpoint.freed:
                self._grant()
            return found
        finally:
            self._busy = False

    def run_forever(self):
        """Serve until an exception, such as KeyboardInterrupt, ends it."""
        while True:
            self.poll()

    def run(self, coroutine):
        """Run a Remote's call to its end, serving meanwhile. Returns what it returns, raises what it raises."""
        try:
            while True:
                self.poll(coroutine.send(None))
        except StopIteration as stop:
            return stop.value
        finally:
            coroutine.close()  # an interrupted one frees its slot

    def _start_reader(self, transport):
        if transport.pollable is None:
            self._lost = True
        else:
            self._poller.register(transport.pollable, select.POLLIN)

    @micropython.native
    def _wait(self, ms):
        found = False
        if self._lost:
            ms = self._reopen(ms)
        # MicroPython's ipoll gives the object and allocates nothing, CPython's poll the file's number
        for ready in self._poller.ipoll(ms) if MICROPYTHON else self._poller.poll(ms):
            for transport in self.transports:
                pollable = transport.pollable
                if ready[0] is pollable or not MICROPYTHON and pollable and ready[0] == pollable.fileno():
                    receive(self, transport)
                    found = True
                    if transport.pollable is not pollable:  # it was reopened
                        self._poller.unregister(ready[0])
                        self._start_reader(transport)
                    break
        return found

    def _reopen(self, ms):
        """Ask again for what could not be reopened. Returns for how many of ms to wait: a second at most."""
        self._lost = False
        for transport in self.transports:
            if transport.pollable is None:
                self._receive(transport)
                self._start_reader(transport)
        return 1000 if self._lost and (ms < 0 or ms > 1000) else ms

    # For client.Remote

    def wait(self, ex):
        return _PAUSE

    async def wait_for_turn(self, turn, ms):
        await _Pause(ms)


class _Pause:
    """Awaitable that gives way once, to Loop.run(), for up to ms; -1: for ever."""

    def __init__(self, ms):
        self._ms = ms
        self._paused = False

    def __iter__(self):
        return self

    __await__ = __iter__

    def __next__(self):
        self._paused = not self._paused
        if not self._paused:
            raise StopIteration
        return self._ms


_PAUSE = _Pause(-1)
