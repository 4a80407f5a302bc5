# Resources and what is done with a request before and after its handler (RFC 7252 5.1-5.5, 5.8, 5.9).
#
# A request finds its resource by a hash of its path and method, made while it was parsed, and by comparing the bytes.
# Handlers are called with (request, response) while the endpoint's event is handled: request is the endpoint's rx,
# response the scratch. Async ones run in a task of their own on an async slot. Nothing here does I/O.

from array import array

from .codes import CoapError
from .port import const, is_async, micropython, print_line, ptr16
from .wire import find_path, path_hash, path_key

_HEAD = const(13)

# Cells of a message's table (wire.py)
_COUNT = const(1)
_PAYLOAD = const(2)
_LOOK = const(3)
_PART = const(3)
_HASH = const(4)
_KIND = const(5)
_SIZE = const(5)
_CODE = const(6)
_ANSWER = const(10)

_KEEP = const(16)  # in table[3] of a response: see block.py
_TAGGED = const(32)
_BELOW = const(65536)  # the hash of a path that ends in /* (wire.py)
_RETRY_S = const(5)  # Max-Age of a 5.03 (RFC 7252 5.9.3.4): an async slot is soon free
_METHODS = "GET POST PUT DELETE FETCH PATCH IPATCH"  # from code 1 on
_DEFAULT = b"\0\x45\x44\x44\x42\x45\x44\x44"  # the code of a success by method (RFC 7252 5.8): 2.05, 2.04, 2.04, 2.02

_NON = const(1)
_VALID = const(67)
_CONTENT = const(69)
_CONTINUE = const(95)
_BAD_REQUEST = const(128)
_BAD_OPTION = const(130)
_NOT_FOUND = const(132)
_METHOD_NOT_ALLOWED = const(133)
_NOT_ACCEPTABLE = const(134)
_TOO_LARGE = const(141)
_INTERNAL = const(160)
_UNAVAILABLE = const(163)
_NO_PROXYING = const(165)


class Resource:
    """One path, or all below it, its handler, and what discovery says of it. Made by Server.add()."""

    body = None
    observe = 0  # every so many-th notification is a CON; 0: it is not observable
    every_ms = 0
    due = None  # when it is said to have changed the next time, as long as it has observers
    observers = None  # of the server

    def __init__(self, path, handler, methods, ct, options, attributes, etag=None, body=None, observe=0, every_ms=0):
        self.path = path  # without a slash in front
        self.handler = handler
        self.is_async = is_async(handler)
        self.mask = 0  # bit n: method code n
        for name in methods.split():
            try:
                self.mask |= 2 << _METHODS.split().index(name)
            except ValueError:
                raise ValueError("methods: %s is none of %s" % (name, _METHODS))
        self.formats = ct if isinstance(ct, tuple) else () if ct is None else (ct,)
        for n in self.formats:
            if not 0 <= n < 65536:
                raise ValueError("ct: a Content-Format lies between 0 and 65535")
        self.options = options
        self.attributes = attributes
        self.etag = etag
        if body is not None:
            self.body = body
        if observe:
            self.observe = observe
        if every_ms:
            self.every_ms = every_ms
        self.below = path == "*" or path.endswith("/*")
        self.key = path_key(path[:-1].rstrip("/") if self.below else path)

    def changed(self, peer=None):
        """Have all observers notified of the state that is to come of the handler now (RFC 7641 4.2)."""
        if self.observers:
            self.observers.changed(self, peer)


@micropython.viper
def serve(hot, now: int):
    """Server.handle(), which may raise what a handler does; hot: an endpoint's `serving`."""
    rx, t, replying, response, o, reply, server, find, routes, keys, handlers = hot
    table = ptr16(t)
    if int(table[_LOOK]) == 0:
        data = rx.data
        i = int(find(data, t, int(table[_HASH]), routes, keys))
        if i >= 0:
            handler = handlers[i]
            if handler:
                answer = int(table[_ANSWER])
                response.code = answer & 255
                options = ptr16(o)
                options[_COUNT] = 0
                options[_SIZE] = 0
                options[_PART] = _KEEP
                if int(table[_CODE]) == 1:
                    options[_PART] = 0
                result = handler(rx, response)
                if not result or not server.is_late(i, result):
                    if int(options[_PART]) & 15:
                        server.trim(now)
                    if answer < 256:
                        reply(replying, now, data)
                    else:
                        server.send_reply(now)
                    return
    server.handle_with_care(now)


