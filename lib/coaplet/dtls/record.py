# Records of an epoch's keys: sealed, opened, numbered, and each taken once (RFC 6347 4.1, RFC 9146 4 and 5).
#
# A record is its type, version, epoch, sequence number, the Connection ID where one was agreed on, and a length; behind
# them the 8 explicit bytes of the nonce, the ciphertext and its tag (RFC 6655 3, RFC 5288 3). Nothing here changes its
# input, and the window moves for nothing but what was authenticated.

from ..port import const, micropython, ptr8
from ..wire import copy
from .kdf import wipe

# Types of records
ALERT = 21
HANDSHAKE = 22
DATA = 23
CID = 25  # RFC 9146 3
_CID = const(25)

# What open() found
FORGED = -1
REPLAYED = -2

_HEADER = const(13)
_NONCE = const(8)
_WINDOW = const(64)

MOST_CID = 32
# What a record adds to its content at most: header, Connection ID and type within, explicit nonce, tag
OVERHEAD = _HEADER + MOST_CID + 1 + _NONCE + 16

# A session ends before its numbers run out, and small ints of 31 bits do
LAST_RECORD = 0x0FFFFFFF

CCM_8 = 0xC0A8  # RFC 6655, 7925 4.2
CCM = 0xC0A4
GCM = 0x00A8  # RFC 5487


def is_suite(suite):
    """Tell whether this build has a cipher suite."""
    if suite == GCM:
        try:
            from .gcm import Gcm as Gcm
        except ImportError:
            return False
        return True
    return suite == CCM_8 or suite == CCM


def _aead(suite, key):
    if suite == GCM:
        from .gcm import Gcm

        return Gcm(key)
    from .aead import Ccm

    return Ccm(key, 8 if suite == CCM_8 else 16)


class Scratch:
    """What all sessions of a layer share: a buffer to seal in and one to open in, of mtu and what a record adds."""

    def __init__(self, mtu):
        from .aead import Work

        size = mtu + OVERHEAD
        self.work = Work(mtu + MOST_CID)
        self.sealed = bytearray(size)
        self.opened = bytearray(size)
        self.aad = bytearray(23 + MOST_CID)


