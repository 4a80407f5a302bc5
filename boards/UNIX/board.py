"""What the board "UNIX" has: a Linux machine, as MicroPython's unix port or CPython sees it.

Each boards/<BOARD>/board.py offers the names below and nothing else is asked of it; README.md is
their contract. This is the only file of the node that knows a Linux path. Sensors are the machine's
own, each listed only if it can be read when the node starts, and the simulated climate sensor.
"""

import os
import sys
import time

name = "UNIX"
runtime = "%s %d.%d.%d" % ((sys.implementation.name,) + tuple(sys.implementation.version[:3]))
storage = "state"  # main.py's default folder for config and boot counter: here, below the working directory
limits = {}  # the library's defaults; a small board gives less: {"mtu": 576, ...}

_PROC = "/proc/"
_SYS = "/sys/class/"
_led = False


def sensors(config):
    """Return the rows of README.md's table. config: dict of the running configuration."""
    # Imported here: a board is loaded before the node's package is, and most boards need no simulation.
    from node.climate import Climate

    rows = []
    zone = _first("thermal", "thermal_zone", "temp")
    if zone:
        rows.append(("temperature", "Cel", "temperature", "Temperature", lambda: _number(zone) / 1000))
    rows += [
        ("load", "1", "load", "Load, 1 min", _load),
        ("memory-free", "B", "memory", "Free memory", _memory_free),
        ("disk-free", "B", "disk", "Free disk", _disk_free),
        ("uptime", "s", "uptime", "Uptime", _uptime),
    ]
    rows = [row for row in rows if _works(row[4])]
    return rows + Climate(config["seed"], _seconds).sensors()


def _load():
    return float(_text(_PROC + "loadavg").split()[0])


def _memory_free():
    for line in _text(_PROC + "meminfo").split("\n"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _disk_free():
    about = os.statvfs(".")
    return about[1] * about[4]  # f_frsize * f_bavail


def _uptime():
    # Whole seconds: the kernel's hundredths mean nothing to anybody.
    return int(_text(_PROC + "uptime").split(".")[0])


# --- the actuator ---

led_title = "LED (simulated)"


def led_get():
    """Return True while the LED is on."""
    return _led


def led_set(on):
    """Switch the LED."""
    global _led
    _led = bool(on)


# --- power and radio: functions, or None where the board has none ---


def _battery():
    return _number(_battery_file)


def _signal():
    # /proc/net/wireless: two header lines, then "wlan0: 0000 54. -56. ...": the third figure is dBm.
    for line in _text(_PROC + "net/wireless").split("\n")[2:]:
        parts = line.split()
        if len(parts) > 3:
            return int(float(parts[3]))
    return None


# --- time ---

if hasattr(time, "ticks_ms"):
    ticks_ms = time.ticks_ms
    ticks_diff = time.ticks_diff
else:

    def ticks_ms():
        """Return milliseconds of a clock that only runs forwards; compare with ticks_diff."""
        return time.monotonic_ns() // 1000000

    def ticks_diff(new, old):
        """Return new - old in milliseconds."""
        return new - old


def clock():
    """Return ms since 1970-01-01 UTC, or None while it is not known."""
    now = time.time_ns() // 1000000
    # A machine without a battery-backed clock starts in 1970; before this firmware is before 2024.
    return now if now > 1704067200000 else None


def _seconds():
    return time.time_ns() // 1000000000


# --- the board itself ---


async def connect(config):
    """Bring the network up; here the machine has done it. Raises OSError when it cannot be."""


def reset_cause():
    """Return why the board started, as a word, or None when it cannot tell."""
    return None


def reset():
    """Start the board again. Here: end the process with status 1; what started it starts it again."""
    sys.exit(1)


# --- reading the kernel's files ---


def _text(path):
    with open(path) as f:
        return f.read(4096)


def _number(path):
    return int(_text(path).strip())


def _first(kind, start, file):
    # The path of the first readable /sys/class/KIND/START*/FILE, or None.
    try:
        folders = sorted(os.listdir(_SYS + kind))
    except OSError:
        return None
    for folder in folders:
        path = _SYS + kind + "/" + folder + "/" + file
        if folder.startswith(start) and _works(_number, path):
            return path
    return None


def _works(read, *arguments):
    try:
        return read(*arguments) is not None
    except (OSError, ValueError, IndexError):
        return False


_battery_file = _first("power_supply", "BAT", "capacity")
battery = _battery if _battery_file else None
signal = _signal if _works(_signal) else None
