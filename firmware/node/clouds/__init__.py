"""Clouds: how records become requests, and what is watched, at each kind of server. One file for each.

The configuration's `cloud` names the file, and `collector` the server. The sender (sender.py) brings the records; it
asks its cloud for

    connect(remote)      what comes before the first record over a remote; a coroutine
    request(records)     the request that brings one record, or a batch of readings
    keep_alive(remote)   what keeps the way back open while there is nothing to send; a coroutine

and a cloud is told, once, to watch(watches): add the paths whose news change the node, which are

    settings             the node's configuration (settings.py)
    rpc                  calls of its methods (rpc.py)
    state                values that are wanted and reported (state.py)
    update               the firmware that is wanted (update.py)

Nothing is watched where somebody on the way could change what is told: at coap:// unless the configuration has
`allow_plain`. A new cloud is a file with a class Cloud that has what differs from Base, and its name in schema.CLOUDS;
what it needs of the configuration is in schema.NEEDS.
"""

import json

from ..records import LOGS

POST = 2
PUT = 3
TEXT = 0
JSON = 50
CBOR = 60
SHUT_OUT = (129, 131)  # 4.01, 4.03: who is answered so begins anew, and keeps what he has


class Base:
    """node: the App, or what has its config, clock, settings, rpc, state, update.

    Attributes: payload_max, bytes of a request's payload; batch, how many readings a request may have; pace_ms, the
    least time from one request to the next.
    """

    payload_max = 1024
    batch = 1
    pace_ms = 0

    def __init__(self, node):
        self.node = node
        self.config = node.config.running

    async def connect(self, remote):
        """Do what comes before the first request over a remote. Raises CoapError."""

    def request(self, records):
        """Return (method, path, payload, Content-Format) of a request. records: [(path, JSON bytes)], one, or readings.

        path: `logs`, or `.s/NAME` of a reading (records.py).
        """
        raise NotImplementedError

    async def keep_alive(self, remote):
        """Exchange something small with the server, a ping. Raises CoapError where it did not answer."""
        await remote.ping(self.config["answer_ms"])

    def watch(self, watches):
        """Add what is to be watched. watches: a Watches."""

    def run(self, call, answer):
        """Run a call, {"id","method","params"}, where ids come again; answer(id, status, detail as JSON text).

        A call is the same as the last one, and is not run again, if all of it is the same. What is no call, or has an
        id that cannot be a segment of a path, is passed over.
        """
        id = call.get("id") if isinstance(call, dict) else None
        if isinstance(id, int) or isinstance(id, str) and 0 < len(id) <= 32 and id not in (".", ".."):
            method = call.get("method")
            params = call.get("params")
            same = json.dumps([id, method, params])
            self.node.rpc.call(same, method, params, lambda _, status, detail: answer(id, status, detail))


def make(node):
    """Return the Cloud that a node's configuration names. Raises OSError where this image has none of that name."""
    name = node.config.running["cloud"]
    try:
        module = __import__("node.clouds." + name, None, None, ("Cloud",))
    except ImportError:
        raise OSError("cloud: this image has no " + name)
    return module.Cloud(node)


def name_of(path):
    """Return the name of the sensor whose readings have this path, or None for a log."""
    return None if path == LOGS else path[3:]


def quoted(text):
    """Return a text percent-encoded (RFC 3986 2.1), to be a segment of a path or the value of a query."""
    return "".join([chr(b) if b in _PLAIN else "%%%02X" % b for b in text.encode()])


def filled(template, node, path, body):
    """Return what a template says for a record: {node}; {kind}, log or reading; {name}, a sensor's or a log's level."""
    name = name_of(path)
    values = (("{node}", node), ("{kind}", "reading"), ("{name}", name))
    if name is None:
        values = (("{node}", node), ("{kind}", "log"), ("{name}", json.loads(body)["level"]))
    for word, value in values:
        template = template.replace(word, quoted(value))
    return template


_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
