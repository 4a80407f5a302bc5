"""What ports/qemu's os lacks: an environment, and random bytes, which are the same in each run here."""

from random import getrandbits

from uos import *  # noqa: F403

environment = {}


def getenv(name):
    return environment.get(name)


def urandom(n):
    return bytes([getrandbits(8) for _ in range(n)])
