# coap:// URIs put together and compared (RFC 7252 6.5, 6.3), and Locations (5.10.7): for proxies, tools, and clients
# that follow what they created. A build without it loses nothing else; nothing of the library imports it.
#
# What cannot be said by a URI is a ValueError, and never a URI that says something else: percent-encoding leaves alone
# only what RFC 7252 6.5 names, so that no byte of an option ends a host, a segment or an argument. Two things that an
# option list can say mean the same: no Uri-Path and a sole empty one are "/" both (6.5, step 7).

from .port import socket
from .uri import split, unquote


def compose(message, scheme="coap", host="", port=None):
    """Put the URI of a request together (RFC 7252 6.5).

    message: the request, a Message; scheme: "coap", or "coaps" for one that came over DTLS; host, port: its
    destination, for want of a Uri-Host and a Uri-Port: str, IPv6 with or without brackets, a zone behind "%"; port
    None: the scheme's. Proxy-Uri and Proxy-Scheme are the caller's to see to (5.10.2).
    Returns the URI in its normal form, as normalize(). Raises ValueError: no host at all, a Uri-Host that is no
    UTF-8, no name and no IP address (an IPv6 one stands in brackets there, 6.4 step 5, or not), a Uri-Path "." or
    ".." (5.10.1).
    """
    return _uri(
        scheme,
        message.option(3) or host.encode(),
        message.uint(7, port, 2),
        message.options(11),
        message.options(15),
    )


def normalize(uri):
    """Write a URI in its normal form: URIs that make the same request, and only those, give the same (RFC 7252 6.3).

    That is what 6.5 makes of the options that 6.4 makes of it. It decodes more than 6.3 asks for: in a CoAP message
    "%2B" and "+" are one. IPv6 addresses are written as RFC 5952 says, where the port has inet_ntop() as the unix
    port and CPython have; elsewhere as they stand. Raises ValueError: what split() refuses; a host name of other
    ASCII characters than a URI's host has, encoded or not; "." or ".." written with %2E (5.10.1).
    """
    scheme, host, port, rest = split(uri)
    path, mark, query = rest.encode().partition(b"?")
    return _uri(
        scheme,
        host.encode(),
        port,
        [unquote(value) for value in path.split(b"/") if path],
        [unquote(value) for value in query.split(b"&") if mark],
    )


def location(message):
    """Write the Location of a 2.01 response as the path of a next request, "/a/b?x=1" (RFC 7252 5.10.7).

    It is an absolute path of that server: for a Remote that was connected to without a path. (As a reference within
    a URI "//a" would be a host; as a Remote's path it is an empty segment and "a", what the options say.)
    Returns None when the response has none. Raises ValueError: a Location-Path "." or "..", one of the options 128,
    132, 136 and 140, which are reserved for more of the Location.
    """
    path = message.options(8)
    query = message.options(20)
    for number in (128, 132, 136, 140):
        if message.options(number):
            raise ValueError("unknown Location option")
    return _resource(path, query) if path or query else None


def _uri(scheme, name, port, path, query):
    try:
        address, mark, zone = name.decode().strip("[]").partition("%")
        if ":" in address:
            if hasattr(socket, "inet_pton"):
                address = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address))
            host = "[" + _quote(((address + mark + zone).encode(),), "", ":") + "]"
        else:
            host = _quote((name.lower(),), "", "&")
    except (OSError, ValueError):
        host = ""
    if not host:
        raise ValueError("no host for a URI: %r" % name)
    if port not in (None, 5684 if scheme == "coaps" else 5683):
        host += ":%d" % port
    return scheme + "://" + host + _resource(path, query)


def _resource(path, query):
    if b"." in path or b".." in path:
        raise ValueError("a path has no segment . or ..")
    return (_quote(path, "/", "&:@") or "/") + "?"[: len(query)] + _quote(query, "&", ":@/?")[1:]


def _quote(values, separator, safe):
    """Percent-encode what is neither "unreserved", nor a "sub-delim" but "&", nor safe. safe "&": a host name."""
    out = ""
    for value in values:
        out += separator
        for b in value:
            c = chr(b)
            if b > 127 or not (c.isalpha() or c.isdigit() or c in "-._~!$'()*+,;=" or c in safe):
                if b < 128 and safe == "&":
                    return ""
                c = "%%%02X" % b
            out += c
    return out
