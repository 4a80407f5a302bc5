"""What the board "ESP32_GENERIC_C3" has: a module with an ESP32-C3, whose radio is part of the chip.

The contract of a board.py is in boards/UNIX/README.md. This is the only file of the node that knows the board's pins.
Compiled, not run on hardware.
"""

import esp32
import machine
import neopixel
import network

from node import chip
from node.wifi import Wifi

name = "ESP32_GENERIC_C3"
runtime = chip.runtime
storage = "state"  # below the root of the flash's file system
limits = {}  # the library's defaults: a node of 10 KB


def sensors(config):
    """Return the rows of the contract's table. config: not asked for anything."""
    return [("temperature", "Cel", "temperature", "Chip temperature", esp32.mcu_temperature)] + chip.sensors()


# --- the actuator: modules have no LED; Espressif's DevKitM-1 and DevKitC-02 have an RGB LED at GPIO 8 ---

led_title = "RGB LED at GPIO 8"
_led = neopixel.NeoPixel(machine.Pin(8, machine.Pin.OUT), 1)


def led_get():
    """Return True while the LED is on."""
    return _led[0] != (0, 0, 0)


def led_set(on):
    """Switch the LED: white, at a tenth of its brightness, which is plenty."""
    _led[0] = (24, 24, 24) if on else (0, 0, 0)
    _led.write()


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