class Server:
    """Finds the resource of each request and calls its handler.

    driver: starts an async handler's task, spawn(coroutine, exchange), and sends what it wrote, complete(exchange).
    on_error(resource, exception): called when a handler fails; prints a line unless replaced.
    """

    observers = None  # observe.Observers
    _blocks = None  # block.Transfers
    _now = 0  # when an async handler was last given something

    def __init__(self, endpoint, driver, async_slots, transfers=2):
        self._endpoint = endpoint
        self._hot = endpoint.serving
        self._hot += [self, find_path, None, None, None]
        self._driver = driver
        self._async_slots = async_slots
        self.resources = []  # in order of their paths
        self.on_error = print_error
        self._tag = None  # the ETag for the response to the request at hand
        self._index()
        self._transfers = transfers
        try:
            from .linkformat import well_known

            self.add(".well-known/core", well_known(self), "GET", 40, (), None)
        except ImportError:
            pass  # a build without discovery

    def blocks(self):
        """block.Transfers, from when it is first needed on; False in a build that serves what fits a datagram."""
        if self._blocks is None:
            try:
                from .block import Transfers

                self._blocks = Transfers(self._endpoint, self._transfers)
                self._driver.timed = getattr(self._driver, "timed", ()) + (self._blocks,)
            except ImportError:
                self._blocks = False
        return self._blocks

    def add(self, path, *args):
        """Serve a path with a handler; a path that is served already is replaced. Returns the Resource.

        args: Resource's other arguments.
        """
        resource = Resource(path[1:] if path.startswith("/") else path, *args)
        self.remove(path)
        if resource.body is not None and not self.blocks():
            raise ValueError("body= needs block.py, which this build has not")
        if resource.observe:
            resource.observers = self.observers
        if resource.is_async:
            self._make_async_slots()
        self.resources.append(resource)
        self.resources.sort(key=lambda resource: resource.path)
        self._index()
        return resource

    def remove(self, path):
        """Serve a path no longer. Returns whether it was served."""
        path = path[1:] if path.startswith("/") else path
        for resource in self.resources:
            if resource.path == path:
                self.resources.remove(resource)
                self._index()
                resource.changed()
                return True
        return False

    def close(self):
        """The driver stops: files of uploads are closed."""
        if self._blocks:
            self._blocks.close()  # pyright: ignore[reportAttributeAccessIssue]

    def _index(self):
        """Lay out the routes of wire.find_path(): each resource's with every method's hash, and with that of none."""
        routes = []  # (hash, what sorts the longest first, number of the resource, offset of its key)
        keys = b""
        for i, resource in enumerate(self.resources):
            path = path_hash(resource.key, len(resource.key))
            for code in range(1 if resource.below else 8):
                if not code or resource.mask >> code & 1:
                    at = _BELOW if resource.below else path ^ code << 11
                    routes.append((at, -len(resource.key), i, len(keys)))
            keys += resource.key
        routes.sort()
        cells = [len(routes)]
        handlers = []
        self._routed = []
        for at, n, i, offset in routes:
            cells += (at, offset, -n)
            resource = self.resources[i]
            self._routed.append(resource)
            careful = resource.is_async or resource.etag is not None or callable(resource.body)
            handlers.append(None if careful else resource.handler)
        self._endpoint.serving[8:11] = (array("i", cells), keys, handlers)

    @micropython.native
    def _find(self, rx):
        """Find the resource of rx, whatever the method, or the one with the longest path above it."""
        table = rx.table
        routes = self._hot[8]
        keys = self._hot[9]
        i = find_path(rx.data, table, table[_HASH] ^ table[_CODE] << 11, routes, keys)
        if i < 0:
            i = find_path(rx.data, table, _BELOW, routes, keys)
        return self._routed[i] if i >= 0 else None

    def _make_async_slots(self):
        self._endpoint.add_async_slots(self._async_slots)
        self._async_slots = 0

    def handle(self, now):
        """Answer the request in the endpoint's rx. Never raises. Allocates: nothing of its own for a plain handler."""
        try:
            serve(self._hot, now)
        except Exception as error:
            self.fail(now, error)

    def fail(self, now, error):
        """Answer the request in rx, whose handler has raised an exception."""
        endpoint = self._endpoint
        response = self._hot[3]
        self._fail(self._find(endpoint.rx), response, error)
        endpoint.send_reply(now)

    def handle_with_care(self, now):
        """Answer any request: for a path below a resource's, with options to be looked at, for an async handler."""
        endpoint = self._endpoint
        rx = endpoint.rx
        resource = self._find(rx)
        response = endpoint.reply(_DEFAULT[rx.table[_CODE] & 7])
        try:
            if rx.table[_LOOK] & 3 and self._refuses(rx, resource, response):
                if rx.table[_KIND] == _NON and response.code == _BAD_OPTION:
                    endpoint.reject()  # RFC 7252 5.4.1
                    return
            elif self.answer(now, resource, rx, response):
                return
        except Exception as error:
            self._fail(resource, response, error)
            if resource is not None:
                self._observe(now, resource, rx, response, None)
        if rx.body is not None:
            rx.body = None  # rx is the next request's, too
        endpoint.send_reply(now)

    @micropython.native
    def answer(self, now, resource, rx, response, observer=None):
        """Write the response to a request, or, for an observer, a notification. Returns whether a task will do that.

        Raises what the handler does.
        """
        table = rx.table
        code = table[_CODE]
        response.table[_PART] = _part(code, resource)
        self._now = now
        if code > 7:
            response.code = _METHOD_NOT_ALLOWED
        elif resource is None:
            response.code = _NOT_FOUND
        elif not resource.mask >> code & 1:
            response.code = _METHOD_NOT_ALLOWED
        elif table[_LOOK] & 4:  # the payload is not whole (RFC 7252 4.6, 5.9.2.9)
            response.code = _TOO_LARGE
            response.option(60, max(0, self._endpoint.mtu - table[_PAYLOAD]))
            if resource.body is not None and self.blocks():
                self.blocks().too_large(rx, response)  # pyright: ignore[reportAttributeAccessIssue]
        elif resource.etag is not None and not self._wanted(resource, rx, response):
            self._observe(now, resource, rx, response, observer)
        elif not self._in_blocks(rx, resource) or not self.blocks().begin(now, resource, rx, response):  # pyright: ignore[reportAttributeAccessIssue]
            tag = None if resource.etag is None else self._tag
            if not resource.is_async:
                result = resource.handler(rx, response)
                if result is None or not self._late(resource, result):
                    self._finish(now, resource, rx, response, tag, observer)
                    return False
            if self._defer(now, resource, rx, tag, observer):
                return True
            if hasattr(rx.body, "close"):
                rx.body.close()
            rx.body = None
            response.clear(_UNAVAILABLE)
            response.option(14, _RETRY_S)
        return False

    @micropython.native
    def _in_blocks(self, rx, resource):
        """Tell whether a request is one of block.py's."""
        if callable(resource.body):
            return self.blocks()
        return rx.table[_LOOK] & 1 and (rx.uint(23) is not None or rx.uint(27) is not None)

    def _wanted(self, resource, rx, response):
        """Tell whether the handler is to be called, by the preconditions of a resource that has ETags."""
        from .conditional import precondition

        tag = resource.etag(rx)
        code = precondition(rx, tag)
        if code:
            response.code = code
        self._tag = tag if rx.table[_ANSWER] & 255 == _CONTENT else None  # of GET and FETCH
        if code == _VALID:
            response.option(4, tag)
        return not code

    def send_reply(self, now):
        """Answer what is no CON of a safe method."""
        self._endpoint.send_reply(now)

    def is_late(self, i, result):
        """Look at what the handler of a route returned: see _late()."""
        return self._late(self._routed[i], result)

    def _late(self, resource, result):
        """Look at what a handler returned. Returns whether it is a coroutine, of a bound method or a closure."""
        if isinstance(result, _TEXTS):
            raise TypeError(_RETURNED)
        if not hasattr(result, "send"):
            return False
        result.close()  # nothing of it has run yet
        resource.is_async = True
        self._index()
        self._make_async_slots()
        return True

    def _defer(self, now, resource, rx, tag, observer):
        """Start the task of an async handler. Returns False when no slot is free."""
        if not hasattr(self._driver, "spawn"):
            raise RuntimeError("an async handler needs coaplet.Node")
        endpoint = self._endpoint
        ex = endpoint.defer(now, self._hot[3].code, None if observer is None else rx)
        if ex is None:
            return False
        ex.out.table[_PART] = _part(rx.table[_CODE], resource)
        try:
            if self._in_blocks(rx, resource):
                from .block import prepare

                prepare(ex.message, ex.out)
            self._driver.spawn(self._run(resource, ex, tag, observer), ex)
        except Exception as error:
            self._fail(resource, ex.out, error)
            endpoint.complete(now, ex)
            if observer is not None:
                self.observers.was_sent(observer, ex)  # pyright: ignore[reportAttributeAccessIssue]
        return True

    async def _run(self, resource, ex, tag, observer):
        rx = ex.message
        ended = None
        try:
            if isinstance(await resource.handler(rx, ex.out), _TEXTS):
                raise TypeError(_RETURNED)
            if ex.message is rx:
                self._finish(self._now, resource, rx, ex.out, tag, observer)
        except BaseException as error:
            if not isinstance(error, Exception):
                ended = error  # cancelled: by stop(), which has taken the slot away, or with what the handler awaited
            if ex.message is rx:
                self._fail(resource, ex.out, error)
                self._observe(self._now, resource, rx, ex.out, observer)
        tries = 2
        while ex.message is rx and tries:
            tries -= 1
            try:
                self._driver.complete(ex)
                tries = 0
            except Exception as error:
                self._fail(resource, ex.out, error)
        if observer is not None:
            self.observers.was_sent(observer, ex)  # pyright: ignore[reportAttributeAccessIssue]
        if ended is not None:
            raise ended

    def trim(self, now):
        """Say which block the scratch has, where it is not the whole payload."""
        self.blocks().finish(now, self._endpoint.rx, self._hot[3])  # pyright: ignore[reportAttributeAccessIssue]

    @micropython.native
    def _finish(self, now, resource, rx, response, tag, observer):
        """See that a response has the format that was asked for (RFC 7252 5.10.4), and a success its ETag (5.10.6.1).

        Then, which block it is, and whether it is the first one of an observation.
        """
        wanted = rx.uint(17, None, 2)
        if wanted is not None and response.code == _CONTENT and response.format() not in (None, wanted):
            response.clear(_NOT_ACCEPTABLE)
        elif tag is not None and response.code < 96 and not response.has(4):
            response.option(4, tag)
        if resource.body is True and response.code < 96 and rx.more:
            response.code = _CONTINUE  # what it answered counts for the last block
        if response.code == _CONTINUE or response.table[_PART] & 15:
            self.blocks().finish(now, rx, response)  # pyright: ignore[reportAttributeAccessIssue]
        self._observe(now, resource, rx, response, observer)

    @micropython.native
    def _observe(self, now, resource, rx, response, observer):
        """Begin, go on with, or end an observation as a request asks for (RFC 7641 3.1, 4.1)."""
        if resource.observe and self.observers:
            self.observers.on_response(now, resource, rx, response, observer)

    def _fail(self, resource, response, error):
        """Turn what a handler raised into a response (RFC 7252 5.5.2)."""
        if isinstance(error, CoapError) and isinstance(error.code, int) and 127 < error.code < 192:
            response.clear(error.code)
            try:
                response.write(str(error.text or "")[:100])
            except ValueError:
                pass  # it does not fit: the code says enough
        else:
            response.clear(_INTERNAL)
            try:
                self.on_error(resource, error)
            except Exception as another:
                print_error(resource, another)

    def _refuses(self, rx, resource, response):
        """Look at the critical options (RFC 7252 5.4.1, 5.4.3, 5.4.5). Returns True when one has been answered."""
        table = rx.table
        if table[3] & 2:
            response.code = _BAD_OPTION
            response.write("more than %d options" % table[0])
            return True
        k = _HEAD
        last = k + 3 * table[1]
        previous = 0
        while k < last:
            number = table[k]
            n = table[k + 2]
            repeated = number == previous
            previous = number
            k += 3
            if not number & 1 or (number == 15 or number == 11) and n < 256:
                continue
            if number == 1 and n < 9 and (resource is None or resource.etag is not None):
                continue
            if resource is not None and number in resource.options:
                continue
            # Proxy-Uri, Proxy-Scheme: this is an origin server (5.10.2)
            if number == 35 and 0 < n < 1035 or number == 39 and 0 < n < 256:
                response.code = _NO_PROXYING
                return True
            if not repeated:
                if number == 3 and 0 < n < 256 or number == 7 and n < 3:
                    continue
                if number == 5 and not n and (resource is None or resource.etag is not None):
                    continue
                if (number == 23 or number == 27) and n < 4 and self.blocks():
                    if rx.uint(number) & 7 < 7:
                        continue
                    response.code = _BAD_REQUEST  # the size is reserved (RFC 7959 2.2)
                    return True
                if number == 17 and n < 3:
                    if resource is None or not resource.formats or not resource.mask >> table[_CODE] & 1:
                        continue
                    if rx.uint(17) in resource.formats:
                        continue
                    response.code = _NOT_ACCEPTABLE
                    return True
            response.code = _BAD_OPTION
            response.write("option %d is not understood" % number)
            return True
        return False


def _part(code, resource):
    """What block.py is to do with a response that is larger than a block."""
    return (0 if code == 1 else _KEEP) | (_TAGGED if resource and resource.etag else 0)


_TEXTS = (str, bytes)
_RETURNED = "it returned its answer: write it into the response"


def print_error(resource, error):
    """Print one line of what a handler raised."""
    print_line("coaplet: the handler of /%s raised %s: %s" % (resource.path, type(error).__name__, error))
