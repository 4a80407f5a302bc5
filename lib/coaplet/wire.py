# One message's options as bytes: the codec (RFC 7252 3.1) and the loops that are worth machine code.
#
# Each function is one body for viper, bytecode and CPython; a build for bytecode alone strips the decorator. Viper
# does not check bounds: whoever calls says how long a buffer is, and nothing here reads or writes past that.
#
# A table is an array('H') from `option_table(max_options)`: what is known of one message, and its options. In an array
# machine code reads and writes it for nothing, where an attribute costs as much as thirty of its instructions.
#   [0] capacity  [1] options in use  [7] Message ID  [8] token length  [11] offset of the token
#   then three cells an option: number, offset of the value, length of the value.
# Received (filled by parse; offsets into the datagram):
#   [2] offset of the payload, or the end  [3] what calls for a look  [4] hash of the path and the method
#   [5] type  [6] code  [9] end  [10] code of a success, and bit 8 when it is no CON of a safe method
#   [12] where its duplicates are noted (duplicates.py)
# To be sent (filled by message.Outgoing, offsets into values[i]):
#   [3] which part of the payload is kept (block.py)  [5] bytes of the payload  [10] bytes of the buffer
#   An offset of 0xFFFF says that values[i] is an integer (RFC 7252 3.2), `length` its bytes on the wire.
#
# Cells of a ptr16 are indexed by expressions only: MicroPython up to 1.27 shifts a bare local on Thumb and RV32.

from array import array

from .port import MICROPYTHON, const, micropython, ptr8, ptr16, ptr32

HEAD = 13  # cells before the first option

_HEAD = const(13)

# What parse finds
_FORMAT_ERROR = const(-1)  # RFC 7252 3 calls it a message format error
_IGNORED = const(0)  # too short, or another version: silence (RFC 7252 3)
_REQUEST = const(1)
_RESPONSE = const(2)
_EMPTY = const(3)


def option_table(max_options):
    """Make the table for up to so many options of one message."""
    table = array("H", bytes(2 * (_HEAD + 3 * max_options)))
    table[0] = max_options
    return table


@micropython.viper
def parse(data: ptr8, pos: int, end: int, table: ptr16, look: int) -> int:
    """Fill the table with a datagram's header and options (RFC 7252 3), or just with the options at data[pos:end].

    data: bytes-like of at least `end` bytes, of which 65,535 are read. pos: -1 for a datagram with its header, else
    where the options begin. look: what table[3] has from the start; 4 for a datagram larger than mtu, whose payload is
    not whole.
    Returns 1 for a request, 2 for a response, 3 for an Empty message (of which only the header is looked at) and 0 for
    what is to be ignored; for options alone the offset of the payload (end if there is none); or -1, a format error:
    nibble 15, a value past the end, a number above 65535, an empty payload after the marker, a reserved class, and a
    request as ACK or RST (4.2).
    table[3] has bit 1 set when there are more options than the table holds, which are left out, and bit 0 when some
    option is critical and no Uri-Path or Uri-Query of at most 255 bytes, or is Observe: what is rare is left to whoever
    asks, what is common costs nothing (bit 3, sent to a group, is the endpoint's). table[4] is path_hash() of the
    Uri-Path options, with the method in its upper five bits, so that a path has another hash for each; a payload that
    GET and DELETE do not have is left out (5.5).
    Allocates: nothing.
    """
    code = -1
    kind = 0
    if pos < 0:
        if end < 4 or int(data[0]) >> 6 != 1:
            return _IGNORED
        if look:
            if end > 65535:
                end = 65535
            if int(data[end - 1]) == 0xFF:
                end -= 1  # it may be the marker of a payload that was cut off
        kind = int(data[0])
        pos = 4 + (kind & 15)
        kind = kind >> 4 & 3
        code = int(data[1])
        table[5] = kind
        table[6] = code
        table[7] = int(data[2]) << 8 | int(data[3])
        table[8] = pos - 4
        table[9] = end
        table[11] = 4
        table[3] = 0
        if code == 0:
            table[1] = 0
            table[2] = end
            return _EMPTY
        if pos > 12 or pos > end:
            return _FORMAT_ERROR
    number = 0
    k = _HEAD
    count = 0
    capacity = int(table[0])
    path = 0
    while pos < end:
        b = int(data[pos])
        pos += 1
        if b == 0xFF:
            if pos == end:
                return _FORMAT_ERROR
            end = pos
            break
        v = b & 15
        b >>= 4
        if b > 12:
            if b == 15 or pos + b - 12 > end:
                return _FORMAT_ERROR
            if b == 13:
                b = 13 + int(data[pos])
                pos += 1
            else:
                b = 269 + (int(data[pos]) << 8 | int(data[pos + 1]))
                pos += 2
        if v > 12:
            if v == 15 or pos + v - 12 > end:
                return _FORMAT_ERROR
            if v == 13:
                v = 13 + int(data[pos])
                pos += 1
            else:
                v = 269 + (int(data[pos]) << 8 | int(data[pos + 1]))
                pos += 2
        number += b
        if number > 65535 or pos + v > end:
            return _FORMAT_ERROR
        if count == capacity:
            look |= 2
        else:
            table[k + 0] = number
            table[k + 1] = pos
            table[k + 2] = v
            k += 3
            count += 1
        if number == 11 and v < 256:
            path = (path * 33 ^ v) & 0xFFFF
            v += pos
            while pos < v:
                path = (path * 33 ^ int(data[pos])) & 0xFFFF
                pos += 1
        else:
            pos += v
            if number & 1 and (number != 15 or v > 255) or number == 6:
                look |= 1
    table[1] = count
    table[2] = end
    table[3] = look
    table[4] = path
    if code < 0:
        return end
    if code > 31:
        if (code > 63 and code < 96) or (code > 127 and code < 192):
            return _RESPONSE
        return _FORMAT_ERROR
    if kind > 1:
        return _FORMAT_ERROR
    table[4] = path ^ code << 11
    if code == 1 or code == 4:
        table[9] = end
    kind |= 1
    look = 68
    if code == 1 or code == 5:
        look = 69
        kind = int(table[5])
    if code == 4:
        look = 66
    table[10] = look | kind << 8
    return _REQUEST


