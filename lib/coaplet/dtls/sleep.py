# A session that outlasts a sleep, a reset, a new program: kept as bytes, gone on with without a handshake.
#
# What is kept is clean once: sleep() writes it and has done with the session; wake() writes over it, before anything is
# sent or received, that it was used. What was used, or is damaged, is no session any more: its window of received
# numbers is old, and would let records be played again, and its next number was used (RFC 5288 3, RFC 6655 3). So after
# a crash there is a new handshake, and numbers need not be reserved ahead: none is ever taken from a store twice, as
# long as the store keeps what it has said to have kept.
#
# Who wakes at another port or in another network is answered at its old address until it has answered the server's ping
# (RFC 9146 6): the answer to its first CON comes when that is retransmitted, the one to a NON is lost. A ping of the
# client's own, ahead of the request, would take as long.
#
# A store is an object with load(), which returns what was stored last or None, and save(data), which returns when the
# data will survive; either may raise OSError.

import os

from ..port import const
from .kdf import hmac
from .record import Keys

_VERSION = const(1)
_CLEAN = const(0xC1)
_USED = b"\x01\x05"
_CHECK = const(8)


class File:
    """A store in a file, written anew beside the old one each time. path: str."""

    def __init__(self, path):
        self.path = path

    def load(self):
        try:
            with open(self.path, "rb") as file:
                return file.read()
        except OSError:
            return None

    def save(self, data):
        with open(self.path + ".new", "wb") as file:
            file.write(data)
            # CPython's system writes when it likes, a board's file system when the file is closed
            if hasattr(os, "fsync"):
                file.flush()
                os.fsync(file.fileno())
        os.rename(self.path + ".new", self.path)
        if hasattr(os, "sync"):
            os.sync()


class Memory:
    """A store in a board's memory that survives deep sleep. memory: machine.RTC().memory, which returns bytes, or takes
    them."""

    def __init__(self, memory):
        self._memory = memory

    def load(self):
        return self._memory() or None

    def save(self, data):
        self._memory(data)


def pack(session, mid, token):
    """Returns a session as bytes. mid: the Message ID used last; token: of the requests to come, 8 bytes.

    They give the keys away: who reads them reads, and writes, what the session sends.
    """
    keys = session.keys
    resumption = session.resumption or (b"", b"", 0)
    window = 0
    i = 64
    while i:
        i -= 1
        window = window << 1 | keys.window[i]
    out = bytes((_VERSION, _CLEAN, session.client)) + _number(keys.suite, 2) + keys.block
    out += _number(keys.next, 4) + _number(keys.last + 1, 6) + _number(window, 8) + _number(mid, 2) + bytes(token)
    for part in keys.cid_in, keys.cid_out, session.identity, resumption[0], resumption[1]:
        out += bytes((len(part),)) + part
    out += _number(resumption[2], 2)
    return out + hmac(keys.block, out)[:_CHECK]


def unpack(data, session, suites):
    """Fill in a session from what pack() wrote. Returns (keys, mid, token), or None: it is not clean, or damaged."""
    try:
        if data[0] != _VERSION or data[1] != _CLEAN or _int(data, 3, 2) not in suites:
            return None
        block = bytes(data[5:45])
        if hmac(block, data[:-_CHECK])[:_CHECK] != data[-_CHECK:] or bool(data[2]) != session.client:
            return None
        at = 73
        parts = []
        while len(parts) < 5:
            end = at + 1 + data[at]
            parts.append(bytes(data[at + 1 : end]))
            at = end
    except IndexError:
        return None
    keys = session.keys = Keys(_int(data, 3, 2), block, session.client, parts[1], parts[0])
    keys.next = _int(data, 45, 4)
    keys.last = _int(data, 49, 6) - 1
    window = _int(data, 55, 8)
    for i in range(64):
        keys.window[i] = window >> i & 1
    session.identity = parts[2]
    if parts[3]:
        session.resumption = (parts[3], parts[4], _int(data, at, 2))
    return keys, _int(data, 63, 2), bytes(data[65:73])


def sleep(session, store, mid, token):
    """Keep a session in a store; it can be used no more. Raises OSError."""
    store.save(pack(session, mid, token))


def wake(session, store, suites):
    """Take a session up again from a store, once. Returns (keys, mid, token), or None: there is none to go on with."""
    try:
        data = store.load()
        found = unpack(data, session, suites) if data else None
        if found is None:
            return None
        store.save(_USED)
        if store.load() != _USED:
            return None
    except OSError:
        return None
    return found


def _number(value, n):
    return bytes([value >> 8 * i & 0xFF for i in range(n - 1, -1, -1)])


def _int(data, pos, n):
    return int.from_bytes(data[pos : pos + n], "big")
