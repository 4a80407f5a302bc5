# Datagrams over a serial line: CoAP in slipmux frames (draft-bormann-t2trg-slipmux, RFC 1055, RFC 1662 C.2).
#
# A frame is END, 0xA9, the CoAP message, its FCS-16 (low byte first, over 0xA9 and the message), END; within it END and
# ESC are escaped. Frames of other kinds (diagnostic texts, IP packets) are passed over, and what is damaged, up to the
# next END. The END in front of each frame keeps it apart from noise, and from a frame that was cut off.
#
# All buffers are made in the constructor; receive() alone writes to _chunk and _frame, send() alone to _tx.

from array import array

from .port import MICROPYTHON, const, micropython, ptr8, ptr16

_CHUNK = const(128)  # bytes read at a time
_VIEWS = const(32)  # as many as message.Outgoing keeps

_END = const(0xC0)
_ESC = const(0xDB)
_ESC_END = const(0xDC)
_ESC_ESC = const(0xDD)
_COAP = const(0xA9)
_FCS_OF_COAP = const(0x374C)
_GOOD_FCS = const(0xF0B8)

# Cells of _state, an array("H"): where the next byte lies in _chunk, where they end; bytes of the frame so far, or what
# is wrong with it; FCS so far; whether ESC came last; bytes of the longest frame
_POS = const(0)
_LAST = const(1)
_SIZE = const(2)
_FCS = const(3)
_ESCAPED = const(4)
_LIMIT = const(5)

# What may be wrong with a frame: added to the bytes of the longest one
_OVERLONG = const(1)
_DAMAGED = const(2)
_OTHER = const(3)


class Serial:
    """CoAP on a serial line: datagrams between two ends.

    stream: a machine.UART, a TCP socket, a terminal or pty opened as a binary file without buffering; it does not block
    (a UART's write() does where its txbuf is smaller than a frame), and belongs to whoever made it. mtu: bytes of the
    largest datagram, the endpoint's at best. peer: a text that stands for the other end.
    """

    secure = multicast = False  # what arrives was not authenticated
    family = None

    def __init__(self, stream, mtu, peer="serial"):
        if not MICROPYTHON and not hasattr(stream, "readinto"):  # a socket of CPython's
            stream = stream.makefile("rwb", buffering=0)
        self.mtu = mtu
        self.peer = peer
        self.pollable = stream
        self.more = False  # whether receive() has read bytes that it has not looked at
        self.damaged = 0  # frames dropped: a wrong FCS or escape, cut off, aborted
        self.overlong = 0  # frames dropped: cut, an endpoint with a larger mtu would take them for whole
        self.other = 0  # frames that are not CoAP, noise among them
        self.on_record = None  # function of (record, peer), for DTLS beside CoAP in the clear (secure.py)
        self.no_memory = 0  # datagrams dropped because there was no room for 100 bytes
        self.lost = 0  # datagrams that were not sent
        self._any = getattr(stream, "any", None)
        self._chunk = bytearray(_CHUNK)
        self._frame = bytearray(mtu + 3)
        self._state = array("H", (0, 0, 0, 0xFFFF, 0, mtu + 3))
        self._found = {}  # (datagram, peer) by the datagram's length
        self._tx = bytearray(2 * mtu + 7)
        self._end = 0  # of the frame in _tx
        self._left = 0  # bytes of it that are to be sent still

    def open(self):
        """Do nothing: the stream is open, and stays so."""

    close = open

    @micropython.native
    def receive(self):
        """Returns (datagram, peer), or None when there is none. A datagram is valid until the next call.

        The stream is read once at most, and not before all that was read earlier is used up.
        Allocates: nothing, or about 100 bytes for a datagram of a length that did not come lately.
        """
        if self._left:
            self._flush()
        state = self._state
        if not self.more:
            try:
                if self._any:  # a UART would wait for what it does not have yet
                    n = self.pollable.readinto(self._chunk, self._any())
                else:
                    n = self.pollable.readinto(self._chunk)
            except OSError:
                return None
            state[_POS] = 0
            state[_LAST] = n or 0
        n = _decode(self._chunk, self._frame, state)
        while n < 0:
            if n == -_DAMAGED:
                self.damaged += 1
            elif n == -_OTHER:
                self.other += 1
            else:
                self.overlong += 1
            n = _decode(self._chunk, self._frame, state)
        self.more = state[_POS] < state[_LAST]
        found = self._found.get(n)
        if n and not found:
            if len(self._found) == _VIEWS:
                self._found.clear()
            try:
                self._found[n] = found = (memoryview(self._frame)[1 : n + 1], self.peer)
            except MemoryError:
                self._found.clear()
                self.no_memory += 1
        if found and self.on_record and 19 < self._frame[1] < 64:  # as RFC 7983 tells the two apart
            self.on_record(found)
            return None
        return found

    @micropython.native
    def send(self, buf, peer):
        """Send a datagram. Returns False when it is lost already.

        What the stream does not take is kept, and goes on when send() or receive() is called the next time. As long as
        some is left, other datagrams are lost: no frame begins within another. Allocates: what the stream's write does.
        """
        n = len(buf)
        if n > self.mtu or self._left and self._flush():
            self.lost += 1
            return False
        self._left = self._end = _encode(buf, n, self._tx)
        self._flush()
        return True

    @micropython.native
    def _flush(self):
        """Send what is left. Returns how many bytes are left still."""
        left = self._left
        pos = self._end - left
        try:
            if MICROPYTHON:
                left -= self.pollable.write(self._tx, pos, left) or 0
            else:
                left -= self.pollable.write(memoryview(self._tx)[pos : pos + left]) or 0
            self._left = left
        except OSError:
            pass
        return left

    def format(self, peer=None):
        """What stands for the other end; address(): for this one, the same."""
        return self.peer

    address = format


