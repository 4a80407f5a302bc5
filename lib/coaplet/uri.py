# coap:// URIs as a user writes them (RFC 7252 6, RFC 3986 3).

_HEX = b"0123456789abcdefABCDEF"


def split(uri):
    """Take a URI apart (RFC 7252 6.4, steps 1 to 6).

    uri: str, "coap://host:port/path?query", host a name, an IPv4 or a bracketed IPv6 address.
    Returns (scheme, host, port, rest): port is None when not given; rest is "path?query" as written, without the
    slash in front. Raises ValueError with a line that says what is wrong.
    """
    scheme, _, rest = uri.partition("://")
    scheme = scheme.lower()
    if not rest or scheme not in ("coap", "coaps"):
        raise ValueError("a URI begins with coap:// and a host: " + uri)
    if "#" in rest:
        raise ValueError("a CoAP URI has no fragment (#): " + uri)
    end = len(rest)
    for c in "/?":
        at = rest.find(c)
        if 0 <= at < end:
            end = at
    authority = rest[:end]
    rest = rest[end:]
    if rest.startswith("/"):
        rest = rest[1:]
    if authority.startswith("["):
        host, bracket, port = authority[1:].partition("]")
        if not bracket or port and not port.startswith(":"):
            raise ValueError("an IPv6 address stands in brackets, [::1]: " + uri)
        port = port[1:]
    else:
        host, _, port = authority.partition(":")
        if ":" in port:
            raise ValueError("an IPv6 address stands in brackets, [::1]: " + uri)
    if "@" in authority:
        raise ValueError("a CoAP URI has no user name: " + uri)
    if not host:
        raise ValueError("a URI needs a host: " + uri)
    host = unquote(host.encode()).decode().lower()
    if port:
        if not port.isdigit() or int(port) > 65535:
            raise ValueError("a port lies between 0 and 65535: " + uri)
        return scheme, host, int(port), rest
    return scheme, host, None, rest


def is_address(host):
    """Tell whether a host is an IP address rather than a name (RFC 7252 6.4, step 5)."""
    return ":" in host or all([part.isdigit() for part in host.split(".")])


def unquote(value):
    """Decode the percent-encodings in bytes. Raises ValueError for one that is none."""
    parts = value.split(b"%")
    out = parts[0]
    for part in parts[1:]:
        if len(part) < 2 or part[0] not in _HEX or part[1] not in _HEX:
            raise ValueError("a % needs two hexadecimal digits after it")
        out += bytes((int(part[:2].decode(), 16),)) + part[2:]
    return out
