"""An emulated Raspberry Pi Pico or Pico W in rp2040py, for tests, for measuring, to try a board.

    models.py   the two boards: their images, what is on their flash, what differs
    chip.py     the board: boots an image, runs scripts on it, streams its console; its UART, repaired and paced
    usb.py      the host's end of its USB, and the raw REPL there
    flash.py    the littlefs in its flash: made from files, read
    console.py  its USB console, as a pty
    session.py  make emulate: flash, board, link, and the two clocks
    launch.py   build/bin/micropython-rp2040: the device tests of one module, as the unix ports' launchers run them
    link.py     what carries datagrams between UDP sockets and the board:
    serial_link.py, bridge.py   its serial line, and CoAP between that and UDP
    wifi_link.py, radio.py      a Pico W's radio, and the network behind its access point
    __main__.py make emulate

Nothing here is needed by what runs on a board.
"""

import sys

from coaplet_tools.setup.emulator import NATIVE

# Before anything imports rp2040py
if NATIVE.exists() and "rp2040py" not in sys.modules:
    sys.path.insert(0, str(NATIVE))
