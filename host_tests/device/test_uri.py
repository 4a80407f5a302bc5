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
        options, peer = requested(uri[:start], uri[start:], lambda _, port, last: [(1, (vector["ip"], port))])
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
    """RFC 7252 6.4, step 5: nor is a zone, which means nothing to the peer."""
    for uri in ("coap://192.0.2.1", "coap://[2001:db8::1]", "coap://[::ffff:192.0.2.1]:61616", "coap://[fe80::1%25e0]"):
        assert requested(uri + "/x")[0] == [(11, b"x")], uri


def test_a_port_is_never_sent_as_uri_port():
    """RFC 7252 6.4, step 7: the request goes to that very port."""
    for port in (5683, 5684, 61616):
        assert requested("coap://example.net:%d" % port) == ([(3, b"example.net")], ("example.net", port))
    assert requested("coap://example.net:")[1] == ("example.net", 5683)


def test_what_only_inet_aton_takes_for_an_address_is_a_name():
    """RFC 3986 3.2.2: an IPv4address is four numbers of 0 to 255 without leading zeros."""
    for host in ("127.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "fe80::1%eth0", "::ffff:192.0.2.1"):
        assert is_address(host), host
    for host in (
        "a", "example.net", "4u.example", "1", "127.1", "1.2.3", "1.2.3.4.5", "1.2.3.4.", ".1.2.3", "1..2.3", "", ".",
        "256.0.0.1", "1.2.3.1000", "01.2.3.4", "1.2.3.00", "0x7f.0.0.1", "1.2.3.-4", "1.2.3. 4", "1.2.3.4a",
        "\u00b2.0.0.1", "\u0661.0.0.1",
    ):  # fmt: skip
        assert not is_address(host), host
    assert requested("coap://127.1")[0] == [(3, b"127.1")]


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
        ("coap://host?", ("coap", "host", None, "?")),
        ("coap://host/?/a?b", ("coap", "host", None, "?/a?b")),
        ("coap://host?/a://b:1@c/../d", ("coap", "host", None, "?/a://b:1@c/../d")),
        ("coap://host:/p", ("coap", "host", None, "p")),
        ("coap://h/a?b/c?d:e", ("coap", "h", None, "a?b/c?d:e")),
        ("coap://h/a@b:[c]", ("coap", "h", None, "a@b:[c]")),
        ("coap://h//", ("coap", "h", None, "/")),
        ("coap://h//a//b/", ("coap", "h", None, "/a//b/")),
        ("coap://h/%2F%41", ("coap", "h", None, "%2F%41")),
        ("coap://[::1]", ("coap", "::1", None, "")),
        ("coap://[2001:db8::1]:5684//", ("coap", "2001:db8::1", 5684, "/")),
        ("coap://[::1]:?q", ("coap", "::1", None, "?q")),
    ):
        assert split(uri) == expected, uri


def test_a_port_has_up_to_65535():
    for text, port in (("0", 0), ("65535", 65535), ("05683", 5683), ("", None)):
        assert split("coap://h:" + text)[2] == split("coap://[::1]:" + text)[2] == port, text
    for text in ("65536", "99999999999999999999", "-1", "+1", "1 ", "x", "1x", "0x10", "1_0", "\u0661", "\u00b2"):
        for host in ("h:", "[::1]:"):
            assert str(raises(ValueError, split, "coap://" + host + text)), text


def test_a_host_name_is_decoded_and_in_ascii_lower_case():
    """RFC 7252 6.4, step 5, and 6.3: what is equivalent makes the same Uri-Host."""
    for host, expected in (
        ("EXAMPLE.Net", "example.net"),
        ("%65xample", "example"),
        ("%45XAMPLE", "example"),
        ("%C3%A4.example", "\u00e4.example"),
        ("%c3%84.example", "\u00c4.example"),
        ("\u00c4B.example", "\u00c4b.example"),
        ("a%2Fb%25", "a/b%"),
        ("!$&'()*+,;=-._~", "!$&'()*+,;=-._~"),
    ):
        assert split("coap://" + host + ":1/p") == ("coap", expected, 1, "p"), host


def test_a_host_has_1_to_255_bytes():
    """RFC 7252 5.10: so has Uri-Host."""
    for host in ("a" * 255, "%61" * 255, "\u00e4" * 127):
        assert len(split("coap://" + host + "/")[1].encode()) > 253
        assert "255" in str(raises(ValueError, split, "coap://a" + host + "a/")), host


