# The numbers of CoAP's registries that this library knows, and the errors that carry them.

# Types (RFC 7252 3)
CON = 0
NON = 1
ACK = 2
RST = 3

# Methods and response codes: class << 5 | detail (RFC 7252 12.1, RFC 8132 6, RFC 7959 6, RFC 8516 6)
GET = 1
POST = 2
PUT = 3
DELETE = 4
FETCH = 5
PATCH = 6
IPATCH = 7
CREATED = 65
DELETED = 66
VALID = 67
CHANGED = 68
CONTENT = 69
CONTINUE = 95
BAD_REQUEST = 128
UNAUTHORIZED = 129
BAD_OPTION = 130
FORBIDDEN = 131
NOT_FOUND = 132
METHOD_NOT_ALLOWED = 133
NOT_ACCEPTABLE = 134
PRECONDITION_FAILED = 140
TOO_LARGE = 141
UNSUPPORTED_FORMAT = 143
TOO_MANY_REQUESTS = 157
INTERNAL = 160
NOT_IMPLEMENTED = 161
BAD_GATEWAY = 162
UNAVAILABLE = 163
GATEWAY_TIMEOUT = 164
NO_PROXYING = 165

# Options (RFC 7252 5.10)
URI_HOST = 3
ETAG = 4
URI_PORT = 7
URI_PATH = 11
CONTENT_FORMAT = 12
MAX_AGE = 14
URI_QUERY = 15
ACCEPT = 17
SIZE1 = 60

_NAMES = (
    "128 Bad Request,129 Unauthorized,130 Bad Option,131 Forbidden,132 Not Found,133 Method Not Allowed,"
    "134 Not Acceptable,136 Request Entity Incomplete,140 Precondition Failed,141 Request Entity Too Large,"
    "143 Unsupported Content-Format,157 Too Many Requests,160 Internal Server Error,161 Not Implemented,"
    "162 Bad Gateway,163 Service Unavailable,164 Gateway Timeout,165 Proxying Not Supported,"
)


def code_text(code):
    """Write a code as RFC 7252 does: 69 is "2.05"."""
    return "%d.%02d" % (code >> 5, code & 31)


class CoapError(Exception):
    """A request that did not succeed.

    code: the response code (NOT_FOUND, ...), or 0 where there was no response. A handler that raises it answers with
    the code and, as diagnostic payload (RFC 7252 5.5.2), the text. reply: the response as a client got it, or None.
    """

    def __init__(self, code, text="", reply=None):
        super().__init__(code, text)
        self.code = code
        self.text = text
        self.reply = reply

    def __str__(self):
        if not self.code:
            return self.text
        at = _NAMES.find("%d " % self.code)
        name = code_text(self.code) + (_NAMES[at + 3 : _NAMES.find(",", at)] if at >= 0 else "")
        return name + ": " + self.text if self.text else name


class Timeout(CoapError):
    """No answer came in time."""


class Reset(CoapError):
    """The peer answered with a Reset: it could not make sense of the message (RFC 7252 4.2)."""
