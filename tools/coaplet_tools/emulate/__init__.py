"""An emulated Raspberry Pi Pico: the image of `make firmware` in rp2040py, for tests, for measuring, to try a board.

    chip.py     the board: boots an image, runs scripts on it, streams its console; its UART, repaired and paced
    flash.py    the littlefs in its flash: made from files, read
    console.py  its USB console, as a pty
    session.py  make emulate: flash, board, sockets, and the two clocks
    launch.py   build/bin/micropython-rp2040: the device tests of one module, as the unix ports' launchers run them
    bridge.py   CoAP between the board's serial line and UDP
    __main__.py make emulate

Nothing here is needed by what runs on a board.
"""

import sys

from coaplet_tools.setup.emulator import NATIVE

# Before anything imports rp2040py
if NATIVE.exists() and "rp2040py" not in sys.modules:
    sys.path.insert(0, str(NATIVE))
