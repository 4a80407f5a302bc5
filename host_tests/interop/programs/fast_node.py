"""The node of firmware/, on MicroPython's unix port, in a time that runs SPEED times as fast: fast_node.py SPEED STATE.

Its clock, its timers and the library's are the same clock, and all of it runs faster; the world's network does not.
"""

import sys

if ".frozen" not in sys.path:
    sys.path.append(".frozen")

import time

SPEED = int(sys.argv[1])
_MASK = time.ticks_add(0, -1)  # pyright: ignore[reportAttributeAccessIssue]
_ticks_ms = time.ticks_ms  # pyright: ignore[reportAttributeAccessIssue]


def ticks_ms():
    return _ticks_ms() * SPEED & _MASK


import coaplet.port

coaplet.port.ticks_ms = ticks_ms

import asyncio.core  # pyright: ignore[reportMissingImports]

asyncio.core.ticks = ticks_ms
_wait = asyncio.core.IOQueue.wait_io_event
asyncio.core.IOQueue.wait_io_event = lambda self, ms: _wait(self, ms if ms < 0 else ms // SPEED)

import board  # pyright: ignore[reportMissingImports]
from node.app import App
from node.log import console

board.ticks_ms = ticks_ms
try:
    asyncio.run(App(board, sys.argv[2]).run())
except KeyboardInterrupt:
    console("node: stopped")
