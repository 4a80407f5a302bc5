"""What the board "RPI_PICO_W" has: a Raspberry Pi Pico W, an RP2040 with 264 KB of RAM and a radio for Wi-Fi.

The contract of a board.py is in boards/UNIX/README.md. This is the only file of the node that knows the board's pins.
Compiled, not run on hardware; in the emulator (rp2040py) it runs.
"""

import machine
import network

from node import chip
from node.wifi import Wifi

name = "RPI_PICO_W"
runtime = chip.runtime
storage = "state"  # below the root of the flash's littlefs
limits = {}  # the library's defaults: a node of 10 KB, of about 200 KB of heap that are free with Wi-Fi up


def sensors(config):
    """Return the rows of the contract's table. config: not asked for anything."""
    return chip.analog(machine) + chip.sensors()


# --- the actuator: the LED hangs on the radio's chip, and works whether it has joined or not ---

led_title = "LED"
_led = machine.Pin("LED", machine.Pin.OUT)


def led_get():
    """Return True while the LED is on."""
    return bool(_led.value())


def led_set(on):
    """Switch the LED."""
    _led.value(1 if on else 0)


# --- power and radio ---

battery = None  # the supply's voltage shares its pin, GP29, with the radio
_wifi = Wifi(network)
connect = _wifi.connect
signal = _wifi.signal

# --- time, and the board itself ---

clock = chip.clock
ticks_ms = chip.ticks_ms
ticks_diff = chip.ticks_diff


def reset_cause():
    """Return why the board started, as a word, or None when it cannot tell."""
    return chip.reset_cause(machine)


def reset():
    """Start the board again."""
    chip.reset(machine)
