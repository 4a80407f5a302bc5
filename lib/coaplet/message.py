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
from .port import const, micropython
from .wire import TAKES_STR, copy, copy_ascii, encode, find_option, move_up, option_table

_HEADROOM = const(64)
_HEAD = const(5)
_VIEWS = const(32)  # memoryviews an Outgoing keeps: a slice costs 32 bytes, a kept one nothing


_CONSTANTS = (bytes, str)  # a tuple written where it is used would be made each time
_STR = str  # found sooner than a builtin


class Message:
    """A received message. Its bytes are read where they lie; nothing is copied before it is asked for.

    In a plain handler it is valid until the handler returns; an async handler's and a client's are theirs.
    code: method or response code; method: the same, of a request; peer and transport: where it came from, opaque.
    payload: bytes, allocated anew each time (copy_into() allocates nothing); payload_size: how many, for nothing.
    content_format: its number, or None. max_age: seconds for which a response is fresh (RFC 7252 5.10.5).
    path: of a request, as str without a slash in front ("" is the root); query: its Uri-Query options, a list of str.
    remote: the sender's address as text.
    """

    def __init__(self, capacity):
        self.data = b""
        self.end = 0
        self.code = 0
        self.kind = 0  # 0 CON, 1 NON, 2 ACK, 3 RST (RFC 7252 3)
        self.mid = 0
        self.tkl = 0
        self.peer = None
        self.transport = None
        self.multicast = False
        self.truncated = False  # the datagram was larger than mtu: the payload is not whole
        self.record = 0  # the endpoint's: where its duplicates are noted
        self.table = option_table(capacity)

    # These are no properties: MicroPython looks through a class that has one for each attribute that is stored in an
    # instance, and a datagram stores ten: some 14 % of a request's time on the unix port.
    def __getattr__(self, name):
        """What is computed when it is read: see the class."""
        if name == "payload":
            return bytes(self.data[self.table[2] : self.end])
        if name == "method":
            return self.code
        if name == "payload_size":
            return self.end - self.table[2]
        if name == "content_format":
            return self.uint(12, None, 2)
        if name == "max_age":
            return self.uint(14, 60)
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
        start = self.table[2]
        n = self.end - start
        if isinstance(buf, _CONSTANTS) or pos < 0 or pos + n > len(buf):
            raise ValueError("the payload has %d bytes: too many for the buffer" % n)
        copy(buf, pos, self.data, start, n)
        return n

    def text(self):
        """The payload as str. Raises CoapError 4.00 when it is not UTF-8."""
        try:
            return self.payload.decode()  # pyright: ignore[reportAttributeAccessIssue]
        except (UnicodeError, ValueError):
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


def _text(value):
    try:
        return value.decode()
    except (UnicodeError, ValueError):
        return "".join([chr(b) if b < 128 else "\ufffd" for b in value])


