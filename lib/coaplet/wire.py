# One message's options as bytes: the codec (RFC 7252 3.1) and the loops that are worth machine code.
#
# Each function is one body for viper, bytecode and CPython; a build for bytecode alone strips the decorator. Viper
# does not check bounds: whoever calls says how long a buffer is, and nothing here reads or writes past that.
#
# An option table is an array('H') from `option_table(capacity)`:
#   [0] capacity  [1] options in use  [2..4] per direction, see below  then three cells an option:
#   number, offset of the value, length of the value.
# Received (filled by parse_options, offsets into the datagram):
#   [2] offset of the payload, or the end  [3] 1 if an option calls for a look (see there)  [4] hash of the path
# To be sent (filled by message.Outgoing, offsets into values[i]):
#   [2] first header byte << 8 | code  [3] Message ID  [4] offset of the token in values[0]
#   An offset of 0xFFFF says that values[i] is an integer (RFC 7252 3.2), `length` its bytes on the wire.
#
# Cells of a ptr16 are indexed by expressions only: MicroPython up to 1.27 shifts a bare local on Thumb and RV32.

from array import array

from .port import MICROPYTHON, const, micropython, ptr8, ptr16

HEAD = 5  # cells before the first option

FORMAT_ERROR = -1  # a datagram that RFC 7252 3 calls a message format error

_HEAD = const(5)
_FORMAT_ERROR = const(-1)


def option_table(capacity):
    """Make the table for up to `capacity` options of one message."""
    table = array("H", bytes(2 * (_HEAD + 3 * capacity)))
    table[0] = capacity
    return table


@micropython.viper
def parse_options(buf: ptr8, pos: int, end: int, table: ptr16) -> int:
    """Fill the table with the options at buf[pos:end] (RFC 7252 3.1).

    buf: bytes-like of at least `end` bytes, at most 65,535; table: from option_table().
    Returns the offset of the payload (end if there is none), or FORMAT_ERROR for nibble 15, a value past the end, a
    number above 65535 or an empty payload after the marker.
    table[3] has bit 1 set when there are more options than the table holds, which are left out, and bit 0 when some
    option is critical and no Uri-Path or Uri-Query of at most 255 bytes: what is rare is left to whoever asks, what is
    common costs nothing. table[4] is path_hash() of the Uri-Path options.
    Allocates: nothing.
    """
    number = 0
    count = 0
    k = int(_HEAD)
    capacity = int(table[0])
    look = 0
    path = 0
    while pos < end:
        b = int(buf[pos])
        pos += 1
        if b == 0xFF:
            if pos == end:
                return _FORMAT_ERROR
            end = pos
            break
        n = b & 15
        b >>= 4
        if b > 12:
            if b == 15 or pos + b - 12 > end:
                return _FORMAT_ERROR
            if b == 13:
                b = 13 + int(buf[pos])
                pos += 1
            else:
                b = 269 + (int(buf[pos]) << 8 | int(buf[pos + 1]))
                pos += 2
        if n > 12:
            if n == 15 or pos + n - 12 > end:
                return _FORMAT_ERROR
            if n == 13:
                n = 13 + int(buf[pos])
                pos += 1
            else:
                n = 269 + (int(buf[pos]) << 8 | int(buf[pos + 1]))
                pos += 2
        number += b
        if number > 65535 or pos + n > end:
            return _FORMAT_ERROR
        if count == capacity:
            look |= 2
        else:
            table[k + 0] = number
            table[k + 1] = pos
            table[k + 2] = n
            k += 3
            count += 1
        if number == 11 and n < 256:
            path = (path * 33 ^ n) & 0xFFFF
            n += pos
            while pos < n:
                path = (path * 33 ^ int(buf[pos])) & 0xFFFF
                pos += 1
        else:
            pos += n
            if number & 1 and (number != 15 or n > 255):
                look |= 1
    table[1] = count
    table[2] = end
    table[3] = look
    table[4] = path
    return end


@micropython.viper
def path_hash(key: ptr8, n: int) -> int:
    """Hash n bytes of a path key (see path_key) as parse_options hashes the options they stand for."""
    path = 0
    i = 0
    while i < n:
        path = (path * 33 ^ int(key[i])) & 0xFFFF
        i += 1
    return path


@micropython.viper
def path_matches(buf: ptr8, table: ptr16, key: ptr8, n: int) -> int:
    """Compare the Uri-Path options of a parsed message with n bytes of a path key.

    Returns how many bytes of the key matched before the options ended, or -1 at the first difference; options beyond
    the key's end are not looked at when the key stops at a segment's end, so a key serves as a prefix, too: the result
    is then n + 1. Equal paths give n. Allocates: nothing.
    """
    i = 0
    k = int(_HEAD)
    last = k + 3 * int(table[1])
    while k < last:
        if int(table[k + 0]) == 11:
            if i == n:
                return n + 1
            length = int(table[k + 2])
            if length != int(key[i]):
                return -1
            i += 1
            pos = int(table[k + 1])
            length += pos
            while pos < length:
                if buf[pos] != key[i]:
                    return -1
                pos += 1
                i += 1
        k += 3
    return i


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
def encode(buf: ptr8, pos: int, table: ptr16, values) -> int:
    """Write header, token and options so that they end just before buf[pos] (RFC 7252 3).

    Written backwards, so that the payload can lie at its place before anybody knows how long the options are.
    table, values: as the head of this file says, options in ascending order; values[0] is the token's buffer.
    Returns the position of the first byte, or -1 when the room before pos does not do. Allocates: nothing.
    """
    tkl = int(table[2]) >> 8 & 15
    i = int(table[1])
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
        if j == 0xFFFF:
            v = int(values[i])
            j = n
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
        i -= 1
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
        token = ptr8(values[0])
        j = int(table[4])
        e = j + tkl
        n = pos + 4
        while j < e:
            buf[n + 0] = token[j + 0]
            n += 1
            j += 1
    buf[pos] = int(table[2]) >> 8
    buf[pos + 1] = int(table[2]) & 0xFF
    buf[pos + 2] = int(table[3]) >> 8
    buf[pos + 3] = int(table[3]) & 0xFF
    return pos


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


@micropython.viper
def copy_ascii(dst: ptr8, pos: int, src: ptr8, n: int) -> int:
    """Copy a string of n characters to dst[pos:] if all of them are ASCII.

    Returns n, or -1 where a character takes more than a byte (what is in dst from pos on is then of no use).
    Allocates: nothing.
    """
    i = 0
    while i < n:
        b = int(src[i])
        if b > 127:
            return -1
        dst[pos + i] = b
        i += 1
    return n


# Whether copy_ascii may be given a str: viper sees the UTF-8 bytes behind it, bytecode characters
TAKES_STR = MICROPYTHON and type(copy_ascii) is not type(option_table)


@micropython.viper
def move_up(buf: ptr8, pos: int, n: int, distance: int):
    """Move the n bytes at buf[pos:] up by `distance`; the two places may overlap. Allocates: nothing."""
    n += pos
    while n > pos:
        n -= 1
        buf[n + distance] = buf[n]


@micropython.viper
def find_mid(mids: ptr16, mid: int, start: int, end: int) -> int:
    """Find a Message ID in mids[start:end]. Returns its index, or -1. Allocates: nothing."""
    while start < end:
        if int(mids[start + 0]) == mid:
            return start
        start += 1
    return -1


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
