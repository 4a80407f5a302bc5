"""Reads a node's resources back over CoAP, as any client would, and notes each round trip."""

import re
import shutil
import time
from collections.abc import Callable
from typing import Any

from coaplet import CoapError, code_text

_ANSWER_MS = 4000


class Readback:
    """remote: a coaplet Remote; show: called with each line to show.

    After `read_all`: paths, those the node offers; failed, those that could not be read. rtt_ms: of each read.
    """

    def __init__(self, remote: Any, show: Callable[[str, str], None]) -> None:
        self._remote = remote
        self._show = show
        self.paths: list[str] = []
        self.failed: list[str] = []
        self.rtt_ms: list[float] = []

    async def read_all(self) -> None:
        """Read what the node offers (RFC 6690), and then all of that."""
        links = await self.read(".well-known/core")
        self.paths = re.findall(r"<(/[^>]*)>", links.text()) if links else []
        for path in self.paths:
            await self.read(path.removeprefix("/"))

    async def read(self, path: str, timeout_ms: int = _ANSWER_MS) -> Any:
        """GET a path and show what came. Returns the reply, or None when there was none."""
        start = time.perf_counter()
        try:
            reply = await self._remote.get(path, timeout_ms=timeout_ms)
        except (CoapError, OSError) as error:
            self.failed.append("/" + path)
            self._show(f"GET /{path}  {error}", "red")
            return None
        rtt = (time.perf_counter() - start) * 1000
        self.rtt_ms.append(rtt)
        self._show(f"GET /{path:<32}  {code_text(reply.code)}  {rtt:5.1f} ms  {_short(reply.text())}", "")
        return reply


def _short(text: str) -> str:
    """Bring a payload to one line, of what fits beside the rest."""
    line = " ".join(text.split())
    room = max(24, min(shutil.get_terminal_size().columns, 180) - 100)
    return line if len(line) <= room else f"{line[:room]}… ({len(text)} characters)"
