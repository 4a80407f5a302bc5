"""Stands in for the module time, which ports/qemu lacks: a clock that goes on by 1 ms whenever it is read."""

import micropython

_now = 0


def ticks_ms():
    global _now
    _now = ticks_add(_now, 1)
    return _now


@micropython.viper
def ticks_add(ticks: int, delta: int) -> int:
    return (ticks + delta) & 0x3FFFFFFF


@micropython.viper
def ticks_diff(end: int, start: int) -> int:
    return ((end - start + 0x20000000) & 0x3FFFFFFF) - 0x20000000
