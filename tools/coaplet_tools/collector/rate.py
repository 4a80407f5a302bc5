"""How many requests a second a device may send: those beyond are answered 4.29, with Max-Age (RFC 8516).

It stands before all resources of a node, which need not know of it. A device is an identity over coaps, and an
address, whatever its port, over coap. It may send `most` requests at once, and `most` a second for long: a bucket that
is full with `most` and is filled again at that rate.

What the collector sends of itself, notifications, does not count, nor does a repeated POST, PUT or DELETE, which is
answered as the first one was. A transfer in blocks (RFC 7959) counts once, with its first block: the ones that follow
ask for nothing new, and at 20 KB a second a download would take too long to be an update's.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import coaplet
from coaplet_tools.collector.limits import RATED
from coaplet_tools.collector.records import host

_FILES = [b".u", b"c"]  # where a transfer is long, and a block costs little: it is read from a file
_FIRST_BLOCK_ENDS = 16  # a Block option's value is its number << 4, and more


class Rate:
    """The buckets of all devices. clock: seconds. most: 1 or more."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic, *, devices: int = RATED) -> None:
        self._most = most
        self._clock = clock
        self._devices = devices
        self._left: dict[bytes | str, tuple[float, float]] = {}  # what is left, and when that was; heard last: last

    def wait(self, device: bytes | str) -> int:
        """Take a request of a device in. Returns 0, or in how many seconds it may send one: this is one too many.

        Who is forgotten, since so many others came, begins anew.
        """
        now = self._clock()
        left, then = self._left.pop(device, (self._most, now))
        left = min(left + (now - then) * self._most, self._most)
        wait = 0
        if left >= 1:
            left -= 1
        else:
            wait = max(math.ceil((1 - left) / self._most), 1)
        self._left[device] = (left, now)
        if len(self._left) > self._devices:
            del self._left[next(iter(self._left))]
        return wait


def limit(node: Any, rate: Rate, told: Callable[[str, bytes | None], None]) -> None:
    """Have a node's requests limited; it must have a resource already. told: called with the address, and the identity
    or None, of each request that is one too many."""
    endpoint = node.endpoint
    serve = node._serve  # of coaplet.driver, which calls it with each request, and with nothing else

    def serve_some(hot: list[Any], now: int) -> None:
        request = endpoint.rx
        if not _goes_on(request):
            identity = request.peer.identity if request.transport.secure else None
            if wait := rate.wait(host(request.remote) if identity is None else identity):
                told(request.remote, identity)
                response = endpoint.reply(coaplet.TOO_MANY_REQUESTS)
                response.option(coaplet.MAX_AGE, wait)
                endpoint.send_reply(now)
                return
        serve(hot, now)

    node._serve = serve_some


def _goes_on(request: Any) -> bool:
    """Tell whether a request is one of a transfer whose first has counted."""
    if request.method == coaplet.GET:
        return (
            request.uint(coaplet.BLOCK2, 0, 3) >= _FIRST_BLOCK_ENDS and request.options(coaplet.URI_PATH)[:2] == _FILES
        )
    return request.uint(coaplet.BLOCK1, 0, 3) >= _FIRST_BLOCK_ENDS