class Outgoing:
    """A message to be sent: its buffer, and the options that wait to be written into it.

    mtu: the largest datagram in bytes, of which the payload gets at most mtu - 64; table, values: from option_table()
    and a list one longer, which Outgoings may share as long as one is finished before the next is begun.
    """

    def __init__(self, mtu, table, values):
        if not 95 < mtu < 65536:
            raise ValueError("mtu lies between 96 and 65535 bytes")
        self.buf = bytearray(mtu)
        self._views = {}
        self._table = table
        self._values = values
        self._size = 0
        self._tkl = 0
        self.next = None  # the endpoint's, of those that are free
        self.code = 0
        self.start = 0
        self.end = 0

    @micropython.native
    def reset(self, code, token, offset, tkl):
        """Begin a message. token: the buffer that holds tkl bytes of token at offset until finish()."""
        self.code = code
        self._size = 0
        self._tkl = tkl
        self._values[0] = token
        table = self._table
        table[1] = 0
        table[4] = offset

    def clear(self, code):
        """Begin anew with another code: no options, no payload. The token stays."""
        self.code = code
        self._size = 0
        self._table[1] = 0

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
        table = self._table
        values = self._values
        i = table[1]
        if i == table[0]:
            raise ValueError("a message takes at most %d options" % i)
        table[1] = i + 1
        k = _HEAD + 3 * i
        while i and table[k - 3] > number:
            table[k] = table[k - 3]
            table[k + 1] = table[k - 2]
            table[k + 2] = table[k - 1]
            values[i + 1] = values[i]
            k -= 3
            i -= 1
        table[k] = number
        table[k + 1] = offset
        table[k + 2] = n
        values[i + 1] = value

    @micropython.native
    def write(self, data):
        """Append to the payload. data: str or bytes-like. Raises ValueError when it does not fit.

        Returns the number of bytes. Allocates: nothing, or the encoded bytes of a str that is not ASCII.
        """
        n = len(data)
        buf = self.buf
        pos = _HEADROOM + self._size
        if isinstance(data, _STR):
            if TAKES_STR and pos + n <= len(buf) and copy_ascii(buf, pos, data, n) == n:
                self._size += n
                return n
            data = data.encode()
            n = len(data)
        if pos + n > len(buf):
            raise ValueError("a payload of %d bytes does not fit mtu=%d" % (self._size + n, len(buf)))
        copy(buf, pos, data, 0, n)
        self._size += n
        return n

    def payload(self, data, ct=None):
        """Set the payload. data: str or bytes-like; ct: its Content-Format, if any. Allocates: as write()."""
        self._size = 0
        self.write(data)
        if ct is not None:
            self._format(ct)

    @micropython.native
    def text(self, text):
        """Set the payload to text/plain; charset=utf-8 (Content-Format 0). Allocates: as write()."""
        self._size = 0
        self.write(text)
        self._format(0)

    def json(self, obj):
        """Set the payload to obj as JSON (Content-Format 50). Allocates the JSON text."""
        self.payload(_json.dumps(obj, separators=(",", ":")), 50)

    def format(self):
        """The Content-Format that was set as a number, or None."""
        k = find_option(self._table, 12, _HEAD)
        return self._values[(k - _HEAD) // 3 + 1] if k and self._table[k + 1] == 0xFFFF else None

    def has(self, number):
        """Tell whether an option was added."""
        return find_option(self._table, number, _HEAD) != 0

    @micropython.native
    def _format(self, ct):
        if not 0 <= ct < 65536:
            raise ValueError("a Content-Format lies between 0 and 65535")
        n = 0 if ct == 0 else 1 if ct < 256 else 2
        table = self._table
        k = _HEAD
        if not table[1]:  # the only option, as it mostly is
            table[1] = 1
            table[k] = 12
        else:
            k = find_option(table, 12, k)  # a second text() or json() replaces the first one's
            if not k:
                self.add(12, ct, 0xFFFF, n)
                return
        table[k + 1] = 0xFFFF
        table[k + 2] = n
        self._values[(k - _HEAD) // 3 + 1] = ct

    @micropython.native
    def finish(self, kind, mid):
        """Write header, token and options in front of the payload: the message is then buf[start:end].

        kind: CON, NON or ACK. Returns its length in bytes. Raises ValueError when it is larger than mtu, or the code
        is none. Allocates: nothing.
        """
        table = self._table
        buf = self.buf
        if not 0 < self.code < 256:
            raise ValueError("no code: %d" % self.code)
        table[2] = (0x40 | kind << 4 | self._tkl) << 8 | self.code
        table[3] = mid
        pos = _HEADROOM
        size = self._size
        if size:
            pos -= 1
            buf[pos] = 0xFF
        start = encode(buf, pos, table, self._values)
        end = _HEADROOM + size
        if start < 0 and end < len(buf):  # rare: the options need more than the headroom, and the payload makes way
            distance = len(buf) - end
            if size:
                move_up(buf, pos, size + 1, distance)
            start = encode(buf, pos + distance, table, self._values)
            end += distance
        if start < 0:
            raise ValueError("the message does not fit mtu=%d" % len(buf))
        self.start = start
        self.end = end
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
        key = self.start << 16 | self.end
        view = self._views.get(key)
        if view is None:
            if len(self._views) == _VIEWS:
                self._views.clear()
            view = self._views[key] = memoryview(self.buf)[self.start : self.end]
        return view
