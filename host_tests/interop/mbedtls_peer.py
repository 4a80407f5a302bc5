"""A DTLS 1.2 client or server of Mbed TLS 3.6 through ctypes: PSK, cookies, Connection ID (RFC 9146).

    mbedtls_peer.py LIBRARIES server|client|version '{"port": 5684, ...}'

It prints a JSON line for each event, and takes a JSON line for each order on standard input; at its end it has ended.
The setup's launcher build/bin/mbedtls-peer knows LIBRARIES. Settings, and what they are unless given, are in SETTINGS.

Events, besides what `event` names:
    listening   port, library
    handshake   suite (a name of SUITES), cid_own and cid_peer (hex; null: none, or both of no length), resumed,
                identity, address, keylog (a line of a key log file, which tshark takes)
    data        hex, address
    moved       old, address: a server's peer, known by its Connection ID, from another address; it is answered there
    close       the peer's close_notify; address
    error       what, code (Mbed TLS's number, negative), address; alert: the number of the one that the peer sent
    closed      by us
Orders: {"do": "send", "hex": ...}, "close"; to a client: "rebind" (a new port of its own), "again" (a new handshake,
with the session of the last one where the setting resume is true). A server sends to whom it last had data from.

All structures are opaque here: memory for them is asked for generously, and only functions touch it.
"""

import ctypes
import json
import os
import re
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from ctypes import CFUNCTYPE, byref, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = {
    "port": 0,
    "identity": "node-1@site",
    "key": "000102030405060708090a0b0c0d0e0f",
    "suites": ["ccm8"],
    "cid": None,  # hex of our own Connection ID, "" for one of no length, null: the extension is not used
    "cookies": True,  # HelloVerifyRequest, server only
    "ems": True,  # extended master secret (RFC 7627)
    "renegotiation_info": "allow",  # "require": a peer without it is refused (RFC 5746)
    "tickets": False,  # RFC 5077; a server's need a key for them, which is made here
    "resume": False,  # sessions are kept: a server's in a cache, by session id
    "timeout_ms": [1000, 60000],  # of a flight, the first and the last (RFC 6347 4.2.4.1)
    "mtu": 0,  # of a datagram; 0: as large as it gets
    "packing": True,  # several records in one datagram
    "answer": "",  # to data: "echo", "coap" (2.05 to requests, RST to pings), "nothing"; "": a server echoes
}

SUITES = {"ccm8": 0xC0A8, "ccm": 0xC0A4, "gcm": 0xA8, "cbc-sha256": 0xAE}

_CLIENT, _SERVER, _DATAGRAM = 0, 1, 1
_WANT = (-0x6900, -0x6880)  # MBEDTLS_ERR_SSL_WANT_READ, _WANT_WRITE
_HELLO_VERIFY, _CLOSE_NOTIFY, _FATAL_ALERT, _UNKNOWN_IDENTITY = -0x6A80, -0x7880, -0x7780, -0x6C80
_TLS12_CID = 25  # content type (RFC 9146 3)
_ROOM = 65536  # for any structure; the largest has some 2 KB
_MAX = 16384
_CREATED = 0x41  # 2.01
_CONTENT = 0x45  # 2.05

_ALERT = re.compile(rb"got an alert message, type: \[\d+:(\d+)\]")  # of Mbed TLS's debug output
_RESUMED = re.compile(rb"\ba session has been resumed|session successfully restored")  # the client's, the server's

_SEND = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)
_SET_TIMER = CFUNCTYPE(None, c_void_p, c_uint32, c_uint32)
_GET_TIMER = CFUNCTYPE(c_int, c_void_p)
_PSK = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_size_t)
_EXPORT = CFUNCTYPE(None, c_void_p, c_int, c_void_p, c_size_t, c_void_p, c_void_p, c_int)
_DEBUG = CFUNCTYPE(None, c_void_p, c_int, c_char_p, c_int, c_char_p)


def report(event: str, **more: Any) -> None:
    print(json.dumps({"event": event, **more}), flush=True)


