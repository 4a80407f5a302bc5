"""The site of aiocoap's own server tests: aiocoap_site.py [URI...] offers what they ask for, by default on loopback."""

import asyncio
import sys

from coaplet import CoapError, Node

ANSWERS = {
    0: "It is 42.",
    40: '<data:text/plain,42>;rel="answer"',
    50: '{"answer": 42}',
}
GET, PUT = 1, 3
CREATED, CHANGED, CONTENT, BAD_REQUEST = 65, 68, 69, 128
LOCATION_PATH, LOCATION_QUERY = 8, 20
TWENTY = b"twenty bytes a line\n"

uris = sys.argv[1:] or ["coap://127.0.0.1"]
node = Node(*uris, transfers=4)
replaced = b""


@node.resource("")
def root(request, response):
    response.write("Welcome to the test server")


@node.resource("empty")
def empty(request, response):
    pass


@node.resource("answer", ct=tuple(sorted(ANSWERS)))
def answer(request, response):
    ct = request.uint(17, 0)
    response.payload(ANSWERS[ct], ct)


@node.resource("slow")
async def slow(request, response):
    await asyncio.sleep(0.3)  # the empty ACK comes after 0.2


@node.resource("big", etag=lambda request: b"big")
def big(request, response):
    response.stream(TWENTY for _ in range(512))


@node.resource("slowbig")
async def slow_big(request, response):
    await asyncio.sleep(0.3)
    response.write(TWENTY * 80)


@node.resource("manualbig")
def manual_big(request, response):
    response.write(TWENTY * 80)


@node.resource("replacing/one", "GET PUT POST", body=bytearray(16384))
def replacing(request, response):
    """Each "0" of what is PUT or POSTed becomes an "O"."""
    global replaced
    if request.method == GET:
        response.write(replaced)
        return
    payload = request.payload.replace(b"0", b"O")
    if request.method == PUT:
        replaced = payload
        response.code = CHANGED
    else:
        response.code = CONTENT
        response.write(payload)


@node.resource("error/generic")
def generic(request, response):
    raise RuntimeError("on purpose")


@node.resource("error/pretty")
def pretty(request, response):
    raise CoapError(BAD_REQUEST, "on purpose")


@node.resource("error/double")
def double(request, response):
    """An error that cannot be written as a response."""
    raise CoapError("on purpose", "on purpose")


@node.resource("create/", "POST")
def create(request, response):
    response.code = CREATED
    for segment in "create", "here", "":
        response.option(LOCATION_PATH, segment)
    for query in "this=this", "that=that":
        response.option(LOCATION_QUERY, query)


@node.resource("whoami")
def whoami(request, response):
    response.text("Request came from %s.\nNo claims authenticated." % request.remote)


async def main():
    async with node:
        print("READY " + " ".join([node.address(i) for i in range(len(uris))]))
        await asyncio.Event().wait()


asyncio.run(main())
