"""URIs as aiocoap reads and writes them, against what our client sends, and what compose() and normalize() write.

Both are given the same URIs, on CPython and without a socket that anything is sent from. They agree on all that is
generated here; where aiocoap does otherwise, the tables READ and WRITTEN say so and name the section we go by.
"""

import ipaddress
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import pytest

import coaplet.port
from coaplet import Loop, Udp
from coaplet.compose import compose, normalize
from coaplet.message import Message
from coaplet.uri import split
from coaplet.wire import parse

# It is pinned in tools/requirements.txt: what its deviations are is what that version does
aiocoap: Any = pytest.importorskip("aiocoap")

HOST, PORT, PATH, QUERY = 3, 7, 11, 15
Options = list[tuple[int, bytes]]

UNRESERVED = "ABCXYZabcxyz0189-._~"
SUB_DELIMS = "!$&'()*+,;="
ODD = '/?#%&[] "<>\\^`{|}\0\n\x7f\u00e4\u20ac\U0001f600'

_DEFAULT = {"coap": 5683, "coaps": 5684}  # RFC 7252 6.1, 6.2


class Sent(Exception):
    """Instead of sending a datagram."""


class Wire(Udp):
    """A transport from which nothing goes out."""

    def open(self) -> None:
        self.family = socket.AF_INET
        self.pollable = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send(self, buf: memoryview, peer: Any) -> bool:
        raise Sent(bytes(buf), peer)


@dataclass(frozen=True)
class Read:
    """What a URI came to: the options of the request, and where it goes."""

    options: Options
    host: str
    port: int


@dataclass(frozen=True)
class Asked(Read):
    """Read by us: with the request as a server gets it."""

    message: Message


Reader = Callable[[str], Asked]


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Reader:
    """Read a URI as our client does: what it puts on the wire."""
    monkeypatch.setattr(coaplet.port, "resolve", lambda host, port, last=None: [(socket.AF_INET, (host, port))])

    def read(uri: str) -> Asked:
        scheme, host, port, rest = split(uri)
        authority = uri.partition("://")[2].partition("?")[0].partition("/")[0]
        loop = Loop(transports=(Wire("0.0.0.0", 0, 1152),), max_options=64)
        loop.open()
        try:
            remote = loop.connect(f"coap://{authority}")
            with pytest.raises(Sent) as sent:
                loop.run(remote.get(f"/{rest}"))
        finally:
            loop.close()
        data, peer = sent.value.args
        assert peer == (host, 5683 if port is None else port)
        message = received(data)
        options = [(number, value) for number in (HOST, PORT, PATH, QUERY) for value in message.options(number)]
        return Asked(options, host, _DEFAULT[scheme] if port is None else port, message)

    return read


def received(data: bytes) -> Message:
    message = Message(64)
    message.data = data
    message.table[9] = len(data)
    assert parse(data, 4 + (data[0] & 15), len(data), message.table, 0) > 0
    return message


def theirs(uri: str) -> Read:
    message = aiocoap.Message(code=aiocoap.GET, uri=uri)
    host, port = aiocoap.util.hostportsplit(message.remote.hostinfo)
    options = [(int(option.number), option.encode()) for option in message.opt.option_list()]
    return Read(options, host, _DEFAULT[message.remote.scheme] if port is None else port)


def written_by_them(uri: str) -> str:
    return aiocoap.Message(code=aiocoap.GET, uri=uri).get_request_uri()


def composed(uri: str, asked: Asked) -> str:
    """What compose() makes of the request that a URI became."""
    return compose(asked.message, split(uri)[0], asked.host, asked.port)


def same_address(one: str, other: str) -> bool:
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other.replace("%25", "%"))
    except ValueError:
        return False