class Library:
    """Mbed TLS's functions as attributes; what is negative raises nothing here."""

    def __init__(self, folder: Path) -> None:
        names = ("libmbedcrypto.so.16", "libmbedx509.so.7", "libmbedtls.so.21")  # each needs those before it
        self._libraries = [ctypes.CDLL(str(folder / name), ctypes.RTLD_GLOBAL) for name in names]
        version = ctypes.create_string_buffer(64)
        self.version_get_string_full(version)
        self.version = version.value.decode()
        for feature in ("SSL_DTLS_CONNECTION_ID", "KEY_EXCHANGE_PSK_ENABLED", "CCM_C"):
            if self.version_check_feature(f"MBEDTLS_{feature}".encode()):
                sys.exit(f"{self.version} was built without {feature}")
        self._libraries[0]["psa_crypto_init"]()

    def __getattr__(self, name: str) -> Any:
        for library in self._libraries:
            try:
                function = library[f"mbedtls_{name}"]
            except AttributeError:
                continue
            setattr(self, name, function)
            return function
        raise AttributeError(name)

    def text(self, code: int) -> str:
        buffer = ctypes.create_string_buffer(200)
        self.strerror(code, buffer, c_size_t(200))
        return buffer.value.decode()

    def made(self, init: str) -> ctypes.Array:
        """Return memory for a structure, initialized by that function."""
        room = ctypes.create_string_buffer(_ROOM)
        getattr(self, init)(room)
        return room


def must(code: int) -> None:
    if code:
        raise RuntimeError(f"Mbed TLS: -{-code:#x}")


class Settings:
    """What all sessions of a peer share: an mbedtls_ssl_config and what it refers to."""

    def __init__(self, library: Library, server: bool, given: dict[str, Any]) -> None:
        self.library, self.server, self.given = library, server, given
        self.identity, self.key = given["identity"].encode(), bytes.fromhex(given["key"])
        self.cid = None if given["cid"] is None else bytes.fromhex(given["cid"])
        self.alert: int | None = None  # the last that came
        self.resumed = False  # the last handshake
        self.keylog = ""
        self.asked: bytes | None = None  # the last identity a client asked for
        self.conf = conf = library.made("ssl_config_init")
        self._entropy, self._drbg = library.made("entropy_init"), library.made("ctr_drbg_init")
        must(library.ctr_drbg_seed(self._drbg, library.entropy_func, self._entropy, None, c_size_t(0)))
        must(library.ssl_config_defaults(conf, _SERVER if server else _CLIENT, _DATAGRAM, 0))
        library.ssl_conf_rng(conf, library.ctr_drbg_random, self._drbg)
        library.ssl_conf_min_version(conf, 3, 3)
        library.ssl_conf_max_version(conf, 3, 3)
        self._suites = (c_int * 9)(*(SUITES[name] for name in given["suites"]))  # ends with a 0
        library.ssl_conf_ciphersuites(conf, self._suites)
        library.ssl_conf_extended_master_secret(conf, int(given["ems"]))
        library.ssl_conf_legacy_renegotiation(conf, {"allow": 0, "require": 2}[given["renegotiation_info"]])
        library.ssl_conf_handshake_timeout(conf, *map(c_uint32, given["timeout_ms"]))
        if self.cid is not None:
            must(library.ssl_conf_cid(conf, c_size_t(len(self.cid)), 0))  # records with others are dropped
        self._callbacks = [_DEBUG(self._debug), _PSK(self._psk)]
        library.ssl_conf_dbg(conf, self._callbacks[0], None)
        library.debug_set_threshold(3)
        if server:
            library.ssl_conf_psk_cb(conf, self._callbacks[1], None)
            self._serve()
        else:
            key, name = self.key, self.identity
            must(library.ssl_conf_psk(conf, key, c_size_t(len(key)), name, c_size_t(len(name))))
            library.ssl_conf_session_tickets(conf, int(given["tickets"]))

    def _serve(self) -> None:
        library, conf, given = self.library, self.conf, self.given
        if given["cookies"]:
            self._cookies = library.made("ssl_cookie_init")
            must(library.ssl_cookie_setup(self._cookies, library.ctr_drbg_random, self._drbg))
            library.ssl_conf_dtls_cookies(conf, library.ssl_cookie_write, library.ssl_cookie_check, self._cookies)
        else:
            library.ssl_conf_dtls_cookies(conf, None, None, None)
        if given["resume"]:
            self._cache = library.made("ssl_cache_init")
            library.ssl_conf_session_cache(conf, self._cache, library.ssl_cache_get, library.ssl_cache_set)
        if given["tickets"]:
            self._tickets = library.made("ssl_ticket_init")
            aes_256_gcm, day_s = 16, c_uint32(86400)
            random = library.ctr_drbg_random
            must(library.ssl_ticket_setup(self._tickets, random, self._drbg, aes_256_gcm, day_s))
            library.ssl_conf_session_tickets_cb(conf, library.ssl_ticket_write, library.ssl_ticket_parse, self._tickets)

    def _psk(self, _context: int, ssl: int, name: int, length: int) -> int:
        self.asked = ctypes.string_at(name, length)
        if self.asked != self.identity:
            return _UNKNOWN_IDENTITY
        return self.library.ssl_set_hs_psk(c_void_p(ssl), self.key, c_size_t(len(self.key)))

    def _debug(self, _context: int, _level: int, _file: bytes, _line: int, text: bytes) -> None:
        if found := _ALERT.search(text):
            self.alert = int(found[1])
        elif _RESUMED.search(text):
            self.resumed = True


