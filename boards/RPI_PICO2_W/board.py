"""What the board "RPI_PICO2_W" has: a Raspberry Pi Pico 2 W, an RP2350 with 520 KB of RAM and a radio for Wi-Fi.

The contract of a board.py is in boards/UNIX/README.md. This is the only file of the node that knows the board's pins.
Compiled, not run on hardware.
"""

import machine
import network

from node import chip
from node.wifi import Wifi

name = "RPI_PICO2_W"
runtime = chip.runtime
storage = "state"  # below the root of the flash's littlefs
limits = {}  # the library's defaults: a node of 10 KB

_FULL_SCALE = 65535
_REFERENCE = 3.3  # V, the supply of the converter
# The RP2350's datasheet, 12.4.6: 0.706 V at 27 degrees, 1.721 mV less for each degree more
_V_AT_27 = 0.706
_V_PER_DEGREE = 0.001721


def sensors(config):
    """Return the rows of the contract's table. config: not asked for anything."""
    core = machine.ADC(machine.ADC.CORE_TEMP)
    rows = [("temperature", "Cel", "temperature", "Chip temperature", lambda: _temperature(core))]
    for i in range(3):
        rows.append(_voltage(i))
    return rows + chip.sensors()


def _volts(adc):
    return adc.read_u16() * _REFERENCE / _FULL_SCALE


def _temperature(adc):
    # One step of the converter is half a degree: more digits would say nothing.
    return round(27 - (_volts(adc) - _V_AT_27) / _V_PER_DEGREE, 1)


def _voltage(i):
    adc = machine.ADC(26 + i)
    return ("adc%d" % i, "V", "voltage", "Voltage at GP%d (ADC %d)" % (26 + i, i), lambda: round(_volts(adc), 3))


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
