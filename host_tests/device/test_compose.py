"""URIs put together (RFC 7252 6.5), compared (6.3), Locations (5.10.7), and the way there and back."""

import sys

import coaplet.compose
from coaplet.compose import compose, location, normalize
from coaplet.message import Message
from coaplet.uri import split
from coaplet.wire import parse
from helpers import ACK, CON, message, raises, vectors
from net import Random
from test_uri import options_of, requested

UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"  # RFC 3986 2.3
SUB_DELIMS = "!$&'()*+,;="  # RFC 3986 2.2
URI_HOST, URI_PORT, URI_PATH, URI_QUERY = 3, 7, 11, 15
LOCATION_PATH, LOCATION_QUERY = 8, 20


def received(options, kind=CON, code=1):
    """A Message of these options, in ascending order."""
    data = message(kind, code, 1, b"t", options)
    made = Message(40)
    made.data = data
    made.table[9] = len(data)
    assert parse(data, 5, len(data), made.table, 0) > 0
    return made


def composed(*options, **kwargs):
    return compose(received(options), **kwargs)


def created(*options):
    return received(options, ACK, 65)


def test_appendix_b_gives_its_uris():
    """Its last one has %2F in the query, where 6.5, step 8 leaves a slash: the two are equivalent (6.4, step 9)."""
    for vector in vectors("coap_rfc7252")["uri_compose"]:
        uri = composed(*options_of(vector), host=vector["ip"], port=vector["port"])
        assert uri == vector["uri"].replace("?%2F%2F&?", "?//&?"), uri
        assert uri == normalize(vector["uri"])


def test_equivalent_uris_have_one_normal_form():
    for uri in vectors("coap_rfc7252")["uri_equivalence"]["uris"]:
        assert normalize(uri) == "coap://example.com/~sensors/temp.xml", uri


def test_a_normal_form():
    """RFC 7252 6.3; RFC 3986 6.2.2."""
    for uri, expected in (
        ("coap://h", "coap://h/"),
        ("coap://h:5683", "coap://h/"),
        ("coap://h:", "coap://h/"),
        ("coap://h:05683/", "coap://h/"),
        ("coap://h:5684/", "coap://h:5684/"),
        ("coap://h:0/", "coap://h:0/"),
        ("COAPS://H:5684/", "coaps://h/"),
        ("coaps://h:5683/", "coaps://h:5683/"),
        ("coap://h?q", "coap://h/?q"),
        ("coap://h?", "coap://h/?"),
        ("coap://h/?&", "coap://h/?&"),
        ("coap://h//", "coap://h//"),
        ("coap://h/a/../B/./c", "coap://h/B/c"),
        ("coap://h/%7e%2f%2F%c3%a4", "coap://h/~%2F%2F%C3%A4"),
        ("coap://h/\u00e4", "coap://h/%C3%A4"),
        ("coap://h/%2B+%26&?%2B+%26%2f%3F", "coap://h/++&&?++%26/?"),
        ("coap://%C3%A4.EX%41MPLE/", "coap://%C3%A4.example/"),
        ("coap://[::1]:5683", "coap://[::1]/"),
        ("coap://[fe80::1%eth0]:1", "coap://[fe80::1%25eth0]:1/"),
        ("coap://[fe80::1%25enP2%2Fs0]", "coap://[fe80::1%25enP2%2Fs0]/"),
        ("coap://192.0.2.1:5683/", "coap://192.0.2.1/"),
    ):
        assert normalize(uri) == expected, uri
        assert normalize(expected) == expected, uri


def test_what_differs_has_another_normal_form():
    """RFC 7252 6.3, 6.1 and 6.2: a path has case, coaps is another server, a port another one, an empty query one."""
    uris = "coap://h/ coaps://h/ coap://h:5684/ coap://g/ coap://h// coap://h/? coap://h/?& coap://h/a coap://h/A"
    uris += " coap://h/a%2Fb coap://h/a/b coap://h/a/b/ coap://h/?a&b coap://h/?a%26b coap://h/a?b coap://h/a%3Fb"
    forms = {normalize(uri) for uri in uris.split()}
    assert len(forms) == len(uris.split())