def generated(seed: int) -> str:
    """A URI in which nothing is that aiocoap reads or writes otherwise than we do (see READ and WRITTEN)."""
    chance = random.Random(seed)

    def text(characters: str, most: int) -> str:
        """Some of them, some percent-encoded."""
        picked = chance.choices(characters, k=chance.randrange(most))
        return "".join(chance.choice([c, c, f"%{ord(c):02X}", f"%{ord(c):02x}"]) for c in picked)

    def segment() -> str:
        odd = quote("".join(chance.choices(ODD, k=5)), safe="")
        made = chance.choice([text(UNRESERVED + SUB_DELIMS + ":@", 9), odd])
        return "..." if unquote(made) in (".", "..") else made

    names = ["h" + text(UNRESERVED + SUB_DELIMS, 12), "EXAMPLE.net", "xn--18j4d.example", "%C3%A4" + text("azAZ", 5)]
    addresses = ["192.0.2.1", "255.255.255.255", "[::1]", "[2001:DB8::1]", "[fe80::1%25eth0]", "[1:2:3:4:5:6:7:8]"]
    uri = chance.choice(["coap", "CoAP", "coaps"]) + "://" + chance.choice(names + addresses)
    uri += chance.choice(["", "", ":0", ":1", ":61616", ":65535"])
    uri += "".join("/" + segment() for _ in range(chance.randrange(5)))
    query = "&".join(text(UNRESERVED + SUB_DELIMS + ":@/?", 9) for _ in range(chance.randrange(4)))
    return uri + "?" + query if query else uri


@pytest.mark.parametrize("seed", range(8))
def test_a_uri_is_read_as_aiocoap_reads_it_and_written_as_it_writes_it(ours: Reader, seed: int):
    for i in range(40):
        uri = generated(1000 * seed + i)
        mine, other = ours(uri), theirs(uri)
        assert mine.options == other.options, uri
        assert mine.port == other.port, uri
        named = any(number == HOST for number, _ in mine.options)
        assert named or same_address(mine.host, other.host), uri
        assert composed(uri, mine) == normalize(uri) == written_by_them(uri), uri


@dataclass(frozen=True)
class Otherwise:
    uri: str
    ours: Options | None  # None: refused
    theirs: Options | type[Exception]
    because: str


def host(*more: tuple[int, bytes]) -> Options:
    return [(HOST, b"h"), *more]


_MALFORMED = aiocoap.error.MalformedUrlError
READ = [
    Otherwise("coap://h?", host((QUERY, b"")), host(), "6.4, step 9: there is a query component, of one argument"),
    Otherwise("coap://h/a?", host((PATH, b"a"), (QUERY, b"")), host((PATH, b"a")), "6.4, step 9"),
    Otherwise("coap://h/a/../b", host((PATH, b"b")), host((PATH, b"a"), (PATH, b".."), (PATH, b"b")), "6.4, step 2"),
    Otherwise("coap://h/./b", host((PATH, b"b")), host((PATH, b"."), (PATH, b"b")), "6.4, step 2; 5.10.1"),
    Otherwise("coap://h/#", None, host(), "6.4, step 4: an empty fragment is a fragment"),
    Otherwise("coap://h/%zz", None, host((PATH, b"%zz")), "6.4, step 1: no URI (RFC 3986 2.1)"),
    Otherwise("coap://h/a%", None, host((PATH, b"a%")), "6.4, step 1: no URI (RFC 3986 2.1)"),
    Otherwise("coap://h/%FF", host((PATH, b"\xff")), _MALFORMED, "5.10.1: a segment can be any sequence of bytes"),
    Otherwise("coap://h/a b", None, host((PATH, b"a b")), "6.4, step 1: no URI (RFC 3986 3.3)"),
    Otherwise("coap://h/a\tb", None, host((PATH, b"ab")), "6.4, step 1: no URI; a tab is not nothing"),
    Otherwise("coap://h\n/a", None, host((PATH, b"a")), "6.4, step 1: no URI; a newline is not nothing"),
    Otherwise("coap://@h/", None, host(), "6.1: there is no user name, not even an empty one"),
    Otherwise("coap://01.2.3.4/", [(HOST, b"01.2.3.4")], [], "6.4, step 5: a name (RFC 3986 3.2.2: no leading zeros)"),
    Otherwise("coap://1..2.3/", [(HOST, b"1..2.3")], ValueError, "6.4, step 5: a name (RFC 3986 3.2.2)"),
    Otherwise("coap://\u00c4.x/", [(HOST, b"\xc3\x84.x")], [(HOST, b"\xc3\xa4.x")], "6.4, step 5: ASCII lower case"),
]


