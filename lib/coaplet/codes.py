# The numbers of CoAP's registries that this library knows, and the errors that carry them.
#
# A name is the registry's in capitals, coaplet.NOT_FOUND or coaplet.MAX_AGE, and is looked up when it is asked for: as
# constants they would cost a board 40 bytes each.

# Methods and response codes: class << 5 | detail (RFC 7252 12.1, RFC 8132 6, RFC 7959 6, RFC 8516 6)
CODES = (
    "1 GET,2 POST,3 PUT,4 DELETE,5 FETCH,6 PATCH,7 IPATCH,65 Created,66 Deleted,67 Valid,68 Changed,69 Content,"
    "95 Continue,128 Bad Request,129 Unauthorized,130 Bad Option,131 Forbidden,132 Not Found,133 Method Not Allowed,"
    "134 Not Acceptable,136 Request Entity Incomplete,137 Conflict,140 Precondition Failed,"
    "141 Request Entity Too Large,143 Unsupported Content-Format,150 Unprocessable Entity,157 Too Many Requests,"
    "160 Internal Server Error,161 Not Implemented,162 Bad Gateway,163 Service Unavailable,164 Gateway Timeout,"
    "165 Proxying Not Supported,"
)
# Options (RFC 7252 5.10, RFC 7641 2, RFC 7959 2.1 and 4)
OPTIONS = (
    "1 If-Match,3 Uri-Host,4 ETag,5 If-None-Match,6 Observe,7 Uri-Port,8 Location-Path,11 Uri-Path,12 Content-Format,"
    "14 Max-Age,15 Uri-Query,17 Accept,20 Location-Query,23 Block2,27 Block1,28 Size2,35 Proxy-Uri,"
    "39 Proxy-Scheme,60 Size1,"
)


def __getattr__(name):
    if name == name.upper():
        for table in CODES, OPTIONS:
            at = table.upper().replace("-", " ").find(" " + name.replace("_", " ") + ",")
            start = table.rfind(",", 0, at) + 1
            if at > 0 and table[start:at].isdigit():
                return int(table[start:at])
    raise AttributeError(name)


def code_text(code):
    """Write a code as RFC 7252 does: 69 is "2.05"."""
    return "%d.%02d" % (code >> 5, code & 31)


class CoapError(Exception):
    """A request that did not succeed.

    code: the response code (coaplet.NOT_FOUND, ...), or 0 where there was no response. A handler that raises it
    answers with the code and, as diagnostic payload (RFC 7252 5.5.2), the text. reply: the response as a client got
    it, or None.
    """

    def __init__(self, code, text="", reply=None):
        super().__init__(code, text)
        self.code = code
        self.text = text
        self.reply = reply

    def __str__(self):
        if not self.code:
            return self.text
        at = CODES.find("%d " % self.code)
        name = code_text(self.code) + (CODES[at + 3 : CODES.find(",", at)] if at >= 0 else "")
        return name + ": " + self.text if self.text else name


class Timeout(CoapError):
    """No answer came in time."""


class SecurityError(CoapError):
    """There is no session with the peer, or it ended while the request was on its way."""


class Reset(CoapError):
    """The peer answered with a Reset: it could not make sense of the message (RFC 7252 4.2)."""
