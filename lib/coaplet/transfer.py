# Block-wise transfers, the client's side (RFC 7959): each block is a request of its own.
#
# A request's payload is sent from where it lies, or from one block's buffer; a response's is handed on block by block.
# What goes wrong on the way is mended where that is safe: a block that got no answer is sent once more, with another
# Message ID; one that the server has no room for just now waits as it says; a response that changed meanwhile (2.4)
# begins anew. A build without it takes and gives what fits a datagram.

from .codes import CoapError, Timeout
from .message import largest_szx
from .port import const, ticks_add, ticks_diff

_PAYLOAD = const(2)
_END = const(9)
_HEADROOM = const(64)
_MOST = const(16384)  # bytes of a payload put together in memory
_TRIES = const(3)  # of one block, and of a whole response
_WAIT_S = const(60)  # the longest that a server may have us wait
_BYTES = (bytes, bytearray, memoryview, str)

_GET = const(1)
_FETCH = const(5)
_UNSAFE = (2, 6)  # POST, PATCH
_CONTINUE = const(95)
_BAD_REQUEST = const(128)
_INCOMPLETE = const(136)
_TOO_LARGE = const(141)
_TOO_MANY = const(157)
_UNAVAILABLE = const(163)


class Source:
    """The payload of a request: any part of bytes or a file, or an iterator's parts in their order."""

    def __init__(self, payload):
        self._payload = payload
        self._file = hasattr(payload, "readinto")
        self._parts = None
        self._kept = b""  # of an iterator: what was not taken yet, and where it begins
        self._at = 0
        self.size = None
        self._buf = None
        if self._file:
            self.size = payload.seek(0, 2)
            self._buf = bytearray(1024)
        elif isinstance(payload, _BYTES):
            self.size = len(payload)
        else:
            self._parts = iter(payload)

    def read(self, offset, n):
        """Returns the n bytes from an offset on, fewer at the end. Raises ValueError for what was read before."""
        if self._file:
            self._payload.seek(offset)
            view = memoryview(self._buf)
            at = 0
            got = 1
            while got and at < n:
                got = self._payload.readinto(view[at:n]) or 0
                at += got
            return view[:at]
        if self._parts is None:
            return memoryview(self._payload)[offset : offset + n]
        if offset < self._at:
            raise ValueError("an iterator's payload cannot be sent again from its beginning")
        self._kept = self._kept[offset - self._at :]
        self._at = offset
        while len(self._kept) <= n and self.size is None:  # one byte more tells that there is another block
            try:
                part = next(self._parts)
                self._kept += part.encode() if isinstance(part, str) else part
            except StopIteration:
                self.size = offset + len(self._kept)
        return self._kept[:n]

    def ends(self, end):
        """Tell whether there is nothing after the bytes read last, which end there."""
        return self.size is not None and end >= self.size


async def transfer(
    remote, method, path, payload, ct, timeout_ms, into, progress, reply, block=1024, start=0, options=(), **kwargs
):
    """Remote.request() in blocks. reply: the first block of the response where there is one already."""
    szx = largest_szx(min(block, remote._driver.endpoint.mtu - _HEADROOM))
    if szx < 0:
        raise ValueError("block lies between 16 and 1024 bytes")
    kwargs["timeout_ms"] = timeout_ms
    first = ()
    if block < 1024 or start:
        first = ((23, start << 4 | szx),)
    if reply is None:
        if payload is None:
            reply = await _send(remote, method, path, None, None, tuple(options) + first, kwargs, not start)
        else:
            reply = await _upload(remote, method, path, Source(payload), ct, szx, progress, options, first, kwargs)
    return await _download(remote, method, path, payload, ct, into, progress, reply, start << 4 + szx, options, kwargs)


async def _send(remote, method, path, payload, ct, options, kwargs, acts=False):
    """Send one block; more than once where that is safe, since it is the same again.

    acts: the server acts on it, rather than on a later one, so that POST and PATCH are not repeated (RFC 7252 5.8.2).
    """
    tries = _TRIES
    while True:
        tries -= 1
        try:
            return await remote.once(method, path, payload, ct, options=options, **kwargs)
        except Timeout:
            if not tries or acts and method in _UNSAFE:
                raise
        except CoapError as error:
            wait = error.reply.uint(14, 0) if error.reply else 0
            if not tries or error.code not in (_UNAVAILABLE, _TOO_MANY) or not 0 < wait <= _WAIT_S:
                raise
            await _pause(remote._driver, 1000 * wait)


