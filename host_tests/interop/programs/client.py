# A coaplet client for programs that nobody here wrote: client.py PATHS DRIVER LIMITS URI < STEPS
#
# PATHS, DRIVER, LIMITS: as of server.py. URI: or the number of an open file, a serial line. STEPS is a line with a JSON
# list (MicroPython's arguments end at 255 bytes). A step is a request or, for node, a list of requests to be made at
# once; or {"wait_ms": n}: serve for so long. A request has the arguments of Remote.request() with the method as text,
# or "ping". Prints a line of JSON for each step, what it came to, and one of counters. Runs unchanged on CPython and
# MicroPython.
#
# LIMITS may have, besides: psk, [identity, key] for a coaps:// URI; connect_ms, for how long node waits for a session:
# where there is none, a line says why, and no step is done. {"session": true} as a step prints what the session is,
# {"end": why} ends it, and the Remote begins another one by itself.

import json
import sys

for path in reversed(sys.argv[1].split(":")):
    sys.path.insert(0, path)

from keylog import describe_session, log_keys

from coaplet import CoapError, Loop, Node, SecurityError, code_text

METHODS = ("GET", "POST", "PUT", "DELETE")
SHOWN = (4, 8, 12, 14, 23, 28, 60)  # options of a response
COUNTERS = "received sent requests responses retransmissions duplicates malformed unexpected timeouts resets faults"


def call(remote, step):
    kwargs = dict(step)
    method = kwargs.pop("method")
    if method == "ping":
        return remote.ping(**kwargs)
    if "hex" in kwargs:
        kwargs["payload"] = bytes.fromhex(kwargs.pop("hex"))
    return remote.request(METHODS.index(method) + 1, **kwargs)


def describe(reply):
    if not hasattr(reply, "code"):
        return {"pong": reply >= 0}
    options = {str(n): [value.hex() for value in reply.options(n)] for n in SHOWN if reply.option(n) is not None}
    return {"code": code_text(reply.code), "payload": reply.payload.hex(), "options": options}


def failure(error):
    return {"error": type(error).__name__, "code": code_text(error.code), "text": error.text}


def show(result):
    print(json.dumps(result))


async def attempt(remote, step):
    try:
        result = describe(await call(remote, step))
    except CoapError as error:
        result = failure(error)
    result["ms"] = node.now()
    return result


async def asynchronous(uri, steps):
    async with node:
        try:
            remote = node.remote(line, line.peer) if line else await node.connect(uri, **connecting)
        except SecurityError as error:
            show(failure(error))
            return
        for step in steps:
            if isinstance(step, list):
                show(await asyncio.gather(*[attempt(remote, request) for request in step]))
            elif "wait_ms" in step:
                await asyncio.sleep(step["wait_ms"] / 1000)
                show(None)
            elif "session" in step:
                show(describe_session(remote.transport, remote.peer))
            elif "end" in step:
                show(remote.transport.end(remote.peer, step["end"]))
            else:
                show(await attempt(remote, step))


def plain(uri, steps):
    node.open()
    connecting.pop("timeout_ms", None)  # the first request waits
    remote = node.remote(line, line.peer) if line else node.connect(uri, **connecting)
    for step in steps:
        if "wait_ms" in step:
            start = node.now()
            while node.now() - start < step["wait_ms"]:
                node.poll(10)
            show(None)
        elif "session" in step:
            show(describe_session(remote.transport, remote.peer))
        else:
            show(node.run(attempt(remote, step)))
    node.close()


driver, limits, uri = sys.argv[2:]
limits = json.loads(limits)
log_keys()
connecting = {}
if "psk" in limits:
    connecting["psk"] = limits.pop("psk")
if "connect_ms" in limits:
    connecting["timeout_ms"] = limits.pop("connect_ms")
steps = json.loads(sys.stdin.readline())
line = None
if uri.isdigit():
    from coaplet.serial import Serial

    line = Serial(open(int(uri), "r+b", buffering=0), 1152)
node = (Node if driver == "node" else Loop)(transports=(line,) if line else (), **limits)
if driver == "node":
    import asyncio

    asyncio.run(asynchronous(uri, steps))
else:
    plain(uri, steps)
show({name: getattr(node.counters, name) for name in COUNTERS.split()})