def test_a_zone_is_written_as_in_rfc_6874_or_as_typed():
    for written, zone in (
        ("%25eth0", "eth0"),
        ("%eth0", "eth0"),
        ("%25enP2p1s0", "enP2p1s0"),  # a zone has case
        ("%ed0", "ed0"),  # typed, so it is no percent-encoding
        ("%1", "1"),
        ("%2", "2"),
        ("%2d", "2d"),
        ("%251", "1"),
        ("%2525", "25"),
        ("%25a%2Db", "a-b"),
    ):
        assert split("coap://[fe80::1" + written + "]:1/p") == ("coap", "fe80::1%" + zone, 1, "p"), written
    raises(ValueError, split, "coap://[fe80::1%25%zz]")


def test_dot_segments_are_resolved():
    """RFC 7252 6.4, step 2, which is RFC 3986 5.2.4."""
    for path, expected in (
        ("a/b/c/./../../g", "a/g"),
        ("a/./b", "a/b"),
        ("a/../b", "b"),
        ("../../a", "a"),
        ("./a", "a"),
        (".", ""),
        ("..", ""),
        ("a/.", "a/"),
        ("a/..", ""),
        ("a/b/..", "a/"),
        ("a/b/../", "a/"),
        ("a//../b", "a/b"),
        (".//", "/"),
        ("a/...", "a/..."),
        (".a/..b/c.", ".a/..b/c."),
        ("a/b?../c/./d", "a/b?../c/./d"),
        ("a/..?q", "?q"),
        ("%2e/a", "%2e/a"),  # decoded, it is what a path must not have: compose.py and client.py refuse it
    ):
        assert split("coap://h/" + path)[3] == expected, path
    assert requested("coap://192.0.2.1/a/../b", "c")[0] == [(11, b"b"), (11, b"c")]


def test_what_is_no_uri_character_stands_for_its_utf_8_bytes():
    assert split('coap://h/\u00e4{|}?\u20ac"') == ("coap", "h", None, '\u00e4{|}?\u20ac"')
    options = requested("coap://192.0.2.1", '\u00e4?\u20ac"')[0]
    assert options == [(11, b"\xc3\xa4"), (15, b'\xe2\x82\xac"')]


def test_what_is_no_coap_uri_is_refused():
    for says, uris in (
        ("coap://", ("", "host", "/path", "//host/path", "coap", "coap:", "coap:host", "coap:/host", "coap://")),
        ("coap://", ("http://host", "coap+tcp://host", "://host", " coap://host", "xcoap://host", "coap//://host")),
        ("a host", ("coap:///path", "coap://?q", "coap://:5683", "coap:///coap://host", "coap://%ff", "coap://%c3/")),
        ("#", ("coap://host#f", "coap://host/p#f", "coap://host/#", "coap://host?q#", "coap://h#@f")),
        ("user", ("coap://user@host", "coap://user:word@host", "coap://@host", "coap://user@[::1]")),
        ("port", ("coap://host:65536", "coap://host:-1", "coap://host:x", "coap://[::1]:x", "coap://[::1]:5:6")),
        ("brackets", ("coap://::1", "coap://fe80::1", "coap://[::1", "coap://::1]", "coap://[::1]5683", "coap://[]")),
        ("brackets", ("coap://x[::1]", "coap://[192.0.2.1]", "coap://[host]", "coap://%3A%3A1", "coap://a%3Ab")),
        ("brackets", ("coap://[v1.fe]", "coap://[v1.fe:d]", "coap://[VF.:]")),  # IPvFuture, RFC 3986 3.2.2
        ("hex", ("coap://h%zz", "coap://h%", "coap://h%4")),
    ):
        for uri in uris:
            text = str(raises(ValueError, split, uri))
            assert says in text and (says == "hex" or text.startswith("a URI ") and text.endswith(": " + uri)), text
    for code in range(33):
        for uri in ("coap://h%s", "coap://h/p%s", "coap://h/%sp", "coap://h?q%sr", "coap://[::1]/%s"):
            assert "space" in str(raises(ValueError, split, uri % chr(code))), code


def test_percent_encodings_are_decoded_once():
    assert unquote(b"a%20b%2Fc%2f%25%32%35") == b"a b/c/%25"
    assert unquote(b"") == b"" and unquote(b"%00%ff") == b"\0\xff"


def test_a_percent_encoding_has_two_hexadecimal_digits():
    for value in (b"%", b"%a", b"x%", b"%g0", b"%0g", b"%%20", b"%+f", b"%-1", b"% 1", b"%1 ", b"%\xff\xff"):
        raises(ValueError, unquote, value)
