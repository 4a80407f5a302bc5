# A coaplet server for programs that nobody here wrote: server.py PATHS DRIVER LIMITS URI...
#
# PATHS go in front of sys.path, with colons between; DRIVER is node (asyncio) or loop (select.poll alone, no async
# resources); LIMITS are the driver's arguments as JSON. In place of the URIs there may be the number of an open file, a
# serial line. Prints "READY" and its addresses, then serves until it is killed. Runs unchanged on CPython and
# MicroPython.
#
# For coaps:// URIs LIMITS have psk, and may have dtls.

import json
import sys

for path in reversed(sys.argv[1].split(":")):
    sys.path.insert(0, path)

from keylog import describe_session, log_keys

from coaplet import CHANGED, CREATED, NOT_FOUND, CoapError, Loop, Node

DRIVER = sys.argv[2]
LONG_PATH = "/".join("s%02d" % i for i in range(1, 15))
LARGE = "".join("%04d-" % i for i in range(200))  # 1000 bytes

listen = sys.argv[4:]
limits = json.loads(sys.argv[3])
log_keys()
if "hint" in limits.get("dtls", ()):
    limits["dtls"]["hint"] = limits["dtls"]["hint"].encode()
if listen[0].isdigit():
    from coaplet.serial import Serial

    limits["transports"] = (Serial(open(int(listen.pop()), "r+b", buffering=0), 1152),)
driver = (Node if DRIVER == "node" else Loop)(*listen, **limits)
stored = {}
counts = {}


def note(name):
    counts[name] = counts.get(name, 0) + 1
    return "%s %d" % (name, counts[name])


@driver.resource("text", rt="sample", title="plain text", ct=0)
def text(request, response):
    response.option(4, b"\x01\xfe")  # ETag
    response.option(14, 70000)  # Max-Age
    response.text("h\u00e9llo w\u00f6rld")


@driver.resource("json", ct=50)
def json_(request, response):
    response.json({"driver": DRIVER, "list": [1, 2, 3]})


@driver.resource("nothing")
def nothing(request, response):
    pass


@driver.resource("large", methods="GET POST")
def large(request, response):
    if request.method == 2:
        note("large")
    response.text(LARGE)


@driver.resource(LONG_PATH)
def long_path(request, response):
    response.text(request.path)


@driver.resource("echo", methods="POST", ct=(0, 42, 50))
def echo(request, response):
    response.payload(request.payload, request.content_format)


@driver.resource("inspect/*", methods="GET POST PUT DELETE")
def inspect(request, response):
    seen = {"method": request.method, "path": request.path, "query": request.query}
    seen["size"] = request.payload_size
    option = request.option(2050)
    if option is not None:
        seen["2050"] = [len(option), sum(option)]
    response.json(seen)


@driver.resource("store/*", methods="GET PUT DELETE")
def store(request, response):
    path = request.path
    if request.method == 3:
        response.code = CHANGED if path in stored else CREATED
        stored[path] = (request.payload, request.content_format)
    elif path not in stored:
        raise CoapError(NOT_FOUND, "not stored: " + path)
    elif request.method == 1:
        response.payload(*stored[path])
    else:
        del stored[path]


@driver.resource("count", methods="GET POST")
def count(request, response):
    if request.method == 1:
        response.json(counts)
    else:
        response.text(note(request.text()))


@driver.resource("counters")
def counters(request, response):
    c = driver.counters
    response.text("\n".join(["%s %d" % (name, getattr(c, name)) for name in NAMES]))


@driver.resource("session")
def session(request, response):
    """Tell what session the request came by."""
    response.json(describe_session(driver.transports[0], request.peer))


NAMES = "received sent requests retransmissions duplicates malformed unexpected timeouts resets faults".split()


@driver.resource("fault")
def fault(request, response):
    raise ValueError("on purpose")


async def slow(request, response):
    """Answer after ?MS ms: later than the ACK may be held back, unless MS is small."""
    await asyncio.sleep(int(request.query[0]) / 1000 if request.query else 0.3)
    if request.method == 2:
        response.text(note(request.text()))
    else:
        response.text("slow, but here")


async def never(request, response):
    await asyncio.sleep(3600)


def ready():
    print("READY", *[driver.address(i) for i in range(len(sys.argv) - 4)])
    if hasattr(sys.stdout, "flush"):
        sys.stdout.flush()


async def serve():
    async with driver:
        ready()
        while True:
            await asyncio.sleep(3600)


if DRIVER == "node":
    import asyncio

    driver.resource("slow", methods="GET POST")(slow)
    driver.resource("never")(never)
    asyncio.run(serve())
else:
    driver.open()
    ready()
    driver.run_forever()