def test_ipv6_addresses_are_in_the_recommended_form():
    """RFC 7252 6.3 and 6.5, step 2: RFC 5952, where the port can."""
    for text, expected in (
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:0db8::0001", "2001:db8::1"),
        ("2001:db8:0:0:1::1", "2001:db8::1:0:0:1"),
        ("0:0:0:0:0:0:0:0", "::"),
        ("::FFFF:192.0.2.1", "::ffff:192.0.2.1"),
        ("FE80:0::1%25Zone", "fe80::1%25Zone"),
    ):
        assert normalize("coap://[" + text + "]") == "coap://[" + expected + "]/", text
        assert composed(host=text.replace("%25", "%")) == "coap://[" + expected + "]/", text
    for text in ("::x", "1:2", "1::2::3", "1:2:3:4:5:6:7:8:9", "12345::", ":", "::1.2.3", "\u00e4::"):
        raises(ValueError, normalize, "coap://[" + text + "]")


def test_a_port_without_inet_ntop_leaves_ipv6_addresses_as_they_are():
    class Socket:
        pass

    module = sys.modules["coaplet.compose"]
    original = module.socket
    module.socket = Socket()
    try:
        assert normalize("COAP://[FE80:0::1%a]:5683/x") == "coap://[FE80:0::1%25a]/x"
    finally:
        module.socket = original
    assert module is coaplet.compose


def test_the_destination_stands_in_for_uri_host_and_uri_port():
    """RFC 7252 5.10.1; 6.5, steps 2 to 5."""
    for options, kwargs, expected in (
        ((), {"host": "192.0.2.1"}, "coap://192.0.2.1/"),
        ((), {"host": "192.0.2.1", "port": 5683}, "coap://192.0.2.1/"),
        ((), {"host": "192.0.2.1", "port": 61616}, "coap://192.0.2.1:61616/"),
        ((), {"host": "::1", "port": 1}, "coap://[::1]:1/"),
        ((), {"host": "[::1]"}, "coap://[::1]/"),
        (((3, b"h"),), {}, "coap://h/"),
        (((3, b"h"),), {"host": "192.0.2.1", "port": 1}, "coap://h:1/"),
        (((7, b"\2"),), {"host": "192.0.2.1", "port": 1}, "coap://192.0.2.1:2/"),
        (((7, b"\x16\x33"),), {"host": "192.0.2.1", "port": 1}, "coap://192.0.2.1/"),
        (((7, b""),), {"host": "192.0.2.1"}, "coap://192.0.2.1:0/"),
        (((7, b"\1\2\3"),), {"host": "192.0.2.1", "port": 1}, "coap://192.0.2.1:1/"),  # no Uri-Port (5.4.3)
        (((3, b"h"), (7, b"\x16\x34")), {"scheme": "coaps", "port": 1}, "coaps://h/"),
        (((3, b"h"), (7, b"\x16\x33")), {"scheme": "coaps"}, "coaps://h:5683/"),
        (((3, b"h"), (7, b"\x16\x34")), {}, "coap://h:5684/"),
        (((3, b"Example.NET"),), {}, "coap://example.net/"),
        (((3, b"xn--18j4d.example"),), {}, "coap://xn--18j4d.example/"),
        (((3, b"\xc3\xa4\xc4\x80"),), {}, "coap://%C3%A4%C4%80/"),
        (((3, b"192.0.2.2"),), {"host": "192.0.2.1"}, "coap://192.0.2.2/"),
        (((3, b"[2001:db8::1]"),), {"host": "192.0.2.1"}, "coap://[2001:db8::1]/"),  # through a proxy
        (((3, b"2001:db8::1"),), {"host": "192.0.2.1"}, "coap://[2001:db8::1]/"),
    ):
        assert composed(*options, **kwargs) == expected, (options, kwargs)


def test_a_host_that_a_uri_cannot_have_is_refused():
    """RFC 7252 6.5, step 2; a Uri-Host must not say more of the URI than the host."""
    raises(ValueError, composed)
    for value in (
        b"\xff", b"a\xc3", b"\xc3(", b"a b", b"a/b", b"a?b", b"a#b", b"user@host", b"host:1", b"a%41", b"a%", b"[host]",
        b"[v1.fe]", b"[::1]:1", b"::1]/a", b"a\0", b"a\n", b"a\\b", b"<a>", b"\x7f", b"::1/", b":", b"[",
    ):  # fmt: skip
        assert "host for a URI: b" in str(raises(ValueError, composed, (3, value), host="192.0.2.1")), value
    assert composed((3, b"fe80::1%]/a?b#c")) == "coap://[fe80::1%25%5D%2Fa%3Fb%23c]/"


