# ClientHello and ServerHello, read and written (RFC 5246 7.4.1, RFC 6347 4.2.1), with the extensions that matter here:
# extended master secret (RFC 7627), renegotiation (RFC 5746), Connection ID (RFC 9146).
#
# What is read was not authenticated. ValueError or IndexError says that it is malformed.

from ..port import const

_EMS = const(23)
_CID = const(54)
_RENEGOTIATION = const(0xFF01)
_SCSV = const(0x00FF)  # RFC 5746 3.3: stands for an empty renegotiation_info


class Hello:
    """What a hello says. random: 32 bytes; session_id; cookie: of a client's, None in a server's; suites: the client's
    cipher suites in its order, or the one that the server took; ems, renegotiation: whether they are there; cid:
    bytes, None where the extension is missing; other: whether there were extensions besides."""

    def __init__(self, body, client):
        if body[0] != 0xFE or body[1] > 0xFD:  # DTLS versions count downwards; a later one than ours may be offered
            raise ValueError
        self.version = body[1]
        self.random = bytes(body[2:34])
        start, pos = _vector(body, 34, 1)
        self.session_id = bytes(body[start:pos])
        if pos - start > 32:
            raise ValueError
        self.cookie = None
        if client:
            start, pos = _vector(body, pos, 1)
            self.cookie = bytes(body[start:pos])
            self.cookie_at = start
            start, pos = _vector(body, pos, 2)
            self.suites = _pairs(body, start, pos)
            start, pos = _vector(body, pos, 1)
            if 0 not in body[start:pos]:
                raise ValueError
        else:
            self.suites = _pairs(body, pos, pos + 2)
            pos += 3
            if body[pos - 1]:  # compression
                raise ValueError
        self.ems = self.other = False
        self.renegotiation = _SCSV in self.suites
        self.cid = None
        if pos == len(body):
            return
        pos, end = _vector(body, pos, 2)
        if end != len(body):
            raise ValueError
        while pos < end:
            kind = body[pos] << 8 | body[pos + 1]
            start, pos = _vector(body, pos + 2, 2)
            if kind == _EMS:
                self.ems = True
            elif kind == _CID:
                if pos - start != 1 + body[start]:
                    raise ValueError
                self.cid = bytes(body[start + 1 : pos])
            elif kind == _RENEGOTIATION:
                if pos - start != 1 or body[start]:  # of a first handshake, and there is no other
                    raise ValueError
                self.renegotiation = True
            else:
                self.other = True
        if pos != end:
            raise ValueError


def client_hello(random, session_id, cookie, suites, cid):
    """Write a ClientHello. suites: numbers; cid: the Connection ID to be sent to us, None for none at all."""
    body = b"\xfe\xfd" + random + _short(session_id) + _short(cookie)
    n = 2 * len(suites) + 2
    body += bytes((n >> 8, n & 0xFF))
    for suite in suites:
        body += bytes((suite >> 8, suite & 0xFF))
    return body + b"\0\xff\x01\0" + _extensions(True, False, cid)


def server_hello(random, session_id, suite, hello, cid):
    """Write the ServerHello that answers a Hello. cid: None leaves the extension out."""
    body = b"\xfe\xfd" + random + _short(session_id) + bytes((suite >> 8, suite & 0xFF, 0))
    return body + _extensions(hello.ems, hello.renegotiation, cid)


def _extensions(ems, renegotiation, cid):
    found = b""
    if ems:
        found += b"\0\x17\0\0"
    if renegotiation:
        found += b"\xff\x01\0\x01\0"
    if cid is not None:
        found += b"\0\x36\0" + bytes((len(cid) + 1,)) + _short(cid)
    return bytes((0, len(found))) + found if found else b""


def _short(value):
    return bytes((len(value),)) + value


def _vector(body, pos, width):
    """Where a vector with a length of so many bytes begins and ends."""
    n = 0
    while width:
        n = n << 8 | body[pos]
        pos += 1
        width -= 1
    if pos + n > len(body):
        raise ValueError
    return pos, pos + n


def _pairs(body, pos, end):
    if end - pos & 1:
        raise ValueError
    return [body[i] << 8 | body[i + 1] for i in range(pos, end, 2)]