@micropython.viper
def path_hash(key: ptr8, n: int) -> int:
    """Hash n bytes of a path key (see path_key) as parse hashes the options they stand for."""
    path = 0
    i = 0
    while i < n:
        path = (path * 33 ^ int(key[i])) & 0xFFFF
        i += 1
    return path


@micropython.viper
def find_path(data: ptr8, table: ptr16, path: int, routes: ptr32, keys: ptr8) -> int:
    """Find the Uri-Path options of a parsed message among path keys.

    path: their hash; or 65536, to look for what is above the path, as if each key with that hash were followed by
    another segment. routes: an array("i") of [how many, then in ascending order hash, offset and length of each one's
    key in keys], see path_key().
    Returns the first such route's number, or -1. Allocates: nothing.
    """
    n = int(routes[0])
    i = 0
    e = n
    while i < e:
        j = (i + e) >> 1
        if int(routes[1 + 3 * j]) < path:
            i = j + 1
        else:
            e = j
    while i < n and int(routes[1 + 3 * i]) == path:
        j = int(routes[2 + 3 * i])
        e = j + int(routes[3 + 3 * i])
        k = int(_HEAD)
        last = k + 3 * int(table[1])
        while k < last:
            if int(table[k + 0]) == 11:
                v = int(table[k + 2])
                p = int(table[k + 1])
                v += p
                if j == e:
                    if path > 65535:
                        return i
                    j = -1
                elif int(keys[j]) != v - p:
                    j = -1
                else:
                    j += 1
                    while p < v and int(data[p]) == int(keys[j]):
                        p += 1
                        j += 1
                    if p < v:
                        j = -1
                if j < 0:
                    k = last
            k += 3
        if j == e and path < 65536:
            return i
        i += 1
    return -1


@micropython.viper
def find_option(table: ptr16, number: int, start: int) -> int:
    """Find an option in a table.

    start: the cell to begin at: HEAD, or the last result + 3 for the next one of a repeatable option.
    Returns the cell of its number (offset and length follow), or 0. Allocates: nothing.
    """
    k = start
    last = _HEAD + 3 * int(table[1])
    while k < last:
        if int(table[k + 0]) == number:
            return k
        k += 3
    return 0