def test_each_byte_is_encoded_where_it_must_be():
    """RFC 7252 6.5, steps 2, 6 and 8."""
    of_host = UNRESERVED + SUB_DELIMS
    of_path = UNRESERVED + SUB_DELIMS + ":@"
    of_query = UNRESERVED + SUB_DELIMS.replace("&", "") + ":@/?"
    for b in range(256):
        encoded = "%%%02X" % b
        value = b"x" + bytes((b,)) + b"y"
        text = encoded if chr(b) not in of_path else chr(b)
        assert composed((11, value), host="h") == "coap://h/x" + text + "y", b
        assert location(created((8, value))) == "/x" + text + "y", b
        text = encoded if chr(b) not in of_query else chr(b)
        assert composed((15, value), host="h") == "coap://h/?x" + text + "y", b
        assert location(created((20, value))) == "/?x" + text + "y", b
        if b < 128:
            if chr(b) in of_host:
                assert composed((3, value)) == "coap://x" + chr(b).lower() + "y/", b
            else:
                raises(ValueError, composed, (3, value))


def test_a_dot_segment_is_refused():
    """RFC 7252 5.10.1, 5.10.7: a path has none."""
    for value in (b".", b".."):
        assert "." in str(raises(ValueError, composed, (11, b"a"), (11, value), host="h"))
        assert "." in str(raises(ValueError, location, created((8, value))))
        assert composed((15, value), host="h") == "coap://h/?" + value.decode()
        assert location(created((20, value))) == "/?" + value.decode()
    for uri in ("coap://h/%2E", "coap://h/a/%2e%2E/b", "coap://h/.%2e"):
        raises(ValueError, normalize, uri)
    assert composed((11, b"..."), (11, b".a"), host="h") == "coap://h/.../.a"


def test_what_split_refuses_has_no_normal_form():
    for uri in ("", "h", "http://h", "coap://", "coap://h#f", "coap://u@h", "coap://h:65536", "coap://h/a b"):
        raises(ValueError, normalize, uri)
    for uri in ("coap://h/%zz", "coap://h/a/%4", "coap://h?%", "coap://h?a&%4g", "coap://a%2Fb", "coap://a%20b"):
        raises(ValueError, normalize, uri)


def test_empty_segments_and_arguments_are_kept():
    """RFC 7252 6.4, steps 8 and 9; but a sole empty Uri-Path is the root (6.5, steps 6 and 7)."""
    for segments, path in (
        ((), "/"),
        ((b"",), "/"),
        ((b"", b""), "//"),
        ((b"a", b""), "/a/"),
        ((b"", b"a"), "//a"),
        ((b"", b"", b"a", b"", b""), "///a//"),
    ):
        for arguments, query in (
            ((), ""),
            ((b"",), "?"),
            ((b"", b""), "?&"),
            ((b"a", b""), "?a&"),
            ((b"", b"a"), "?&a"),
        ):
            of_request = [(11, value) for value in segments] + [(15, value) for value in arguments]
            assert composed(*of_request, host="h") == "coap://h" + path + query
            assert normalize("coap://h" + path + query) == "coap://h" + path + query
            of_response = [(8, value) for value in segments] + [(20, value) for value in arguments]
            expected = path + query if of_response else None
            assert location(created(*of_response)) == expected


def test_a_location_is_the_path_of_a_next_request():
    for options in (
        [(8, b"a"), (8, b"b"), (20, b"x=1")],
        [(8, b"a/b"), (8, b"\xff\0?#&%41 "), (20, b"&=%?/#"), (20, b"")],
        [(8, b""), (8, b"a"), (8, b"")],
        [(8, b""), (8, b"")],
        [(20, b"q")],
        [(8, b"x" * 255), (20, b"\xff" * 255)],
    ):
        asked = requested("coap://192.0.2.1", location(created(*options)))[0]
        assert asked == [(11 if number == 8 else 15, value) for number, value in options]
    assert location(created((8, b"a"), (8, b"b c"), (20, b"x=1"), (20, b"y&z"))) == "/a/b%20c?x=1&y%26z"


