# What drives an endpoint, whatever waits: transports, the clock, and the order of the calls (endpoint.py).
#
# aio.Node waits with asyncio, poll.Loop with select.poll alone; both add nothing but waiting.

import gc

from .endpoint import Endpoint, take
from .port import MICROPYTHON, const, micropython, ticks_ms
from .uri import is_address, is_group, split

# Counters (counters.py)
_N_SEND_ERRORS = const(16)
_EVENT = const(21)
_READY = const(22)

_REQUEST = const(1)  # an event (endpoint.py)
_HEARD = const(6)
_PORT = const(5683)  # RFC 7252 6.1
_FEW = const(32)  # slots that are searched one by one

# a function is called sooner than a method
_poll_transmit = Endpoint.poll_transmit

# RFC 7228's class-1 device: limits for a node of 10 KiB
CLASS1 = {"mtu": 576, "duplicates": 4, "exchanges": 2, "max_options": 16}


class Driver:
    """Transports around one endpoint.

    listen: URIs to serve at, "coap://0.0.0.0", "coap://[::]:5683", "coaps://0.0.0.0"; none: a client only, on a port
    of its own. psk: for coaps, a dict of identities and keys, or a function of an identity (bytes) that returns the
    key or None. dtls: Dtls's other arguments, as a dict (dtls/layer.py).
    transports: home-made ones; the attribute has all, these first. async_slots: async handlers at a time. observers: of
    all resources together. transfers: uploads in blocks at a time, and answers in blocks to other methods than GET.
    limits: Endpoint's arguments.
    """

    timed = ()  # what has deadlines beside the endpoint: secure.py's
    dtls = None

    def __init__(self, *listen, transports=(), async_slots=2, observers=8, transfers=2, psk=None, dtls=None, **limits):
        self.endpoint = _endpoint(limits)
        if dtls:
            self.dtls = dtls
        self.now = ticks_ms
        self.server = None
        self._serve = None
        self.turns = []  # of callers that wait for an exchange
        self._slots = (async_slots, transfers, observers)
        self.transports = list(transports)
        self.running = False
        for uri in listen:
            scheme, host, port, rest = split(uri)
            if rest:
                raise ValueError("a node listens at coap://host:port, without a path: " + uri)
            if scheme == "coap":
                self.transports.append(_udp(self, host, _PORT if port is None else port))
            else:
                from .secure import listen_at

                self.transports.append(listen_at(self, host, port, psk))

    @property
    def counters(self):
        """What happened so far, by name: counters.requests (counters.py)."""
        return self.endpoint.counters

    @property
    def rtt_ms(self):
        """The smoothed round-trip time of CONs that needed no retransmission, or None."""
        return self.endpoint.rtt_ms

    def address(self, i=0):
        """The address of the i-th transport as text, "127.0.0.1:5683"."""
        return self.transports[i].address()

    # Serving

    def resource(
        self,
        path,
        methods="GET",
        rt=None,
        if_=None,
        title=None,
        ct=None,
        sz=None,
        observe=False,
        options=(),
        etag=None,
        body=None,
        every_ms=0,
    ):
        """Serve a path with the function that this decorates: f(request, response), plain or async.

        path: "sensors/temperature"; "files/*" serves all paths below files. methods: names, space-separated.
        rt, if_, title, ct, sz: what discovery says of it (RFC 6690); with ct, a Content-Format or a tuple of them, a
        request that accepts none of these gets 4.06. options: numbers of critical options that the handler reads;
        a request with another one gets 4.02 (RFC 7252 5.4.1). etag(request): returns the resource's ETag, 1 to 8 bytes,
        or None where it does not exist; then If-Match, If-None-Match and ETag are settled before the handler (5.10.6,
        5.10.8), and a GET's response has the ETag.
        observe: whether it can be observed (RFC 7641): True, every notification is a CON; n, every n-th is one, the
        others NON, but for what is the last one for a while. every_ms: it changes so often; else changed() says when.
        body: how a payload is taken that comes in blocks (RFC 7959): True, the handler is called for each, which has
        request.offset and request.more; a bytearray, it is put together in there, and the handler sees a payload like
        any other; a function of the first request, which returns a file (write, close) for it, request.body for the
        handler, which closes it. None: a payload that is larger than a datagram is refused.
        """
        if self.server is None:
            from .server import Server, serve

            self.server = Server(self.endpoint, self, *self._slots[:2])
            self._serve = serve
        if observe and self.server.observers is None:
            try:
                from .observe import Observers

                self.server.observers = Observers(self.server, self.endpoint, self, self._slots[2])  # pyright: ignore[reportAttributeAccessIssue]
                self.timed += (self.server.observers,)
            except ImportError:
                observe = False  # a build without it
        try:
            from .linkformat import link_attributes

            attributes = link_attributes(rt, if_, title, ct, sz, observe)
        except ImportError:
            attributes = None

        def register(handler):
            self.server.add(path, handler, methods, ct, options, attributes, etag, body, int(observe), every_ms)
            return handler

        return register

    def remove(self, path):
        """Serve a path no longer; its observers are told. Returns whether it was served."""
        return self.server is not None and self.server.remove(path)

    def changed(self, path, peer=None):
        """Have the observers of a path notified (RFC 7641 4.2), or that peer. Its handler is called for each, soon."""
        for resource in self.server.resources if self.server else ():
            if resource.path == (path[1:] if path.startswith("/") else path):
                resource.changed(peer)
                break

    # Driving

    def _open(self):
        _tidy()  # so that what is made now does not lie amid what will be room for datagrams
        opened = 0
        try:
            for transport in self.transports:
                transport.open()
                opened += 1
        except OSError:
            for transport in self.transports[:opened]:
                transport.close()
            raise
        self.running = True
        _tidy()

    def _close(self):
        self.running = False
        if self.server is not None:
            self.server.close()
        for transport in self.transports:
            transport.close()
        # a line is read by itself alone: secure.over() makes its Dtls anew
        self.transports = [t for t in self.transports if not hasattr(getattr(t, "lower", None), "line")]

    def check_running(self):
        if not self.running:
            raise RuntimeError("the node does not run: async with node, or await node.start(), first")

    @micropython.native
    def _receive(self, transport):
        """Take in a datagram, if there is one, and those read along with it, which poll cannot see any more.

        Does all that follows from each. Returns whether there was one.
        """
        found = False
        while True:
            datagram = transport.receive()
            if datagram is None:
                if not transport.more:
                    return found
                found = True  # a record, which on_record has taken; the next frame was read with it
                continue
            now = self.now()
            if transport.multicast:
                self.endpoint.handle_datagram(now, datagram[0], datagram[1], transport, True)
            else:
                take(self.endpoint.taking, now, datagram[0], datagram[1], transport)
            follow(self, now)
            if not transport.more:
                return True
            found = True

    @micropython.native
    def _follow(self, now):
        """Events first, then what is to be sent: the order that endpoint.py asks for."""
        endpoint = self.endpoint
        counts = endpoint.counts
        if counts[_EVENT] == _REQUEST:
            counts[_EVENT] = 0
            if self.server is None:
                endpoint.reject()
            else:
                try:
                    self._serve(endpoint.serving, now)
                except Exception as error:
                    self.server.fail(now, error)
        while counts[_EVENT] or endpoint.ended:
            self._settle(endpoint.poll_event())
        if counts[_READY] or endpoint.due:
            for transport in self.transports:
                while (counts[_READY] or endpoint.due) and _poll_transmit(endpoint, transport):
                    if not transport.send(endpoint.tx_buf, endpoint.tx_peer):
                        endpoint.counts[_N_SEND_ERRORS] += 1

    def _settle(self, event):
        if event == _HEARD:
            self.endpoint.observers.go_on(self.now())  # pyright: ignore[reportAttributeAccessIssue]
            return
        from .client import settle

        ex = self.endpoint.exchange
        try:
            settle(self.endpoint, event)
        except Exception as error:  # no memory for the answer, say: whoever waits must know
            ex.message = error  # pyright: ignore[reportAttributeAccessIssue]
        self._wake(ex)

    def complete(self, ex):
        """Send what an async handler has written."""
        if not self.running:
            return
        now = self.now()
        self.endpoint.complete(now, ex)
        if not getattr(ex.peer, "up", True):  # a session that ended meanwhile
            self.endpoint.release(ex)
        self._follow(now)
        self._arm()

    def _wake(self, ex):
        """Something came of an exchange, or of a caller's turn."""

    def _arm(self):
        """The next deadline may have changed, or a slot may be free."""
        if self.endpoint.freed:
            self._grant()

    def _grant(self):
        """Give what is free to the callers that wait, first come, first served."""
        endpoint = self.endpoint
        endpoint.freed = False
        if not self.turns:
            return
        blocked = []
        for turn in self.turns:
            if endpoint.full():
                break
            if turn.ex is None and (turn.peer, turn.transport) not in blocked:
                turn.ex = endpoint.open(self.now(), turn.peer, turn.transport, turn.confirmable)
                if turn.ex is None:
                    blocked.append((turn.peer, turn.transport))  # and so are those that came after it
                else:
                    self._wake(turn)

    def _start_reader(self, transport):
        """A transport was opened while the driver runs: wait for it, too."""

    def _on_time(self, now):
        """The earliest deadline has passed."""
        self.endpoint.handle_timeout(now)
        try:
            for timed in self.timed:
                timed.handle_timeout(now)  # pyright: ignore[reportAttributeAccessIssue]
        finally:
            for timed in self.timed:
                if timed.deadline is not None:  # pyright: ignore[reportAttributeAccessIssue]
                    self.endpoint.arm(timed.deadline)  # pyright: ignore[reportAttributeAccessIssue]
            self._follow(now)

    # For client.Remote

    def send(self, ex, timeout_ms):
        """Send an exchange's request."""
        now = self.now()
        self.endpoint.send(now, ex, timeout_ms)
        self._follow(now)
        self._arm()

    def release(self, ex):
        """Give an exchange back; callers that wait for a slot may try again."""
        self.endpoint.release(ex)
        self._arm()

    def remote(self, transport, peer):
        """Returns a Remote for a peer on one of this node's transports."""
        from .client import Remote

        return Remote(self, transport, peer)

    def _remote(self, uri, psk=None, store=None):
        """Make the Remote of a URI, on a transport that reaches it."""
        from .client import Remote

        scheme, host, port, rest = split(uri)
        if "?" in rest:
            raise ValueError("a query belongs to a request, not to the connection: " + uri)
        base = "/" + rest  # which _write_path takes away again: "//a" has an empty segment in front
        if base.endswith("/"):
            base = base[:-1]
        line = None
        for transport in self.transports:
            if getattr(transport, "peer", None) == host:
                line = transport
        if scheme == "coaps":
            from .secure import SecureRemote

            remote = SecureRemote(self, psk, base, host, port, store, line)
            self._arm()
            return remote
        if line:
            return Remote(self, line, host, base)
        if port is None:
            port = _PORT
        if is_group(host):
            raise ValueError("requests to a group of hosts are not supported yet: " + uri)
        remote = Remote(self, None, None, base, None if is_address(host) else host, port)
        self._find(remote, host, port)
        return remote

    def look_up(self, remote):
        """Look up the name of a Remote anew: nothing has answered. Blocks; where it fails, the address stays."""
        try:
            self._find(remote, remote.host, remote.port)
        except OSError:
            pass

    def _find(self, remote, host, port):
        """Give a Remote the first address of a host that there can be a socket for. Raises OSError."""
        from .port import resolve
        from .udp import Udp

        failed = None
        for family, peer in resolve(host, port, remote.peer):
            try:
                remote.transport = self.reaching(family, host, lambda transport: isinstance(transport, Udp), _udp)
                remote.peer = peer
                return
            except OSError as error:
                failed = error
        raise failed

    def reaching(self, family, host, fits, make):
        """Returns a transport that fits and reaches a host, opened if there is none. Raises OSError."""
        from .port import AF_INET

        for transport in self.transports:
            if fits(transport) and transport.family == family and transport.host in ("0.0.0.0", "::", host):
                return transport
        transport = make(self, "0.0.0.0" if family == AF_INET else "::", 0)
        transport.open()
        self.transports.append(transport)
        self._start_reader(transport)
        return transport


# CPython's heap has no places, and to collect it takes long
_tidy = gc.collect if MICROPYTHON else int


def _udp(driver, host, port):
    from .udp import Udp

    return Udp(host, port, driver.endpoint.mtu)


follow = Driver._follow
receive = Driver._receive


def _endpoint(limits):
    """Make the endpoint: one that searches few slots, or one for a host's thousands."""
    kind = Endpoint
    if max(limits.get("exchanges", 0), limits.get("duplicates", 0)) > _FEW:
        try:
            from .many import ManyEndpoint as kind
        except ImportError:
            pass  # a build without it
    return kind(**limits)