class Session:
    """One mbedtls_ssl_context. Datagrams go in through `take` and out through the function given."""

    def __init__(self, settings: Settings, address: tuple[str, int], send: Callable[[bytes, Any], object]) -> None:
        self.settings, self.address = settings, address
        self.established = self.ended = False
        self._library = library = settings.library
        self._arrived: deque[bytes] = deque()
        self._arrived_from = address
        self._send = send
        self._timer: tuple[float, float] | None = None  # intermediate and final deadline
        self._callbacks = [_SEND(self._write), _SEND(self._read), _SET_TIMER(self._set), _GET_TIMER(self._get)]
        self._export = _EXPORT(self._take_keys)
        self._ssl = ssl = library.made("ssl_init")
        must(library.ssl_setup(ssl, settings.conf))
        library.ssl_set_bio(ssl, None, self._callbacks[0], self._callbacks[1], None)
        library.ssl_set_timer_cb(ssl, None, self._callbacks[2], self._callbacks[3])
        library.ssl_set_export_keys_cb(ssl, self._export, None)
        if settings.given["mtu"]:
            library.ssl_set_mtu(ssl, settings.given["mtu"])
        library.ssl_set_datagram_packing(ssl, int(settings.given["packing"]))
        self._prepare()

    def _prepare(self) -> None:
        if self.settings.cid is not None:
            cid = self.settings.cid
            must(self._library.ssl_set_cid(self._ssl, 1, cid, c_size_t(len(cid))))
        if self.settings.server:
            host, port = self.address
            name = socket.inet_aton(host) + port.to_bytes(2)
            must(self._library.ssl_set_client_transport_id(self._ssl, name, c_size_t(len(name))))

    def resume(self, session: ctypes.Array) -> None:
        """Offer the session that `session` returned."""
        must(self._library.ssl_set_session(self._ssl, session))

    def session(self) -> ctypes.Array | None:
        """What it takes to resume this one later."""
        session = self._library.made("ssl_session_init")
        return None if self._library.ssl_get_session(self._ssl, session) else session

    def take(self, data: bytes, address: tuple[str, int]) -> None:
        self._arrived.append(data)
        self._arrived_from = address
        self.work()

    def work(self) -> None:
        """Go on as far as possible: after a datagram, and when the timer has expired."""
        while not self.ended:
            if not self.established:
                if not self._is_done(self._library.ssl_handshake(self._ssl)):
                    return
                self.established = True
                self._say_handshake()
            buffer = ctypes.create_string_buffer(_MAX)
            got = self._library.ssl_read(self._ssl, buffer, c_size_t(_MAX))
            if got <= 0:
                self._is_done(got)
                if not self._arrived or self.ended:
                    return
                continue
            self._say_data(buffer.raw[:got])

    def send(self, data: bytes) -> None:
        done = self._library.ssl_write(self._ssl, data, c_size_t(len(data)))
        if done < 0:
            self._fail(done)

    def close(self) -> None:
        self._library.ssl_close_notify(self._ssl)
        self.ended = True
        report("closed", address=self.address)

    def wait_s(self) -> float | None:
        if self._timer is None or self.ended:
            return None
        return max(0.0, self._timer[1] - time.monotonic())

    def cids(self) -> tuple[str | None, str | None]:
        enabled, length, room = c_int(), c_size_t(), ctypes.create_string_buffer(256)
        own_enabled, own_length, own_room = c_int(), c_size_t(), ctypes.create_string_buffer(256)
        self._library.ssl_get_peer_cid(self._ssl, byref(enabled), room, byref(length))
        if not enabled.value:
            return None, None
        self._library.ssl_get_own_cid(self._ssl, byref(own_enabled), own_room, byref(own_length))
        return own_room.raw[: own_length.value].hex(), room.raw[: length.value].hex()

    def _is_done(self, code: int) -> bool:
        if code == 0 and not self.established:
            return True
        if code in _WANT:
            return False
        if code == _HELLO_VERIFY:  # the cookie has gone out; the next ClientHello comes to a fresh context
            self._library.ssl_session_reset(self._ssl)
            self._prepare()
        elif code in (0, _CLOSE_NOTIFY):
            self.ended = True
            report("close", address=self.address)
        else:
            self._fail(code)
        return False

    def _fail(self, code: int) -> None:
        self.ended = True
        more = {"alert": self.settings.alert} if code == _FATAL_ALERT else {}
        report("error", what=self._library.text(code), code=code, address=self.address, **more)

    def _say_handshake(self) -> None:
        number = self._library.ssl_get_ciphersuite_id_from_ssl(self._ssl)
        own, peer = self.cids()
        settings = self.settings
        asked = settings.asked if settings.server else settings.identity
        names = [name for name, value in SUITES.items() if value == number]
        report(
            "handshake",
            suite=names[0] if names else f"{number:#x}",
            cid_own=own,
            cid_peer=peer,
            resumed=settings.resumed,
            identity=asked.decode(errors="replace") if asked is not None else None,
            address=self.address,
            keylog=settings.keylog,
        )
        settings.asked, settings.resumed = None, False

    def _say_data(self, data: bytes) -> None:
        if self._arrived_from != self.address:  # the record was genuine (RFC 9146 6, the first of its conditions)
            report("moved", old=self.address, address=self._arrived_from)
            self.address = self._arrived_from
        report("data", hex=data.hex(), address=self.address)
        how = self.settings.given["answer"] or ("echo" if self.settings.server else "nothing")
        if answer := {"echo": _echo, "coap": _coap, "nothing": lambda data: b""}[how](data):
            self.send(answer)

    def _take_keys(self, _context: int, _kind: int, secret: int, size: int, client: int, _server: int, _: int) -> None:
        random, master = ctypes.string_at(client, 32), ctypes.string_at(secret, size)
        self.settings.keylog = f"CLIENT_RANDOM {random.hex()} {master.hex()}"

    def _write(self, _context: int, data: int, length: int) -> int:
        self._send(ctypes.string_at(data, length), self.address)
        return length

    def _read(self, _context: int, room: int, size: int) -> int:
        if not self._arrived:
            return _WANT[0]
        data = self._arrived.popleft()[:size]
        ctypes.memmove(room, data, len(data))
        return len(data)

    def _set(self, _context: int, intermediate_ms: int, final_ms: int) -> None:
        now = time.monotonic()
        self._timer = (now + intermediate_ms / 1000, now + final_ms / 1000) if final_ms else None

    def _get(self, _context: int) -> int:
        if self._timer is None:
            return -1
        now = time.monotonic()
        return 2 if now >= self._timer[1] else 1 if now >= self._timer[0] else 0


