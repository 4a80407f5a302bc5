"""URIs: taken apart (RFC 7252 6.4), and as the options of a request (Appendix B, section 6.3)."""

import sys

from coaplet.driver import Driver
from coaplet.udp import Udp
from coaplet.uri import is_address, split, unquote
from helpers import raises, read, vectors

OPTIONS = {"Uri-Host": 3, "Uri-Port": 7, "Uri-Path": 11, "Uri-Query": 15}


class Sink(Udp):
    """A transport that keeps what is sent, as (bytes, peer)."""

    def open(self):
        self.family = 1
        self.sent = []

    def send(self, buf, peer):
        self.sent.append((bytes(buf), peer))
        return True

    def format(self, peer):
        return str(peer)


class Sent(Exception):
    pass


class Caller(Driver):
    """Stops where it would have to wait for an answer."""

    async def wait(self, ex):
        raise Sent

    def _arm(self):
        pass


def requested(uri, path="", resolve=None, **kwargs):
    """The options of the GET for a path at uri, and the peer it goes to."""
    sink = Sink("::", 0, 1152)
    caller = Caller(transports=(sink,))
    caller._open()
    port = sys.modules["coaplet.port"]
    original = port.resolve
    port.resolve = resolve or (lambda host, number, last=None: [(1, (host, number))])
    try:
        remote = caller._remote(uri)
        raises(Sent, remote.get(path, **kwargs).send, None)
    finally:
        port.resolve = original
    ((data, peer),) = sink.sent
    return read(data)[4], peer


def options_of(vector):
    return [(OPTIONS[name], value.encode()) for name, value in vector["options"]]


def test_appendix_b_gives_its_options():
    for vector in vectors("coap_rfc7252")["uri_compose"]:
        uri = vector["uri"]
        start = uri.find("/", 7)
        options, peer = requested(
            uri[:start], uri[start:], lambda _, number, last=None, v=vector: [(1, (v["ip"], number))]
        )
        assert (options, peer) == (options_of(vector), (vector["ip"], vector["port"])), uri


def test_a_path_of_the_connection_is_put_before_each_request():
    host = (3, b"example.net")
    for uri, path, expected in (
        ("coap://example.net/a", "b", [b"a", b"b"]),
        ("coap://example.net/a/", "/b", [b"a", b"b"]),
        ("coap://example.net/a/b%2Fc", "", [b"a", b"b/c"]),
        ("coap://example.net/a", "b/", [b"a", b"b", b""]),
        ("coap://example.net", "/", []),
        ("coap://example.net", "//", [b"", b""]),
    ):
        assert requested(uri, path)[0] == [host] + [(11, value) for value in expected], (uri, path)


def test_equivalent_uris_make_the_same_request():
    expected = [(3, b"example.com"), (11, b"~sensors"), (11, b"temp.xml")]
    for uri in vectors("coap_rfc7252")["uri_equivalence"]["uris"]:
        assert requested(uri) == (expected, ("example.com", 5683)), uri


def test_an_address_is_not_sent_as_uri_host():
    for uri in ("coap://192.0.2.1", "coap://[2001:db8::1]", "coap://[::ffff:192.0.2.1]:61616"):
        assert requested(uri + "/x")[0] == [(11, b"x")]
    assert is_address("127.0.0.1") and is_address("::1")
    assert not is_address("example.net") and not is_address("4u.example") and not is_address("a")


def test_queries_are_split_at_ampersands_before_they_are_decoded():
    options = requested("coap://192.0.2.1", "p?a=1&b=%26%3F&c?d/e&")[0]
    assert options == [(11, b"p")] + [(15, value) for value in (b"a=1", b"b=&?", b"c?d/e", b"")]
    assert requested("coap://192.0.2.1", "?q")[0] == [(15, b"q")]
    assert requested("coap://192.0.2.1", "a+b%20c")[0] == [(11, b"a+b c")]
    assert requested("coap://192.0.2.1", b"a/b?c")[0] == [(11, b"a"), (11, b"b"), (15, b"c")]


def test_other_options_find_their_places():
    options = requested("coap://example.net", "p?q", accept=50, options=((1, b"etag"), (60, 1000)))[0]
    assert options == [(1, b"etag"), (3, b"example.net"), (11, b"p"), (15, b"q"), (17, b"\x32"), (60, b"\x03\xe8")]


def test_a_segment_has_at_most_255_bytes():
    assert requested("coap://192.0.2.1", "x" * 255)[0] == [(11, b"x" * 255)]
    assert requested("coap://192.0.2.1", "%41" * 255)[0] == [(11, b"A" * 255)]
    for path in ("x" * 256, "?" + "x" * 256, "%41" * 256, "\u20ac" * 86):
        raises(ValueError, requested, "coap://192.0.2.1", path)


def test_a_uri_is_split():
    for uri, expected in (
        ("coap://host", ("coap", "host", None, "")),
        ("coap://host/", ("coap", "host", None, "")),
        ("COAPS://Host:1/A?B", ("coaps", "host", 1, "A?B")),
        ("coap://host?q", ("coap", "host", None, "?q")),
        ("coap://host:/p", ("coap", "host", None, "p")),
        ("coap://h/a?b/c?d:e", ("coap", "h", None, "a?b/c?d:e")),
        ("coap://h/a@b", ("coap", "h", None, "a@b")),
        ("coap://[::1]", ("coap", "::1", None, "")),
        ("coap://[FE80::1%25eth0]:5684//", ("coap", "fe80::1%eth0", 5684, "/")),
        ("coap://%C3%A4.example", ("coap", "\u00e4.example", None, "")),
        ("coap://h:65535", ("coap", "h", 65535, "")),
    ):
        assert split(uri) == expected, uri


def test_what_is_no_coap_uri_is_refused():
    for uri in (
        "", "host", "coap:host", "coap://", "http://host", "coap:///path", "coap://:5683", "coap://host#f",
        "coap://host/p#f", "coap://host:65536", "coap://host:-1", "coap://host:x", "coap://::1", "coap://[::1",
        "coap://[::1]5683", "coap://user@host", "coap://user:word@host", "coap://[]", "coap://h%zz",
    ):  # fmt: skip
        assert str(raises(ValueError, split, uri)), uri


def test_percent_encodings_are_decoded_once():
    assert unquote(b"a%20b%2Fc%2f%25%32%35") == b"a b/c/%25"
    assert unquote(b"") == b"" and unquote(b"%00%ff") == b"\0\xff"


def test_a_percent_encoding_has_two_hexadecimal_digits():
    for value in (b"%", b"%a", b"x%", b"%g0", b"%0g", b"%%20", b"%+f", b"%-1", b"% 1", b"%1 ", b"%\xff\xff"):
        raises(ValueError, unquote, value)
