"""What a device test may import beside the library. Runs on CPython and MicroPython."""

import os

# A board, real or emulated: no system below, so no environment. What goes round often goes round 20 times less there
BOARD = not hasattr(os, "getenv")


def rounds(n):
    return n // 20 if BOARD else n


class Skip(Exception):
    """Raise it with the reason where a test cannot run; raised at import, it skips the whole module."""