async def _pause(driver, ms):
    pause = _Pause()
    until = ticks_add(driver.now(), ms)
    while ms > 0:
        await driver.wait_for_turn(pause, ms)
        if not driver.running:
            raise CoapError(0, "the node was stopped")
        ms = ticks_diff(until, driver.now())


class _Pause:
    waiter = None  # the driver's


async def _upload(remote, method, path, source, ct, szx, progress, options, last, kwargs):
    """Send a payload (2.5, 2.9). Returns the response to its last block."""
    offset = 0
    tries = _TRIES
    while True:
        size = 16 << szx
        part = source.read(offset, size)
        done = source.ends(offset + len(part))
        blocks = [(27, offset // size << 4 | (0 if done else 8) | szx)]
        if not offset and source.size is not None:
            blocks.append((60, source.size))
        if done and last:
            blocks += last
        try:
            reply = await _send(remote, method, path, part, ct, tuple(options) + tuple(blocks), kwargs, done)
        except CoapError as error:
            hint = error.reply.uint(27, None, 3) if error.reply else None
            tries -= 1
            if not tries:
                raise
            if error.code == _TOO_LARGE and hint is not None and hint & 7 < szx:
                szx = hint & 7  # 2.9.3: smaller blocks would do
            elif error.code != _INCOMPLETE or not offset:
                raise
            offset = 0
            continue
        offset += len(part)
        if progress:
            progress(offset, source.size, True)
        if done:
            return reply
        hint = reply.uint(27, None, 3)
        if reply.code != _CONTINUE and (hint is None or hint & 8):
            return reply  # it is content with what it got
        if hint is not None:  # libcoap leaves it out at times
            szx = min(szx, hint & 7)


async def _download(remote, method, path, payload, ct, into, progress, reply, offset, options, kwargs):
    """Take a response's payload, of which `reply` is the first part (2.4). Returns the reply, which has the whole."""
    whole = bytearray() if into is None else into
    tries = _TRIES
    begin = offset
    first = reply
    tag = reply.option(4)
    options = tuple(options)
    mark = whole.tell() if hasattr(whole, "tell") else 0  # pyright: ignore[reportAttributeAccessIssue]
    room = remote._driver.endpoint.mtu - _HEADROOM
    safe = method == _GET or method == _FETCH and isinstance(payload, _BYTES) and len(payload) <= room
    if not safe and payload is not None:
        payload = b""  # the server has it; requests that belong together have all options alike (RFC 9175 1.1)
    while True:
        block = reply.uint(23, None, 3)
        if block is not None and (block & 7 == 7 or block >> 4 << 4 + (block & 7) != offset):
            raise CoapError(0, "the server sent another block than it was asked for", reply)
        if block is None and offset:
            raise CoapError(0, "the server sent no block, when it was asked for one", reply)
        n = reply.payload_size
        if block is not None and block & 8 and n != 16 << (block & 7):
            raise CoapError(0, "the server sent a block of another size than it says", reply)
        at = offset - begin
        if isinstance(whole, bytearray):
            most = _MOST if into is None else len(whole)
            if at + n > most:
                raise CoapError(0, "the response is larger than %d bytes: say into= what" % most, reply)
            if into is None:
                whole[at:] = reply.payload
            else:
                reply.copy_into(whole, at)
        else:
            whole.write(memoryview(reply.data)[reply.table[_PAYLOAD] : reply.table[_END]])
        offset += n
        if progress and n:
            progress(offset, first.uint(28), False)
        if block is None or not block & 8:
            break
        szx = block & 7
        following = options + ((23, offset >> szx + 4 << 4 | szx),)
        try:
            reply = await _send(remote, method, path, payload, ct, following, kwargs)
            fresh = reply.option(4) == tag
        except CoapError as error:
            if not safe or error.code != _BAD_REQUEST:
                raise
            fresh = False  # it has become shorter meanwhile
        if not fresh:
            tries -= 1
            if not isinstance(whole, bytearray):
                if hasattr(whole, "seek"):
                    whole.seek(mark)
                else:
                    tries = 0
            if not tries or not safe:
                raise CoapError(0, "the response changed, faster than it could be fetched", reply)
            offset = begin
            again = options + ((23, offset >> szx + 4 << 4 | szx),)
            first = reply = await _send(remote, method, path, payload, ct, again, kwargs)
            tag = reply.option(4)
    if into is None and first.uint(23, 0, 3):
        first.body = whole
    first.size = offset - begin
    return first
