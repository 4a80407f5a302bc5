# Block-wise transfers, the server's side (RFC 7959): responses in slices, uploads block by block.
#
# Block2 needs no state: a handler writes its whole payload each time, and one block of it is kept (Outgoing.write()).
# Of an answer to another method than GET the rest is kept here, since to run the handler again would do again what the
# request does (2.7). Block1 needs what it expects next. Both have a few slots, which a peer loses when it is silent for
# EXCHANGE_LIFETIME (2.4, 2.5), or to another one when it was for 45 s, or has sent no more than its first block.
# A build without it serves what fits a datagram.
#
# table[3] of an Outgoing says what is kept: bits 0-3 the block's SZX + 1, or 0 for everything; bit 4 that the rest is
# to be kept, too; bit 5 that the resource has ETags of its own. `skip` is where the block begins, `total` how much was
# written so far.

from binascii import crc32

from .message import largest_szx
from .port import const, ticks_add, ticks_diff
from .wire import copy, find_option

_HEAD = const(13)
_HEADROOM = const(64)
_COUNT = const(1)
_PAYLOAD = const(2)
_PART = const(3)
_SIZE = const(5)
_END = const(9)
_WINDOW = const(15)
_KEEP = const(16)
_TAGGED = const(32)
_KEPT = const(48)

_LARGEST = const(6)  # SZX: 1,024 bytes
_MOST_KEPT = const(16384)
_RETRY_S = const(5)
_SILENT_MS = const(45000)  # as long as four retransmissions

_GET = const(1)
_APART = (6, 12, 23, 27, 28, 60)  # options in which a transfer's requests may differ
_BODILESS = (1, 4)  # GET, DELETE
_CONTENT = const(69)
_CONTINUE = const(95)
_BAD_REQUEST = const(128)
_INCOMPLETE = const(136)
_TOO_LARGE = const(141)
_UNAVAILABLE = const(163)

_N_REFUSED = const(12)  # counters.py


def write(out, data, n):
    """Outgoing.write() of n bytes of which some part is to be kept."""
    table = out.table
    if not table[_PART] & _WINDOW:
        size = table[_SIZE]
        if not 63 < out.code < 96:
            raise ValueError("a payload of %d bytes does not fit mtu=%d" % (size + n, len(out.buf)))
        begun = memoryview(out.buf)[_HEADROOM : _HEADROOM + size]
        out.kept = bytearray(begun) if size and table[_PART] & _KEEP else None
        out.crc = 0 if table[_PART] & _TAGGED else crc32(begun)
        _open(out, 0, _LARGEST)
        out.total = size
        table[_SIZE] = min(size, 8 << (table[_PART] & _WINDOW))
    elif not out.total:  # of this payload
        table[_SIZE] = 0
        out.crc = 0
        out.kept = None
    if table[_PART] & _KEEP:
        if len(out.kept or b"") + n > _MOST_KEPT:
            raise ValueError("a response to another method than GET has at most %d bytes" % _MOST_KEPT)
        if out.kept is None:
            out.kept = data if isinstance(data, bytes) else bytearray(data)
        else:
            out.kept = out.kept + data
    if not table[_PART] & _TAGGED:
        out.crc = crc32(data, out.crc)
    size = table[_SIZE]
    start = max(0, out.skip - out.total)
    room = min((8 << (table[_PART] & _WINDOW)) - size, n - start)
    if room > 0:
        copy(out.buf, _HEADROOM + size, data, start, room)
        table[_SIZE] = size + room
    out.total += n


def stream(out, source):
    """Outgoing.stream()."""
    table = out.table
    table[_SIZE] = out.total = 0
    if not hasattr(source, "readinto"):
        for part in source:
            out.write(part)
        return
    if table[_PART] & _KEEP:  # the file may be closed when the rest is asked for
        source.seek(0)
        out.write(source.read(_MOST_KEPT + 1))
        return
    if not table[_PART] & _WINDOW:
        _open(out, 0, _LARGEST)
    out.crc = 0
    out.total = source.seek(0, 2)
    source.seek(out.skip)
    at = _HEADROOM
    end = at + (8 << (table[_PART] & _WINDOW))
    n = 1
    while n and at < end:
        n = source.readinto(memoryview(out.buf)[at:end])
        at += n or 0
    table[_SIZE] = at - _HEADROOM


def _open(out, block, szx):
    """Have a block of the payload kept: where it begins, or the next smaller one that fits mtu."""
    szx = min(szx, largest_szx(len(out.buf) - _HEADROOM))
    out.skip = block
    out.total = 0
    out.table[_PART] = out.table[_PART] & _KEPT | szx + 1


