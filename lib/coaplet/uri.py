# coap:// URIs as a user writes them, taken apart as far as sending a request asks for (RFC 7252 6.4, RFC 3986 3).
#
# compose.py puts them together, which a node does without. Of what is percent-encoded only the host is decoded here:
# whoever splits a path and a query decodes the parts (client.py), so that no delimiter comes out of an encoding.

from binascii import unhexlify


def split(uri):
    """Take a URI apart (RFC 7252 6.4, steps 1 to 6).

    uri: str, "coap://host:port/path?query", host a name, an IPv4 or a bracketed IPv6 address. A zone is written as in
    RFC 6874, "[fe80::1%25eth0]", or as elsewhere (RFC 9844), "[fe80::1%eth0]": with "%25" anywhere it is the former.
    A character beyond ASCII stands for its UTF-8 bytes, as in an IRI; so does, in path and query, a printable one that
    RFC 3986 has no use for. A space or a control character is refused: it comes from a line that was cut wrongly.

    Returns (scheme, host, port, rest): host decoded and without brackets, a name in lower case, so that equivalent
    URIs (6.3) make one Uri-Host; port None when not given; rest "path?query" without the slash in front, as written
    but for "." and "..", which are resolved (step 2, RFC 3986 5.2.4). Raises ValueError with a line that says what is
    wrong.
    """
    scheme, _, rest = uri.partition("://")
    scheme = scheme.lower()
    rest, mark, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    end = authority.find("]") + 1
    host, _, port = authority[end:].partition(":")
    host = authority[:end] + host
    bracketed = host[:1] + host[-1:] == "[]"
    if bracketed:
        host = host[1:-1]
        if "%25" not in host:
            host = host.replace("%", "%25")
    name = unquote(host.encode())
    if not bracketed:
        name = name.lower()  # of bytes: ASCII alone, on every interpreter
    try:
        host = name.decode()
    except ValueError:
        name = b""
    wrong = (
        ((b":" in name or ":" in port) != bracketed or bracketed and name[0] in b"vV")
        and "has an IPv6 address, and only that, in brackets"
        or (scheme not in ("coap", "coaps") or not 0 < len(name) < 256)
        and "begins with coap:// and a host (1 to 255 bytes, UTF-8)"
        or (min(uri.encode()) <= 32 or "#" in uri or "@" in authority)
        and "has no space, fragment (#) or user name (@)"
        or port
        and not (port.encode().isdigit() and int(port) < 65536)
        and "has a port of 0 to 65535"
    )
    if wrong:
        raise ValueError("a URI " + wrong + ": " + uri)
    segments = []
    for segment in path.split("/"):
        if segment == "..":
            segments = segments[:-1]
        elif segment != ".":
            segments.append(segment)
    if segment in (".", ".."):  # pyright: ignore[reportPossiblyUnboundVariable]: there is one
        segments.append("")
    return scheme, host, int(port) if port else None, "/".join(segments) + mark + query


def is_address(host):
    """Tell whether a host is an IP address rather than a name (RFC 7252 6.4, step 5; RFC 3986 3.2.2).

    What only inet_aton() takes for one, "127.1" or "010.0.0.1", is a name.
    """
    parts = host.split(".")
    for part in parts:
        if not part.encode().isdigit() or part != str(int(part) & 255):
            return ":" in host
    return len(parts) == 4


def is_group(host):
    """Tell whether a host is the address of a multicast group (RFC 7252 8)."""
    if ":" in host:
        return host[:2].lower() == "ff"
    return is_address(host) and 224 <= int(host.split(".")[0]) < 240


def unquote(value):
    """Decode the percent-encodings in bytes. Raises ValueError for one that is none."""
    parts = value.split(b"%")
    out = parts[0]
    for part in parts[1:]:
        try:
            out += unhexlify(part[:2] or b"-") + part[2:]
        except ValueError:
            raise ValueError("a % needs two hex digits after it")
    return out
