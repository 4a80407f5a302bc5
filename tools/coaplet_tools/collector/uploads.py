"""Bodies that come in blocks (RFC 7959), put together in memory.

The node has their blocks in order, and answers those that are not (lib/coaplet/block.py); here lies what came of each
so far. A request that is one message needs no place. When all are taken, the body that has waited for its next block
for the longest time is forgotten, and its device begins anew (4.08).
"""

from typing import Any

import coaplet
from coaplet_tools.collector.limits import UPLOADS


class Overlong(Exception):
    """More than a body may have."""


class Uploads:
    def __init__(self) -> None:
        self._bodies: dict[Any, bytearray] = {}  # what was continued last: last

    def take(self, request: Any, most: int) -> bytes | None:
        """Take in a request of a resource with `body=True`. Returns the body; None when more of it is to come.

        most: bytes. Raises Overlong, and CoapError 4.08 where what came before is not here any more.
        """
        offset, more = request.offset, request.more
        key = (request.peer, request.path, tuple(request.query), request.content_format)
        body = self._bodies.pop(key, bytearray())
        if not offset:
            body.clear()
        elif len(body) != offset:
            raise coaplet.CoapError(coaplet.REQUEST_ENTITY_INCOMPLETE)
        body += request.payload
        if max(len(body), request.uint(coaplet.SIZE1, 0)) > most:
            raise Overlong
        if not more:
            return bytes(body)
        self._bodies[key] = body
        if len(self._bodies) > UPLOADS:
            del self._bodies[next(iter(self._bodies))]
        return None