class Keys:
    """The keys of epoch 1 of a session, what was sent under them, and which records were received.

    block: the 40 bytes of key_block (RFC 5246 6.3): two keys, two salts, the client's first. The Connection IDs:
    cid_out stands in each record sent, cid_in in each received; b"": none.
    """

    def __init__(self, suite, block, client, cid_out=b"", cid_in=b""):
        self.suite = suite
        self.block = bytearray(block)
        a, b = (0, 16) if client else (16, 0)
        self._sealer = _aead(suite, block[a : a + 16])
        self._opener = _aead(suite, block[b : b + 16])
        a = 32 + (a >> 2)
        b = 32 + (b >> 2)
        # of one of each is all but the sequence number the same for ever
        self._seal_nonce = bytearray(block[a : a + 4] + b"\0\1\0\0\0\0\0\0")
        self._open_nonce = bytearray(block[b : b + 4] + b"\0\1\0\0\0\0\0\0")
        self.cid_out = cid_out
        self.cid_in = cid_in
        self.next = 0  # sequence number of the next record sent
        self.last = -1  # the largest one received
        self.window = bytearray(_WINDOW)  # whether last - 63 to last were received, by number modulo 64

    @micropython.native
    def seal(self, scratch, kind, content, n):
        """Write a record of n bytes of content into scratch.sealed. Returns its length. Allocates: nothing."""
        out = scratch.sealed
        aad = scratch.aad
        nonce = self._seal_nonce
        sealer = self._sealer
        seq = self.next
        self.next = seq + 1
        cid = self.cid_out
        at = _HEADER + _NONCE + len(cid)
        copy(out, at, content, 0, n)
        if cid:
            out[at + n] = kind
            n += 1
            stamp(out, nonce, seq, at << 8 | _CID)
            copy(out, 11, cid, 0, len(cid))
            size = _with_cid(aad, out, 0, cid, n)
        else:
            stamp(out, nonce, seq, at << 8 | kind)
            additional(aad, out, 0, n)
            size = _HEADER
        sealer.seal(scratch.work, nonce, aad, size, out, at, n)
        n += _NONCE + sealer.tag
        out[at - 10] = n >> 8
        out[at - 9] = n & 0xFF
        return at + n - _NONCE

    @micropython.native
    def open(self, scratch, data, pos, end):
        """Open the record at data[pos:end], of this epoch and with its Connection ID, into scratch.opened.

        Returns kind | n << 8 for n bytes of content; REPLAYED; or FORGED for what was not made with these keys. Content
        that is empty has a kind, too. Allocates: nothing, as long as sequence numbers have less than 30 bits.
        """
        opened = scratch.opened
        aad = scratch.aad
        nonce = self._open_nonce
        opener = self._opener
        seq = data[pos + 7] << 24 | data[pos + 8] << 16 | data[pos + 9] << 8 | data[pos + 10]
        if data[pos + 5] or data[pos + 6]:
            seq += data[pos + 5] << 40 | data[pos + 6] << 32
        last = self.last
        window = self.window
        if seq <= last and (last - seq >= _WINDOW or window[seq & 63]):
            return REPLAYED
        kind = data[pos]
        at = pos + _HEADER + _NONCE
        if kind == _CID:
            at += len(self.cid_in)
        n = end - at - opener.tag
        if n < 0 or n > len(opened):
            return FORGED
        copy(nonce, 4, data, at - _NONCE, _NONCE)
        if kind == _CID:
            size = _with_cid(aad, data, pos, self.cid_in, n)
        else:
            additional(aad, data, pos, n)
            size = _HEADER
        if not opener.open(scratch.work, nonce, aad, size, data, at, n, opened):
            return FORGED
        if seq == last + 1:
            self.last = seq
        elif seq > last:
            self.last = seq
            if seq - last > _WINDOW:
                last = seq - _WINDOW
            while last < seq:
                last += 1
                window[last & 63] = 0
        window[seq & 63] = 1
        if kind == _CID:  # the type lies behind the content, and zeros behind that (RFC 9146 4)
            kind = 0
            while n and not kind:
                n -= 1
                kind = opened[n]
        return kind | n << 8

    def wipe(self):
        """Forget what is secret, as far as it lies in bytes of ours."""
        wipe(self.block)
        wipe(self._seal_nonce)
        wipe(self._open_nonce)
        if self.suite == GCM:
            self._sealer.wipe()  # pyright: ignore[reportAttributeAccessIssue]
            self._opener.wipe()  # pyright: ignore[reportAttributeAccessIssue]
        self._sealer = self._opener = None


@micropython.viper
def stamp(out: ptr8, nonce: ptr8, seq: int, place: int):
    """Write type, version, epoch and number of a record, which the nonce carries, too; again before its content.

    place: the record's type, and in the bits above 8 where the content lies.
    """
    nonce[8] = seq >> 24
    nonce[9] = seq >> 16 & 255
    nonce[10] = seq >> 8 & 255
    nonce[11] = seq & 255
    out[0] = place & 255
    out[1] = 0xFE
    out[2] = 0xFD
    place = (place >> 8) - 8
    i = 0
    while i < 8:
        out[i + 3] = nonce[i + 4]
        out[place + i] = nonce[i + 4]
        i += 1


@micropython.viper
def additional(aad: ptr8, record: ptr8, pos: int, n: int):
    """Write the 13 bytes of additional data of a record with n bytes of content (RFC 5246 6.2.3.3)."""
    i = 0
    while i < 8:
        aad[i + 0] = record[pos + i + 3]
        i += 1
    aad[8] = record[pos + 0]
    aad[9] = record[pos + 1]
    aad[10] = record[pos + 2]
    aad[11] = n >> 8
    aad[12] = n & 255


def _with_cid(aad, record, pos, cid, n):
    """Write the additional data of a record with a Connection ID (RFC 9146 5.3). Returns its length."""
    i = 0
    while i < 8:
        aad[i] = 0xFF
        i += 1
    aad[8] = _CID
    aad[9] = len(cid)
    copy(aad, 10, record, pos, 11)  # type, version, epoch and sequence number
    copy(aad, 21, cid, 0, len(cid))
    i = 21 + len(cid)
    aad[i] = n >> 8
    aad[i + 1] = n & 0xFF
    return i + 2
