"""A server driven by hand, sans I/O, whose handlers say which resource they serve."""

from helpers import ACK, CON, NON, message, path, read
from net import Host, Network

GET = 1
NOT_FOUND = 132


class Site(Host):
    """A host whose handlers answer with the pattern they serve, and note it in .calls; errors are kept in .errors."""

    def __init__(self, *patterns, **limits):
        super().__init__("s", Network(), **limits)
        self.calls = []
        self.errors = []
        self.mid = 0
        self.serve("there", lambda request, response: self.calls.append("there"))
        self.server.on_error = lambda resource, error: self.errors.append((resource.path, error))
        for pattern in patterns:
            self.add(pattern)

    def add(self, pattern, **how):
        def handler(request, response):
            self.calls.append(pattern)
            response.text(pattern)

        self.serve(pattern, handler, **how)

    def ask(self, options, code=GET, kind=CON, payload=b""):
        """(code, payload) of the reply to a request with a path or options; (None, b"") for none."""
        self.mid += 1
        options = path(options) if isinstance(options, str) else options
        sent = self.receive(message(kind, code, self.mid, b"tk", options, payload))
        assert len(sent) <= 1
        if not sent:
            return None, b""
        reply = read(sent[0][0])
        assert reply[0] == (ACK if kind == CON else NON) and reply[3] == b"tk" and (kind == NON or reply[2] == self.mid)
        self.options = reply[4]
        return reply[1], reply[5]

    def served(self, text):
        """Which pattern serves a path."""
        code, payload = self.ask(text)
        assert code in (69, NOT_FOUND)
        return payload.decode() if code == 69 else None