def _echo(data: bytes) -> bytes:
    return data


def _coap(data: bytes) -> bytes:
    """Answer as a CoAP endpoint of one resource (RFC 7252 4.2, 4.3, 5.2.1); replies and acknowledgements: nothing."""
    if len(data) < 4 or data[0] >> 5 != 2:
        return b""
    kind, tkl, code = data[0] >> 4 & 3, data[0] & 15, data[1]
    if kind == 0 and code == 0:
        return b"\x70\0" + data[2:4]
    if not 0 < code < 32:
        return b""
    head = bytes([(0x60 if kind == 0 else 0x50) | tkl, _CONTENT if code == 1 else _CREATED])
    return head + data[2:4] + data[4 : 4 + tkl] + b"\xffmbedtls"


class Peer:
    """The socket, standard input and the sessions, in one loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        self._orders = b""
        self._sessions: dict[tuple[str, int], Session] = {}
        self._last: Session | None = None
        self._open(("127.0.0.1", settings.given["port"] if settings.server else 0))
        if settings.server:
            report("listening", port=self._socket.getsockname()[1], library=settings.library.version)
        else:
            self._connect(None)

    def run(self) -> None:
        while True:
            waits = [wait for session in self._sessions.values() if (wait := session.wait_s()) is not None]
            ready = self._selector.select(min(waits, default=None))
            for key, _ in ready:
                if key.fileobj is self._socket:
                    self._receive()
                elif not self._read_orders():
                    return
            for session in [each for each in self._sessions.values() if each.wait_s() == 0]:
                session.work()

    def _open(self, address: tuple[str, int]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._selector.register(self._socket, selectors.EVENT_READ)

    def _connect(self, resume: ctypes.Array | None) -> None:
        address = ("127.0.0.1", self.settings.given["port"])
        self._last = self._sessions[address] = Session(self.settings, address, self._send)
        if resume is not None:
            self._last.resume(resume)
        self._last.work()

    def _send(self, data: bytes, address: tuple[str, int]) -> None:
        try:
            self._socket.sendto(data, address)
        except OSError as error:
            report("error", what=str(error), code=0, address=address)

    def _receive(self) -> None:
        try:
            data, address = self._socket.recvfrom(65535)
        except OSError:  # ICMP's port unreachable, of something sent before
            return
        session = self._sessions.get(address)
        if self.settings.server:
            session = self._session_of(data, address)
        if session is None:
            return
        session.take(data, address)
        if session.established:
            self._last = session
        if session.address == address:
            self._sessions = {key: each for key, each in self._sessions.items() if each is not session}
            self._sessions[address] = session

    def _session_of(self, data: bytes, address: tuple[str, int]) -> Session:
        """Find a record's session by its Connection ID, or else by the address; make one where there is none."""
        cid = self.settings.cid
        if data[:1] == bytes([_TLS12_CID]) and cid and data[11 : 11 + len(cid)] == cid:
            for session in self._sessions.values():
                if session.established and not session.ended:
                    return session
        session = self._sessions.get(address)
        hello = data[:1] == b"\x16" and data[3:5] == b"\0\0" and data[13:14] == b"\1"
        if session is None or session.ended or (session.established and hello):
            session = self._sessions[address] = Session(self.settings, address, self._send)
        return session

    def _read_orders(self) -> bool:
        got = os.read(sys.stdin.fileno(), 65536)
        *lines, self._orders = (self._orders + got).split(b"\n")
        for line in filter(None, lines):
            self._obey(json.loads(line))
        return bool(got)

    def _obey(self, order: dict[str, Any]) -> None:
        session, what = self._last, order["do"]
        assert session is not None, "nobody has a session yet"
        if what == "send":
            session.send(bytes.fromhex(order["hex"]))
        elif what == "close":
            session.close()
        elif what == "rebind":
            self._selector.unregister(self._socket)
            self._socket.close()
            self._open(("127.0.0.1", 0))
        elif what == "again":
            old = session.session() if self.settings.given["resume"] else None
            if not session.ended:
                session.close()
            self._connect(old)


def main(libraries: str, role: str, settings: str = "{}") -> None:
    if role == "version":
        print(Library(Path(libraries)).version)
        return
    given = json.loads(settings)
    if unknown := set(given) - set(SETTINGS):
        sys.exit(f"no such setting: {', '.join(sorted(unknown))}")
    Peer(Settings(Library(Path(libraries)), role == "server", SETTINGS | given)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
