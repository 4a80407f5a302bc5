# One message: what arrived, read where it lies, and what is to be sent, written where it will be sent from.
#
# RFC 7252 3 (format), 5.10 (options), 12.1 (codes). Nothing here knows of exchanges, peers' behaviour or time.
# An Outgoing's buffer:  | headroom: header, token, options | payload ...        |
#                                             ^ start         ^ HEADROOM    ^ end
# The payload's place is fixed, so a handler may write it before or after its options; finish() writes the options
# up against it. Who may write when: the handler or client between reset() and finish(), then nobody until it is sent
# for the last time.

import json as _json

from .codes import CoapError
from .port import const, micropython, ptr16
from .wire import TAKES_STR, copy, encode, find_option, move_up, option_table

if TAKES_STR:
    from .wire import copy_ascii

_HEADROOM = const(64)
_HEAD = const(13)
_VIEWS = const(32)  # memoryviews an Outgoing keeps: a slice costs 32 bytes, a kept one nothing


# Cells of a table (wire.py)
_COUNT = const(1)
_PAYLOAD = const(2)
_LOOK = const(3)
_PART = const(3)
_KIND = const(5)
_SIZE = const(5)
_CODE = const(6)
_MID = const(7)
_TKL = const(8)
_END = const(9)
_CAPACITY = const(10)
_TOKEN = const(11)

_WINDOW = const(15)  # in [3]: block.py
_KEPT = const(48)

_BYTES = (bytes, bytearray, memoryview)
_CONSTANTS = (bytes, str)  # a tuple written where it is used would be made each time
_len = len  # found sooner than a builtin
_STR = str