@pytest.mark.parametrize("row", READ, ids=lambda row: ascii(row.uri))
def test_aiocoap_reads_this_otherwise(ours: Reader, row: Otherwise):
    if row.ours is None:
        with pytest.raises(ValueError, match=r"a URI has|a % needs"):
            ours(row.uri)
        with pytest.raises(ValueError, match=r"a URI has|a % needs"):
            normalize(row.uri)
    else:
        assert ours(row.uri).options == row.ours, row.because
    if isinstance(row.theirs, list):
        assert theirs(row.uri).options == row.theirs
    else:
        with pytest.raises(row.theirs):
            theirs(row.uri)


WRITTEN = [
    ("coap://h:5683/a", "coap://h/a", "coap://h:5683/a", "6.5, step 5: the default port is left out"),
    ("coaps://h:5684/a", "coaps://h/a", "coaps://h:5684/a", "6.5, step 5"),
    ("coap://[::1]:5683", "coap://[::1]/", "coap://[::1]:5683/", "6.5, step 5"),
    ("coap://192.0.2.1:05683", "coap://192.0.2.1/", "coap://192.0.2.1:05683/", "6.5, step 5"),
    ("coap://192.0.2.1:/", "coap://192.0.2.1/", "coap://192.0.2.1:/", "6.3: an empty port is the default one"),
    ("coap://[fe80::1%eth0]/", "coap://[fe80::1%25eth0]/", "coap://[fe80::1%eth0]/", "RFC 3986 2.1, RFC 6874 2"),
]


@pytest.mark.parametrize(("uri", "by_us", "by_them", "because"), WRITTEN, ids=[row[0] for row in WRITTEN])
def test_aiocoap_writes_this_otherwise(ours: Reader, uri: str, by_us: str, by_them: str, because: str):
    assert composed(uri, ours(uri)) == normalize(uri) == by_us, because
    assert written_by_them(uri) == by_them
    assert normalize(by_them) == by_us  # equivalent, then


def test_aiocoap_writes_an_embedded_ipv4_address_as_its_python_does(ours: Reader):
    """RFC 5952 5 recommends the mixed notation; ipaddress writes it from Python 3.13 on."""
    uri = "coap://[::FFFF:192.0.2.1]/"
    assert composed(uri, ours(uri)) == normalize(uri) == "coap://[::ffff:192.0.2.1]/"
    assert normalize(written_by_them(uri)) == normalize(uri)


def test_aiocoap_writes_a_host_that_no_uri_has():
    """RFC 7252 6.5, step 2: fail. What aiocoap writes instead names another host or another path."""
    for encoded, value, by_them in (
        ("a%2Fb", "a/b", "coap://a/b/x"),
        ("user%40h", "user@h", "coap://user@h/x"),
        ("a%3Fb", "a?b", "coap://a?b/x"),
        ("a%25b", "a%b", "coap://a%b/x"),
    ):
        uri = f"coap://{encoded}/x"
        assert written_by_them(uri) == by_them
        with pytest.raises(ValueError, match="no host"):
            compose(received(b"\x40\1\0\0" + bytes((0x30 | len(value),)) + value.encode()))
        with pytest.raises(ValueError, match="no host"):
            normalize(uri)


def test_both_refuse_what_is_no_uri(ours: Reader):
    for uri in (
        "coap:///x", "coap://:1/", "coap://u:p@h/", "coap://h:x", "coap://h:65536", "coap://h/#f", "coap://[v1.a]/",
        "coap://[::1", "coap://[::x]/", "coap://h/?q#f",
    ):  # fmt: skip
        with pytest.raises(ValueError):
            normalize(uri)
        with pytest.raises(ValueError):
            theirs(uri)
