"""The server of the ETSI plugtests: plugtest_server.py [URI...] [PERIOD_MS] offers what their test cases ask for.

Without a URI it listens at coap://0.0.0.0. PERIOD_MS: how often the observable resources change, 5000 in the tests; it
also bounds ACK_TIMEOUT, so that a short one makes a quick run. At a coaps:// URI there is /secure, too, for PSK below.
"""

import asyncio
import sys
from binascii import crc32

from coaplet import CoapError, Node
from coaplet.port import ticks_diff, ticks_ms

PSK = {"Client_identity": "secretPSK"}
GET, POST, PUT, DELETE = 1, 2, 3, 4
CREATED, DELETED, CHANGED, UNAUTHORIZED, NOT_FOUND = 65, 66, 68, 129, 132
LOCATION_PATH, MAX_AGE, ACCEPT, LOCATION_QUERY = 8, 14, 17, 20
LOCATION = ("location1", "location2", "location3")
LARGE = "".join(["%04d: a line with 40 bytes of the state\n" % i for i in range(40)])

args = sys.argv[1:]
period_ms = int(args.pop()) if args and args[-1].isdigit() else 5000
uris = args or ["coap://0.0.0.0"]
node = Node(*uris, psk=PSK, transfers=6, async_slots=4, ack_timeout_ms=min(2000, period_ms))
began = ticks_ms()


def state():
    """The number of the state that the observable resources are in."""
    return ticks_diff(ticks_ms(), began) // period_ms


class Stored:
    """A resource that holds what was last PUT or POSTed, before that `first`. None: nothing is there."""

    def __init__(self, path, methods, first, location=(), etag=False, **kwargs):
        self.location = location
        self.first = first
        self.delete()
        node.resource(path, methods, etag=self.tag if etag else None, **kwargs)(self.serve)

    def delete(self):
        self.value, self.ct = self.first, 0

    def tag(self, request):
        return None if self.value is None else b"%08x" % (crc32(self.value) & 0xFFFFFFFF)

    def serve(self, request, response):
        if request.method == GET:
            if self.value is None:
                raise CoapError(NOT_FOUND)
            response.payload(self.value, self.ct)
            response.option(MAX_AGE, 30)
        elif request.method == DELETE:
            self.delete()
        else:
            self.store(request, response, self.value is None or request.method == POST)

    def store(self, request, response, new=True):
        response.code = CREATED if new else CHANGED
        self.value, self.ct = request.payload, request.content_format or 0
        for segment in self.location if new else ():
            response.option(LOCATION_PATH, segment)


class Observed(Stored):
    """/obs: its state is what was PUT last, for one period or two, or else a number."""

    changed_at = -9
    gone_until = 0

    def serve(self, request, response):
        now = state()
        if request.method == GET:
            if now < self.gone_until:
                raise CoapError(NOT_FOUND)
            show(response, self.value if now - self.changed_at < 2 else "", self.ct)
            return
        super().serve(request, response)
        if request.method == DELETE:  # it comes back by itself, or with a PUT
            self.gone_until = now + 3
        else:
            self.changed_at, self.gone_until = now, 0
        node.changed("obs")


def show(response, text, ct=0, periods=1):
    """Answer with a state that lasts for so many periods; without a text it is a number."""
    response.payload(text or "%d" % state(), ct)
    response.option(MAX_AGE, 1 + periods * period_ms // 1000)


def text(path, text, ct=0, **kwargs):
    """Serve a text that stays as it is."""
    node.resource(path, ct=ct, **kwargs)(lambda request, response: response.payload(text, ct))


text("", "coaplet: a server for the ETSI plugtests")
Stored("test", "GET POST PUT DELETE FETCH PATCH IPATCH", b"a test", LOCATION)
Stored("validate", "GET PUT", b"valid", etag=True)
for path in "create1", "create2", "create3":
    Stored(path, "GET POST PUT DELETE", None, LOCATION, etag=True)
text("large", LARGE, sz=len(LARGE))
Stored("large-update", "GET PUT", LARGE.encode(), body=bytearray(16384))
made = Stored("large-create/x", "GET DELETE", None, ("large-create", "x"))  # the next one takes its place
node.resource("large-create", "POST", body=bytearray(2048))(made.store)
text("seg1/seg2/seg3", "three segments")
for number, rt, if_ in ((1, "Type1 Type2", "If1"), (2, "Type2 Type3", "If2"), (3, "Type1 Type3", "foo"), (4, "", "")):
    text("link%d" % number, "a link", rt=rt, if_=if_)
text("path", "</path/sub1>,</path/sub2>,</path/sub3>", 40)
for path in "path/sub1", "path/sub2", "path/sub3":
    text(path, "at /" + path)
Observed("obs", "GET PUT DELETE", b"observed", observe=True, every_ms=period_ms)
node.resource("obs-non", observe=20, every_ms=period_ms)(lambda request, response: show(response, ""))


@node.resource("obs-large", observe=True, every_ms=4 * period_ms)  # its blocks are to be fetched before the next state
def obs_large(request, response):
    show(response, "%d\n%s" % (state() // 4, LARGE), periods=4)


@node.resource("obs-pumping", observe=True, every_ms=4 * period_ms)
def obs_pumping(request, response):
    n = state() // 4
    show(response, "%d\n%s" % (n, LARGE if n & 1 else "a small state"), periods=4)


@node.resource("obs-reset", "POST")
def obs_reset(request, response):
    for observer in node.server.observers._slots:  # as after a reboot: nobody is told
        node.server.observers.free(observer)


@node.resource("separate", ct=0)
async def separate(request, response):
    await asyncio.sleep(max(300, min(1000, period_ms)) / 1000)
    response.text("it took a while")


@node.resource("large-post", "POST", body=bytearray(2048))
def large_post(request, response):
    response.payload(request.payload, request.content_format)
    response.write(LARGE)


@node.resource("query", ct=0)
def query(request, response):
    response.text("&".join(request.query) or "no query")


@node.resource("location-query", "POST")
def location_query(request, response):
    response.code = CREATED
    response.option(LOCATION_QUERY, "first=1")
    response.option(LOCATION_QUERY, "second=2")


@node.resource("multi-format", ct=(0, 41, 50))
def multi_format(request, response):
    ct = request.uint(ACCEPT, 0)
    response.payload({0: "plain", 41: "<markup/>", 50: '{"object":1}'}[ct], ct)


if "coaps:" in " ".join(uris):

    @node.resource("secure", ct=0)
    def secure(request, response):
        if not request.transport.secure:
            raise CoapError(UNAUTHORIZED, "over DTLS only")
        response.text("a secret")


async def main():
    async with node:
        print("READY " + " ".join([node.address(i) for i in range(len(uris))]))
        await asyncio.Event().wait()


asyncio.run(main())
