"""What the board "RPI_PICO" has: a Raspberry Pi Pico, an RP2040 with 264 KB of RAM and no radio.

The contract of a board.py is in boards/UNIX/README.md. This is the only file of the node that knows the Pico's pins.
Proven in the emulator (rp2040py); on a real board nobody has run it yet.
"""

import gc
import os
import sys
import time
from time import ticks_diff, ticks_ms

import machine

name = "RPI_PICO"
runtime = "%s %d.%d.%d" % ((sys.implementation.name,) + tuple(sys.implementation.version[:3]))
storage = "state"  # below the root of the flash's littlefs
limits = {}  # the library's defaults: a node of 10 KB, of the 235 KB of heap that are free at boot

_FULL_SCALE = 65535
_REFERENCE = 3.3  # V, the supply of the converter
# The RP2040's datasheet, 4.9.5: 0.706 V at 27 degrees, 1.721 mV less for each degree more
_V_AT_27 = 0.706
_V_PER_DEGREE = 0.001721


def sensors(config):
    """Return the rows of the contract's table. config: not asked for anything."""
    chip = machine.ADC(4)
    rows = [("temperature", "Cel", "temperature", "Chip temperature", lambda: _temperature(chip))]
    for i in range(3):
        rows.append(_voltage(i))
    rows += [
        ("memory-free", "B", "memory", "Free memory", _memory_free),
        ("disk-free", "B", "disk", "Free flash", _disk_free),
        ("uptime", "s", "uptime", "Board uptime", _uptime),
    ]
    return rows


def _volts(adc):
    return adc.read_u16() * _REFERENCE / _FULL_SCALE


def _temperature(adc):
    # One step of the converter is half a degree: more digits would say nothing.
    return round(27 - (_volts(adc) - _V_AT_27) / _V_PER_DEGREE, 1)


def _voltage(i):
    adc = machine.ADC(26 + i)
    return ("adc%d" % i, "V", "voltage", "Voltage at GP%d (ADC %d)" % (26 + i, i), lambda: round(_volts(adc), 3))


def _memory_free():
    return gc.mem_free()


def _disk_free():
    about = os.statvfs("/")
    return about[0] * about[3]  # f_bsize * f_bfree


_up = 0  # s
_seen = ticks_ms()


def _uptime():
    # The ticks wrap after 12 days; whoever asks at least every 6 days misses none, as node/clock.py does.
    global _up, _seen
    passed = ticks_diff(ticks_ms(), _seen) // 1000
    _up += passed
    _seen = time.ticks_add(_seen, passed * 1000)
    return _up


# --- the actuator ---

led_title = "LED"
_led = machine.Pin(25, machine.Pin.OUT)


def led_get():
    """Return True while the LED is on."""
    return bool(_led.value())


def led_set(on):
    """Switch the LED."""
    _led.value(1 if on else 0)


# --- power, radio, and the wire ---

battery = None
signal = None


def uart(baudrate=115200):
    """Return the serial line: UART 0, out at GP0 (pin 1), in at GP1 (pin 2), with room for a datagram each way."""
    return machine.UART(0, baudrate, tx=machine.Pin(0), rx=machine.Pin(1), txbuf=1280, rxbuf=1280)


# --- time ---


def clock():
    """Return ms since 1970-01-01 UTC, or None while it is not known."""
    now = time.time_ns() // 1000000
    # The clock starts in 2021 at each power-up; before this firmware is before 2024.
    return now if now > 1704067200000 else None


# --- the board itself ---


async def connect(config):
    """Bring the network up; there is none."""


def reset_cause():
    """Return why the board started, as a word, or None when it cannot tell."""
    return {machine.PWRON_RESET: "power", machine.WDT_RESET: "watchdog"}.get(machine.reset_cause())


def reset():
    """Start the board again."""
    machine.reset()