@micropython.viper
def _decode(chunk: ptr8, frame: ptr8, state: ptr16) -> int:
    """Take bytes out of chunk, up to the end of the next frame.

    Returns the length of the datagram that lies at frame[1:] then; or what is wrong with a frame, negative; or 0 when
    there are no bytes left. Allocates: nothing.
    """
    pos = state[_POS]
    n = state[_SIZE]
    fcs = state[_FCS]
    limit = state[_LIMIT]
    escaped = state[_ESCAPED]
    result = 0
    while result == 0 and pos < state[_LAST]:
        b = chunk[pos + 0]
        pos += 1
        if b == _END:
            if n > limit:
                result = limit - n
            elif n:  # else it is empty, as each is between two ENDs
                result = n - 3
                if escaped or fcs != _GOOD_FCS or n < 4:  # ESC END: the sender has given it up
                    result = 0 - _DAMAGED
            n = 0
            fcs = 0xFFFF
            escaped = 0
        elif b == _ESC and escaped == 0:
            escaped = 1
        else:
            if escaped:
                escaped = 0
                if b == _ESC_END:
                    b = _END
                elif b == _ESC_ESC:
                    b = _ESC
                else:
                    n = limit + _DAMAGED
            if n == 0 and b != _COAP:
                n = limit + _OTHER
            if n < limit:
                frame[n + 0] = b
                n += 1
                b ^= fcs & 0xFF
                b = (b ^ b << 4) & 0xFF
                fcs = fcs >> 8 ^ b << 8 ^ b << 3 ^ b >> 4
            elif n == limit:
                n += _OVERLONG
    state[_POS] = pos
    state[_SIZE] = n
    state[_FCS] = fcs
    state[_ESCAPED] = escaped
    return result


@micropython.viper
def _encode(buf: ptr8, n: int, tx: ptr8) -> int:
    """Write the frame of the datagram buf[:n] to tx. Returns its length in bytes, at most 2 * n + 7."""
    tx[0] = _END
    tx[1] = _COAP
    pos = 2
    fcs = _FCS_OF_COAP
    i = 0
    while i < n + 2:
        if i < n:
            b = buf[i + 0]
            v = b ^ fcs & 0xFF
            v = (v ^ v << 4) & 0xFF
            fcs = fcs >> 8 ^ v << 8 ^ v << 3 ^ v >> 4
        else:
            if i == n:
                fcs ^= 0xFFFF
            b = fcs & 0xFF
            fcs >>= 8
        i += 1
        v = 0
        if b == _END:
            v = _ESC_END
        elif b == _ESC:
            v = _ESC_ESC
        if v:
            tx[pos + 0] = _ESC
            pos += 1
            b = v
        tx[pos + 0] = b
        pos += 1
    tx[pos + 0] = _END
    return pos + 1
