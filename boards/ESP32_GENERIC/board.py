"""What the board "ESP32_GENERIC" has: a module with an ESP32 (WROOM, WROVER, MINI), its radio in the chip.

The contract of a board.py is in boards/UNIX/README.md. This is the only file of the node that knows the board's pins.
Compiled, not run on hardware.
"""

import esp32
import machine
import network

from node import chip
from node.wifi import Wifi

name = "ESP32_GENERIC"
runtime = chip.runtime
storage = "state"  # below the root of the flash's file system
limits = {}  # the library's defaults: a node of 10 KB


def sensors(config):
    """Return the rows of the contract's table. config: not asked for anything."""
    return [("temperature", "Cel", "temperature", "Chip temperature", _temperature)] + chip.sensors()


def _temperature():
    # In degrees Fahrenheit, uncalibrated: it differs by several degrees from chip to chip, and shows changes.
    return round((esp32.raw_temperature() - 32) / 1.8, 1)


# --- the actuator: modules have no LED; many boards have one at GPIO 2, which is free on all others ---

led_title = "LED at GPIO 2"
_led = machine.Pin(2, machine.Pin.OUT)


def led_get():
    """Return True while the LED is on."""
    return bool(_led.value())


def led_set(on):
    """Switch the LED."""
    _led.value(1 if on else 0)


# --- power and radio ---

battery = None
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
