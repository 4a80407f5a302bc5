# One log record, sent over coaps: what a node does from its start to its end, on MicroPython or CPython (session.py).
#
#     one_log_probe.py URI IDENTITY KEY(hex)
#
# Prints "answer CODE TEXT", or "failed WHY".

import asyncio
import sys

from coaplet import CoapError, Node, code_text


async def main(uri, identity, key):
    key = bytes([int(key[i : i + 2], 16) for i in range(0, len(key), 2)])
    async with Node() as node:
        try:
            collector = await node.connect(uri, psk=(identity, key), timeout_ms=20000)
            reply = await collector.post(
                "logs",
                '{"level":"info","module":"capture","msg":"hello","node":"%s","boot":1,"seq":1}' % identity,
                ct=50,
                timeout_ms=10000,
            )
            print("answer", code_text(reply.code), reply.text())
            collector.close()
        except (CoapError, OSError, ImportError) as error:
            print("failed", error)


asyncio.run(main(*sys.argv[1:]))