def test_a_response_without_a_location_has_none():
    assert location(created((4, b"e"), (12, b""))) is None


def test_a_location_of_more_than_is_known_is_refused():
    """RFC 7252 5.10.7: 128, 132, 136 and 140 may come to be part of it."""
    for number in (128, 132, 136, 140):
        assert "Location" in str(raises(ValueError, location, created((8, b"a"), (number, b""))))
    assert location(created((8, b"a"), (60, b""), (144, b"x"))) == "/a"


def a_value(random, most=12):
    """Random bytes, mostly those that mean something in a URI, and no dot segment."""
    while True:
        n = random.below(most)
        value = bytes([random.bits(8) if random.below(3) else b"/?&#%:@.[]+ aZ2~"[random.below(16)] for _ in range(n)])
        if value not in (b".", b".."):
            return value


def test_options_become_a_uri_and_the_same_options_again():
    """What is composed is a URI for split() and the client, and asks for exactly what was asked for."""
    random = Random(7252)
    for i in range(200):
        options = [(11, a_value(random)) for _ in range(random.below(4))]
        if options == [(11, b"")]:
            options = []
        options += [(15, a_value(random)) for _ in range(random.below(4))]
        host = ("example.net", "\u00e4.example", "a!b~c", "192.0.2.1", "2001:db8::1", "fe80::1%lo")[i % 6]
        port = (5683, 5684, 0, 65535)[i % 4]
        named = [(3, host.encode())] if i % 6 < 3 else []
        uri = composed(*(named + [(7, bytes((port >> 8, port & 255)))] + options), host="" if named else host)
        assert min(uri) > " " and max(uri) < "\x7f", uri
        scheme, at, number, rest = split(uri)
        assert (scheme, at, number) == ("coap", host, None if port == 5683 else port), uri
        authority = uri[: uri.find("/", 7)]
        assert requested(authority, "/" + rest) == (named + options, (host, port)), uri


def a_uri(random):
    """A URI as people and programs write them: any case, anything encoded that may be, ports in full or left out."""

    def text(characters, most):
        out = ""
        for _ in range(random.below(most)):
            c = characters[random.below(len(characters))]
            out += (c, c, c.lower(), c.upper(), "%%%02X" % ord(c), "%%%02x" % ord(c))[random.below(6)]
        return out

    hosts = ("192.0.2.1", "[2001:DB8::1]", "[fe80::1%25a]", "[fe80::1%a]", "x" + text(UNRESERVED + SUB_DELIMS, 9))
    uri = ("coap", "COAP", "coaps", "Coaps")[random.below(4)] + "://" + hosts[random.below(5)]
    uri += ("", "", ":", ":5683", ":5684", ":0", ":65535")[random.below(7)]
    if random.below(5):
        for _ in range(random.below(5)):
            uri += "/" + (text(UNRESERVED + SUB_DELIMS + ":@", 6), ".", "..", "%2F", "\u00e4")[random.below(9) % 5]
    if random.below(2):
        uri += "?" + "&".join([text(UNRESERVED + SUB_DELIMS + ":@/?", 6) for _ in range(random.below(4))])
    return uri


def test_a_uri_becomes_options_and_its_normal_form_again():
    """RFC 7252 6.4, then 6.5, is 6.3."""
    random = Random(3986)
    tried = 0
    for _ in range(300):
        uri = a_uri(random)
        scheme, host, port, rest = split(uri)
        authority = uri[uri.find("/") + 2 :].split("/")[0].split("?")[0]
        try:
            options, peer = requested("coap://" + authority, "/" + rest)
        except ValueError as error:
            assert "%2E" in uri.upper() and "." in str(error), (uri, error)
            continue
        if (11, b".") in options or (11, b"..") in options:
            assert "%2E" in uri.upper(), uri
            raises(ValueError, normalize, uri)
            continue
        if scheme == "coaps" and port is None:
            peer = (peer[0], 5684)
        form = composed(*options, scheme=scheme, host=peer[0], port=peer[1])
        assert normalize(uri) == form == normalize(form), uri
        tried += 1
    assert tried > 250