class Message:
    """A received message. Its bytes are read where they lie; nothing is copied before it is asked for.

    In a plain handler it is valid until the handler returns; an async handler's and a client's are theirs.
    code: method or response code; method: the same, of a request; peer and transport: where it came from, opaque;
    multicast: it was sent to a group.
    payload: bytes, allocated anew each time (copy_into() allocates nothing); payload_size: how many, for nothing.
    content_format: its number, or None. max_age: seconds for which a response is fresh (RFC 7252 5.10.5).
    body, offset, more: of a request or response in blocks (block.py, transfer.py).
    path: of a request, as str without a slash in front ("" is the root); query: its Uri-Query options, a list of str.
    remote: the sender's address as text. is_notification: a handler is asked for a notification (observe.py).
    """

    body = None  # what was put together of its blocks
    is_notification = False

    def __init__(self, max_options):
        self.data = b""
        self.peer = None
        self.transport = None
        self.table = option_table(max_options)

    # These are no properties: MicroPython looks through a class that has one for each attribute that is stored in an
    # instance, and a datagram stores some: 14 % of a request's time on the unix port.
    def __getattr__(self, name):
        """What is computed when it is read: see the class; and mid, tkl, kind (0 CON, 1 NON, 2 ACK, 3 RST), the offset
        `end`, and truncated: the datagram was larger than mtu, the payload is not whole.
        """
        table = self.table
        if name == "code" or name == "method":
            return table[_CODE]
        if name == "payload":
            if isinstance(self.body, _BYTES):
                return bytes(self.body)
            return bytes(self.data[table[_PAYLOAD] : table[_END]])
        if name == "payload_size":
            return len(self.body) if isinstance(self.body, _BYTES) else table[_END] - table[_PAYLOAD]
        if name == "kind":
            return table[_KIND]
        if name == "mid":
            return table[_MID]
        if name == "tkl":
            return table[_TKL]
        if name == "end":
            return table[_END]
        if name == "truncated":
            return table[_LOOK] & 4 != 0
        if name == "multicast":
            return table[_LOOK] & 8 != 0
        if name == "content_format":
            return self.uint(12, None, 2)
        if name == "max_age":
            return self.uint(14, 60)
        if name == "offset" or name == "more":
            block = self.uint(27, 0, 3)
            return block & 8 != 0 if name == "more" else block >> 4 << 4 + (block & 7)
        if name == "path":
            return "/".join([_text(segment) for segment in self.options(11)])
        if name == "query":
            return [_text(value) for value in self.options(15)]
        if name == "remote":
            return self.transport.format(self.peer)  # pyright: ignore[reportAttributeAccessIssue]
        raise AttributeError(name)

    def copy_into(self, buf, pos=0):
        """Copy the payload to buf[pos:] (bytearray). Returns its length in bytes.

        Raises ValueError when buf is too short. Allocates: nothing.
        """
        source = self.data
        start = self.table[_PAYLOAD]
        n = self.payload_size
        if isinstance(self.body, _BYTES):
            source = self.body
            start = 0
        if isinstance(buf, _CONSTANTS) or pos < 0 or pos + n > len(buf):
            raise ValueError("the payload has %d bytes: too many for the buffer" % n)
        copy(buf, pos, source, start, n)
        return n

    def text(self):
        """The payload as str. Raises CoapError 4.00 when it is not UTF-8."""
        try:
            return self.payload.decode()  # pyright: ignore[reportAttributeAccessIssue]
        except ValueError:
            raise CoapError(128, "the payload is not UTF-8")

    def json(self):
        """The payload's JSON as an object. Raises CoapError 4.00 when it is none."""
        try:
            text = self.text().strip()
            obj = _json.loads(text)
            if isinstance(obj, (dict, list)) and text[-1] not in "]}":
                raise ValueError  # MicroPython takes '{"a":1' for whole
            return obj
        except (ValueError, RuntimeError):  # RuntimeError: nested too deep
            raise CoapError(128, "the payload is not JSON")

    def option(self, number):
        """The value of an option as bytes (the first one, if repeated), or None. Allocates the bytes."""
        table = self.table
        k = find_option(table, number, _HEAD)
        if not k:
            return None
        return bytes(self.data[table[k + 1] : table[k + 1] + table[k + 2]])

    def options(self, number):
        """All values of a repeatable option as a list of bytes."""
        table = self.table
        values = []
        k = find_option(table, number, _HEAD)
        while k:
            values.append(bytes(self.data[table[k + 1] : table[k + 1] + table[k + 2]]))
            k = find_option(table, number, k + 3)
        return values

    @micropython.native
    def uint(self, number, default=None, longest=4):
        """The value of an option as integer (RFC 7252 3.2), or default where it is absent or longer than `longest`.

        Allocates: nothing below 2**30.
        """
        table = self.table
        k = find_option(table, number, _HEAD)
        if not k or table[k + 2] > longest:
            return default
        pos = table[k + 1]
        end = pos + table[k + 2]
        value = 0
        while pos < end:
            value = value << 8 | self.data[pos]
            pos += 1
        return value


def largest_szx(n):
    """The SZX of the largest block of at most n bytes (RFC 7959 2.2): 6 for 1,024; -1 where even 16 are too many."""
    szx = 6
    while szx >= 0 and 16 << szx > n:
        szx -= 1
    return szx


def _text(value):
    try:
        return value.decode()
    except ValueError:
        return "".join([chr(b) if b < 128 else "\ufffd" for b in value])


