"""What a device test may import beside the library. Runs on CPython and MicroPython."""


class Skip(Exception):
    """Raise it with the reason where a test cannot run; raised at import, it skips the whole module."""