def prepare(rx, out):
    """Have a response keep what its request asks for, and repeat the request's Block1 (RFC 7959 2.3)."""
    block = rx.uint(27, None, 3)
    if block is not None:
        out.option(27, block)
    block = rx.uint(23, None, 3)
    if block is not None:
        _open(out, block >> 4 << 4 + (block & 7), block & 7)


class Transfer:
    """An upload, or a response of which parts are still to be fetched; whose it is, and how far it came."""

    def __init__(self):
        self.peer = None
        self.transport = None
        self.key = 0
        self.used = 0
        self.offset = 0  # of the next byte of an upload
        self.sink = None  # bytearray, or file
        self.kept = None  # a response's payload,
        self.code = 0  # its code
        self.ct = None  # and Content-Format, or that of an upload
        self.etag = None


class Transfers:
    """Up to n transfers with state at a time. endpoint: whose deadline is moved; of `timed` of a driver."""

    def __init__(self, endpoint, n):
        self._endpoint = endpoint
        self._slots = [Transfer() for _ in range(n)]
        self.deadline = None

    def begin(self, now, resource, rx, response):
        """Look at the Block options of a request. Returns True when it has been answered, False for the handler.

        Raises what opening or writing an upload's file does.
        """
        one = rx.uint(27, None, 3)
        two = rx.uint(23, None, 3)
        fetching = two and two >> 4 and rx.table[6] != _GET and not rx.payload_size and one is None
        # a GET or DELETE has no body, nor has who fetches the rest of an answer
        if one is not None or callable(resource.body) and not fetching and rx.table[6] not in _BODILESS:
            if self._take(now, resource, rx, response, one or 0):
                if response.code == _CONTINUE:
                    prepare(rx, response)
                return True
        prepare(rx, response)
        if fetching:
            slot = self._find(now, rx)
            if slot is None or slot.kept is None:
                response.clear(_INCOMPLETE)
                return True
            response.code = slot.code
            response.table[_PART] &= _WINDOW
            write(response, slot.kept, len(slot.kept))
            if slot.ct is not None:
                response.option(12, slot.ct)
            if slot.etag is not None:
                response.option(4, slot.etag)
            response.crc = 0
            slot.used = now
            self.finish(now, rx, response)
            if response.skip + response.table[_SIZE] >= response.total:
                self.free(slot)
            return True
        return False

    def _take(self, now, resource, rx, response, block):
        """Take in a block of an upload. Returns True when it has been answered."""
        table = rx.table
        n = table[_END] - table[_PAYLOAD]
        size = 16 << (block & 7)
        offset = (block >> 4) * size
        more = block & 8
        body = resource.body
        slot = self._find(now, rx)
        if body is None:
            if not more and not offset:
                return False
            return _refuse(response, _TOO_LARGE, "", self._endpoint.mtu - _HEADROOM)
        if more and n != size or n > size and rx.uint(27) is not None:
            return _refuse(response, _BAD_REQUEST, "a block of another size than it says")
        if not offset:
            if slot is not None:
                self.free(slot)
            if not more and not callable(body):
                return False
            slot = self._claim(now, body)
            if slot is None:
                self._endpoint.counts[_N_REFUSED] += 1
                response.clear(_UNAVAILABLE)
                response.option(14, _RETRY_S)
                return True
            if isinstance(body, bytearray):
                if rx.uint(60, 0) > len(body):
                    return _refuse(response, _TOO_LARGE, "", len(body))
                slot.sink = body  # pyright: ignore[reportAttributeAccessIssue]
            elif callable(body):
                slot.sink = body(rx)  # pyright: ignore[reportAttributeAccessIssue]
            slot.peer = rx.peer
            slot.transport = rx.transport
            slot.key = key(rx)
            slot.ct = rx.content_format
            slot.offset = 0
        elif slot is None or slot.kept is not None or slot.ct != rx.content_format:  # RFC 7959 2.3
            response.clear(_INCOMPLETE)
            return True
        elif slot.offset != offset:
            # where it came again its answer was lost
            response.clear(_CONTINUE if more and slot.offset == offset + n else _INCOMPLETE)
            return True
        slot.used = now
        self._arm(now)
        sink = slot.sink
        if isinstance(sink, bytearray):
            if offset + n > len(sink):
                self.free(slot)
                return _refuse(response, _TOO_LARGE, "", len(sink))
            copy(sink, offset, rx.data, table[_PAYLOAD], n)
        elif sink is not None:
            try:
                sink.write(memoryview(rx.data)[table[_PAYLOAD] : table[_END]])
            except Exception:
                self.free(slot)
                raise
        slot.offset = offset + n
        if more:
            response.code = _CONTINUE
            return sink is not None
        if sink is not None:
            rx.body = memoryview(sink)[: slot.offset] if isinstance(sink, bytearray) else sink
            slot.sink = None
        self.free(slot)
        return False

    def finish(self, now, rx, out):
        """Say which block a response is (RFC 7959 2.2), and keep the rest where it is to be kept."""
        table = out.table
        if out.code == _CONTINUE:
            table[_SIZE] = 0
            return
        part = table[_PART] & _WINDOW
        if not part or out.code > 95:
            return
        size = 8 << part
        skip = out.skip
        more = out.total > skip + size
        if skip and skip >= out.total:
            _refuse(out, _BAD_REQUEST, "there is no such block")
            return
        asked = rx.uint(23, None, 3)
        if not more and asked is None:
            return
        out.option(23, skip // size << 4 | (8 if more else 0) | part - 1)
        if more and not skip:
            out.option(28, out.total)
        if (more or skip) and out.crc and out.code == _CONTENT and not out.has(4):
            out.option(4, bytes((out.crc >> 24 & 0xFF, out.crc >> 16 & 0xFF, out.crc >> 8 & 0xFF, out.crc & 0xFF)))
        if more and table[_PART] & _KEEP:
            slot = self._find(now, rx) or self._claim(now, None)
            if slot is None:
                self._endpoint.counts[_N_REFUSED] += 1
                return  # the next block will find nothing: 4.08
            slot.peer = rx.peer
            slot.transport = rx.transport
            slot.key = key(rx)
            slot.used = now
            slot.kept = out.kept
            slot.code = out.code
            slot.ct = out.format()
            k = find_option(table, 4, _HEAD)
            slot.etag = out.values[(k - _HEAD) // 3] if k else None
            out.kept = None
            self._arm(now)

    def too_large(self, rx, response):
        """Say in a 4.13 which size of blocks would do (RFC 7959 2.9.3): the datagram was larger than mtu."""
        response.option(27, (rx.uint(27, 8, 3) & 8) | largest_szx(self._endpoint.mtu - _HEADROOM))

    # Slots

    def _find(self, now, rx):
        """Returns the slot of what this request continues, or None."""
        for slot in self._slots:
            if slot.peer is not None and slot.peer == rx.peer and slot.transport is rx.transport:
                if slot.key == key(rx) and not self._is_over(now, slot):
                    return slot
        return None

    def _claim(self, now, body):
        """Returns a slot that is free, or whose peer was silent for a while, or has hardly begun; or None.

        body: a bytearray that must not be in use.
        """
        oldest = None
        for slot in self._slots:
            if slot.peer is not None and self._is_over(now, slot):
                self.free(slot)
            if isinstance(body, bytearray) and slot.sink is body:
                if slot.offset > 1024 and ticks_diff(now, slot.used) < _SILENT_MS:
                    return None
                self.free(slot)
        for slot in self._slots:
            if slot.peer is None:
                return slot
            if slot.kept is not None or slot.offset <= 1024 or ticks_diff(now, slot.used) >= _SILENT_MS:
                if oldest is None or ticks_diff(slot.used, oldest.used) < 0:
                    oldest = slot
        if oldest is not None:
            self.free(oldest)
        return oldest

    def close(self):
        """Have no transfers any more."""
        for slot in self._slots:
            self.free(slot)

    def free(self, slot):
        """Have a slot no longer; a file that nobody will use is closed."""
        sink = slot.sink
        slot.peer = slot.transport = slot.sink = slot.kept = None  # first: close() may raise, of a full disk
        if hasattr(sink, "close"):
            sink.close()

    # Time

    def _is_over(self, now, slot):
        return ticks_diff(now, slot.used) >= self._endpoint.parameters.exchange_lifetime_ms

    def _arm(self, now):
        if self.deadline is None:
            self.deadline = ticks_add(now, self._endpoint.parameters.exchange_lifetime_ms)
            self._endpoint.arm(self.deadline)

    def handle_timeout(self, now):
        """For the driver: forget who has been silent for too long."""
        if self.deadline is None or ticks_diff(self.deadline, now) > 0:
            return
        self.deadline = None
        for slot in self._slots:
            if slot.peer is not None:
                if self._is_over(now, slot):
                    self.free(slot)
                else:
                    self._arm(slot.used)


def key(rx):
    """A number for what all requests of a transfer have in common (RFC 7959 2.4, RFC 9175 3.3)."""
    table = rx.table
    crc = table[6]
    for k in range(_HEAD, _HEAD + 3 * table[_COUNT], 3):
        number = table[k]
        if number not in _APART:
            crc = crc32(rx.data[table[k + 1] : table[k + 1] + table[k + 2]], crc ^ number)
    return crc


def _refuse(response, code, text, most=None):
    """Answer an error. Returns True."""
    response.clear(code)
    response.write(text)
    if most is not None:
        response.option(60, most)
    return True