class Outgoing:
    """A message to be sent: its buffer, and the options that wait to be written into it.

    mtu: the largest datagram in bytes, of which the payload gets at most mtu - 64; table, values: from option_table()
    and a list as long, which Outgoings may share as long as one is finished before the next is begun.
    """

    def __init__(self, mtu, table, values):
        if not 95 < mtu < 65536:
            raise ValueError("mtu lies between 96 and 65535 bytes")
        self.buf = bytearray(mtu)
        table[_CAPACITY] = mtu
        self.views = {}  # memoryviews by start << 16 | end
        self.table = table
        self.values = values
        if TAKES_STR:
            self._hot = (table, self.buf, len, copy_ascii)  # pyright: ignore[reportPossiblyUnboundVariable]
        self._token = b""
        self.next = None  # the endpoint's, of those that are free
        self.code = 0
        self.total = 0  # bytes of a payload of which one block is kept (block.py)
        self.start = 0
        self.end = 0

    @micropython.native
    def reset(self, code, token, offset, tkl):
        """Begin a message. token: the buffer that holds tkl bytes of token at offset until finish()."""
        self.clear(code)
        self.token(token, offset, tkl)

    @micropython.native
    def token(self, token, offset, tkl):
        """Say which token it will have: see reset()."""
        self._token = token
        table = self.table
        table[_TKL] = tkl
        table[_TOKEN] = offset

    @micropython.native
    def clear(self, code):
        """Begin anew with another code: no options, no payload. The token stays."""
        self.code = code
        table = self.table
        table[_COUNT] = table[_SIZE] = 0
        table[_PART] &= _KEPT

    @micropython.native
    def option(self, number, value):
        """Add an option, in any order; equal numbers stay in the order they came in.

        value: int (written in its shortest form, RFC 7252 3.2), str or bytes-like, which must not change until the
        message is sent. Raises ValueError. Allocates: nothing for int and bytes.
        """
        if not 0 < number < 65536:
            raise ValueError("an option number lies between 1 and 65535")
        if isinstance(value, int):
            if not 0 <= value < 4294967296:
                raise ValueError("an option's integer has at most 32 bits")
            n = 0
            v = value
            while v:
                n += 1
                v >>= 8
            self.add(number, value, 0xFFFF, n)
        else:
            if isinstance(value, str):
                value = value.encode()
            if len(value) > len(self.buf):
                raise ValueError("option %d does not fit mtu=%d" % (number, len(self.buf)))
            self.add(number, value, 0, len(value))

    @micropython.native
    def add(self, number, value, offset, n):
        """Add the option value[offset:offset + n]; offset 0xFFFF: the integer `value` in n bytes. Allocates nothing."""
        table = self.table
        values = self.values
        i = table[1]
        if i == table[0]:
            raise ValueError("a message takes at most %d options" % i)
        table[1] = i + 1
        k = _HEAD + 3 * i
        while i and table[k - 3] > number:
            table[k] = table[k - 3]
            table[k + 1] = table[k - 2]
            table[k + 2] = table[k - 1]
            values[i] = values[i - 1]
            k -= 3
            i -= 1
        table[k] = number
        table[k + 1] = offset
        table[k + 2] = n
        values[i] = value

    @micropython.native
    def write(self, data):
        """Append to the payload. data: str or bytes-like. Raises ValueError when it does not fit.

        A response to whatever asks for blocks, or one that is larger than mtu, keeps one block of it (block.py).
        Returns the number of bytes. Allocates: nothing, or the encoded bytes of a str that is not ASCII.
        """
        n = _len(data)
        buf = self.buf
        table = self.table
        size = table[_SIZE]
        pos = _HEADROOM + size
        whole = table[_PART] & _WINDOW == 0
        if isinstance(data, _STR):
            if TAKES_STR and whole and pos + n <= _len(buf):
                if copy_ascii(n, data, buf, pos) == n:  # pyright: ignore[reportPossiblyUnboundVariable]
                    table[_SIZE] = size + n
                    return n
            data = data.encode()
            n = _len(data)
        if not whole or pos + n > _len(buf):
            self._write_part(data, n)
            return n
        copy(buf, pos, data, 0, n)
        table[_SIZE] = size + n
        return n

    def _write_part(self, data, n):
        try:
            from .block import write
        except ImportError:
            raise ValueError("a payload of %d bytes does not fit mtu=%d" % (self.table[_SIZE] + n, len(self.buf)))
        write(self, data, n)

    def stream(self, source, ct=None):
        """Set the payload to what source gives: a file (seek, readinto), or an iterator of str or bytes-like.

        As much of it as one block holds is in memory at a time.
        """
        from .block import stream

        stream(self, source)
        if ct is not None:
            self._format(ct)

    def payload(self, data, ct=None):
        """Set the payload. data: str or bytes-like; ct: its Content-Format, if any. Allocates: as write()."""
        self.table[_SIZE] = self.total = 0
        self.write(data)
        if ct is not None:
            self._format(ct)

    if TAKES_STR:

        @micropython.viper
        def text(self, text):
            """Set the payload to text/plain; charset=utf-8 (Content-Format 0). Allocates: as write()."""
            t, buf, length, write = self._hot
            cells = ptr16(t)
            n = int(length(text))
            if (
                int(cells[_COUNT]) | int(cells[_PART]) & _WINDOW == 0
                and int(cells[0]) > 0
                and n + _HEADROOM <= int(cells[_CAPACITY])
            ):
                # as it mostly is: ASCII that fits, no options so far
                if int(write(n, text, buf, _HEADROOM)) == n:
                    cells[_SIZE] = n
                    cells[_COUNT] = 1
                    cells[_HEAD] = 12
                    cells[_HEAD + 1] = 0xFFFF
                    cells[_HEAD + 2] = 0
                    return
            self.payload(text, 0)

    else:

        def text(self, text):
            """As above."""
            self.payload(text, 0)

    def json(self, obj):
        """Set the payload to obj as JSON (Content-Format 50). Allocates the JSON text."""
        self.payload(_json.dumps(obj, separators=(",", ":")), 50)

    @micropython.native
    def format(self):
        """The Content-Format that was set as a number, or None."""
        table = self.table
        k = find_option(table, 12, _HEAD)
        if not k or table[k + 1] != 0xFFFF:
            return None
        return self.values[(k - _HEAD) // 3] if table[k + 2] else 0  # text() leaves the value out

    def has(self, number):
        """Tell whether an option was added."""
        return find_option(self.table, number, _HEAD) != 0

    @micropython.native
    def _format(self, ct):
        if not 0 <= ct < 65536:
            raise ValueError("a Content-Format lies between 0 and 65535")
        n = 0 if ct == 0 else 1 if ct < 256 else 2
        table = self.table
        k = _HEAD
        k = find_option(table, 12, k)  # a second text() or json() replaces the first one's
        if not k:
            self.add(12, ct, 0xFFFF, n)
            return
        table[k + 1] = 0xFFFF
        table[k + 2] = n
        self.values[(k - _HEAD) // 3] = ct

    @micropython.native
    def finish(self, kind, mid):
        """Write header, token and options in front of the payload: the message is then buf[start:end].

        kind: CON, NON or ACK. Returns its length in bytes. Raises ValueError when it is larger than mtu, or the code
        is none. Allocates: nothing.
        """
        table = self.table
        buf = self.buf
        code = self.code
        if not 0 < code < 256:
            raise ValueError("no code: %d" % code)
        table[_MID] = mid
        size = table[_SIZE]
        code |= 0x4000 | kind << 12
        place = encode(buf, table, self.values, table, self._token, _HEADROOM << 16 | code)
        if place == -1:  # rare: the options need more than the headroom, and the payload makes way
            distance = len(buf) - _HEADROOM - size
            if size and distance > 0:
                move_up(buf, _HEADROOM, size, distance)
            place = encode(buf, table, self.values, table, self._token, (_HEADROOM + distance) << 16 | code)
        if place == -1:
            raise ValueError("the message does not fit mtu=%d" % len(buf))
        self.start = start = place >> 16 & 0xFFFF  # machine code on 32 bits may give it a sign
        self.end = end = place & 0xFFFF
        return end - start

    def empty(self, kind, mid):
        """Make it an Empty message (RFC 7252 4.1): ACK, RST or ping. The payload's place is not touched."""
        buf = self.buf
        buf[0] = 0x40 | kind << 4
        buf[1] = 0
        buf[2] = mid >> 8
        buf[3] = mid & 0xFF
        self.start = 0
        self.end = 4

    @micropython.native
    def view(self):
        """The finished message as a memoryview. Allocates: 48 bytes where its place is new, else nothing."""
        start = self.start
        end = self.end
        key = start << 16 | end
        view = self.views.get(key)
        if view is None:
            if len(self.views) == _VIEWS:
                self.views.clear()
            view = self.views[key] = memoryview(self.buf)[start:end]
        return view