@micropython.viper
def encode(buf: ptr8, table: ptr16, values, head: ptr16, token: ptr8, word: int) -> int:
    """Write header, token, options and payload marker in front of the payload (RFC 7252 3).

    Written backwards, so that the payload can lie at its place before anybody knows how long the options are.
    table, values: as the head of this file says, options in ascending order. head: the table that has Message ID and
    token length: this one, or the request's that is answered; token: the buffer of the token. word: where the payload
    lies << 16 | the header's first byte without the token length << 8 | code.
    Returns where the message begins << 16 | where it ends, or -1 when the room in front of the payload does not do.
    Allocates: nothing.
    """
    pos = word >> 16 & 0xFFFF
    tkl = int(head[8])
    i = int(table[1])
    if int(table[5]):
        pos -= 1
        if pos < 0:
            return -1
        buf[pos] = 0xFF
    k = _HEAD + 3 * i
    while i > 0:
        k -= 3
        n = int(table[k + 2])
        d = int(table[k + 0])
        if i > 1:
            d -= int(table[k - 3])
        b = 5 + tkl + n  # what is needed below pos at the least: message header, token, this option
        if n > 12:
            b += 1
            if n > 268:
                b += 1
        if d > 12:
            b += 1
            if d > 268:
                b += 1
        if pos < b:
            return -1
        pos -= n
        j = int(table[k + 1])
        i -= 1
        if j == 0xFFFF:
            v = 0
            j = n
            if j > 0:
                v = int(values[i])
            while j > 0:
                j -= 1
                buf[pos + j] = v & 0xFF
                v >>= 8
        else:
            src = ptr8(values[i])
            e = pos + n
            while pos < e:
                buf[pos] = src[j]
                pos += 1
                j += 1
            pos -= n
        b = n
        if n > 12:
            if n < 269:
                b = 13
                pos -= 1
                buf[pos] = n - 13
            else:
                b = 14
                n -= 269
                pos -= 2
                buf[pos] = n >> 8
                buf[pos + 1] = n & 0xFF
        if d < 13:
            b |= d << 4
        elif d < 269:
            b |= 13 << 4
            pos -= 1
            buf[pos] = d - 13
        else:
            b |= 14 << 4
            d -= 269
            pos -= 2
            buf[pos] = d >> 8
            buf[pos + 1] = d & 0xFF
        pos -= 1
        buf[pos] = b
    pos -= tkl + 4
    if pos < 0:
        return -1
    if tkl:
        j = int(head[11])
        e = j + tkl
        n = pos + 4
        while j < e:
            buf[n + 0] = token[j + 0]
            n += 1
            j += 1
    buf[pos] = (word >> 8 & 0xF0) | tkl
    buf[pos + 1] = word & 0xFF
    buf[pos + 2] = int(head[7]) >> 8
    buf[pos + 3] = int(head[7]) & 0xFF
    return pos << 16 | (word >> 16 & 0xFFFF) + int(table[5])


if MICROPYTHON:

    @micropython.viper
    def copy(dst: ptr8, pos: int, src: ptr8, start: int, n: int):
        """Copy src[start:start + n] to dst[pos:]. Allocates: nothing."""
        n += start
        while start < n:
            dst[pos + 0] = src[start + 0]
            pos += 1
            start += 1

else:

    def copy(dst, pos, src, start, n):
        """Copy src[start:start + n] to dst[pos:]: one slice, where a loop would cost a thousand times as much."""
        dst[pos : pos + n] = src[start : start + n]


@micropython.viper
def same(a: ptr8, b: ptr8, start: int, n: int) -> int:
    """Compare the first n bytes of a with b[start:start + n]. Returns 1 or 0. Allocates: nothing."""
    i = 0
    while i < n:
        if a[i] != b[start + i]:
            return 0
        i += 1
    return 1


# Whether machine code may be given a str: viper sees the UTF-8 bytes behind it, bytecode characters
TAKES_STR = MICROPYTHON and type(same) is not type(option_table)

if TAKES_STR:

    @micropython.viper
    def copy_ascii(n: int, src: ptr8, dst: ptr8, pos: int) -> int:
        """Copy a string of n characters to dst[pos:] if all of them are ASCII.

        Returns n, or -1 where a character takes more than a byte (what is in dst from pos on is then of no use).
        Allocates: nothing.
        """
        i = n
        bits = 0
        while n:  # the first two arguments are in registers
            n -= 1
            dst[n + pos] = src[n]
            bits |= int(src[n])
        if bits > 127:
            return -1
        return i


@micropython.viper
def move_up(buf: ptr8, pos: int, n: int, distance: int):
    """Move the n bytes at buf[pos:] up by `distance`; the two places may overlap. Allocates: nothing."""
    n += pos
    while n > pos:
        n -= 1
        buf[n + distance] = buf[n]


def path_key(path):
    """Turn a path ("sensors/temperature", str) into the key that path_matches compares: a length byte a segment.

    A slash at the front is passed over. Raises ValueError for a segment longer than 255 bytes (RFC 7252 5.10.1).
    """
    path = path[1:] if path.startswith("/") else path
    key = b""
    if path:
        for segment in path.split("/"):
            segment = segment.encode()
            if len(segment) > 255:
                raise ValueError("a path segment has at most 255 bytes: " + path)
            key += bytes((len(segment),)) + segment
    return key
