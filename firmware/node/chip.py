"""What boards on which MicroPython runs by itself have in common: memory, disk, uptime, clock, why it started.

For a board.py, which gives its port's `machine`: there is no test of a platform here. boards/UNIX does without: its
kernel knows all this.
"""

import gc
import os
import sys
import time

from coaplet.port import ticks_add, ticks_diff, ticks_ms

runtime = "%s %d.%d.%d" % ((sys.implementation.name,) + tuple(sys.implementation.version[:3]))

# ms since 1970 at which the port's clock counts from: 2000 on some
_EPOCH_MS = 946684800000 if time.gmtime(0)[0] == 2000 else 0
_2024 = 1704067200000

_up = 0  # s
_seen = ticks_ms()


def sensors():
    """Return the rows that any board has, as the contract says (boards/UNIX/README.md)."""
    return [
        ("memory-free", "B", "memory", "Free memory", gc.mem_free),
        ("disk-free", "B", "disk", "Free flash", _disk_free),
        ("uptime", "s", "uptime", "Board uptime", _uptime),
    ]


def analog(machine):
    """Return the rows of an RP2040 or RP2350: the chip's temperature, and GP26 to GP28. machine: the port's module."""
    core = machine.ADC(machine.ADC.CORE_TEMP)
    rows = [("temperature", "Cel", "temperature", "Chip temperature", lambda: _temperature(core))]
    for i in range(3):
        rows.append(_voltage(i, machine.ADC(26 + i)))
    return rows


def _volts(adc):
    return adc.read_u16() * 3.3 / 65535  # the supply is the converter's reference


def _temperature(adc):
    # 0.706 V at 27 degrees, 1.721 mV less for each degree more (datasheets: RP2040 4.9.5, RP2350 12.4.6). One step of
    # the converter is half a degree: more digits would say nothing.
    return round(27 - (_volts(adc) - 0.706) / 0.001721, 1)


def _voltage(i, adc):
    return ("adc%d" % i, "V", "voltage", "Voltage at GP%d (ADC %d)" % (26 + i, i), lambda: round(_volts(adc), 3))


def clock():
    """Return ms since 1970-01-01 UTC, or None while it is not known."""
    now = time.time_ns() // 1000000 + _EPOCH_MS
    # Without power clocks start in 2000 or 2021; before this firmware is before 2024.
    return now if now > _2024 else None


def reset_cause(machine):
    """Return why the board started, as a word, or None when it cannot tell. machine: the port's module."""
    cause = machine.reset_cause()
    for name, word in (
        ("PWRON_RESET", "power"),
        ("HARD_RESET", "reset"),
        ("WDT_RESET", "watchdog"),
        ("DEEPSLEEP_RESET", "sleep"),
        ("SOFT_RESET", "restart"),
    ):
        if getattr(machine, name, None) == cause:
            return word
    return None


def reset(machine, sleep=time.sleep):
    """Start the board again, 10 s later.

    What has ended the node may end it again at once: each start costs a write to the flash (boot.json), and it is in
    this time that a person at the console gets in, with Ctrl-C.
    """
    sleep(10)
    machine.reset()


def _disk_free():
    about = os.statvfs("/")
    return about[0] * about[3]  # f_bsize * f_bfree


def _uptime():
    # The ticks wrap after 12 days; whoever asks at least every 6 days misses none, as clock.py does.
    global _up, _seen
    passed = ticks_diff(ticks_ms(), _seen) // 1000
    _up += passed
    _seen = ticks_add(_seen, passed * 1000)
    return _up
