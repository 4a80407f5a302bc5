"""Devices that fail their handshake, told in so few lines that a flood of them fills no log.

The same failure of the same device is told again after 10 minutes, and 10 lines a minute are the most. What was passed
over is counted, and the next line says how many that were.
"""

import time
from collections.abc import Callable

_AGAIN_S = 600.0
_PERIOD_S = 60.0
_MOST = 10


class Refusals:
    """tell: called with remote, identity, why, and how many failures were passed over before. clock: seconds."""

    def __init__(self, tell: Callable[[str, str, str, int], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._told: dict[tuple[str, str, str], float] = {}  # when; never more than 100, since older ones leave
        self._more = 0

    def note(self, remote: str, identity: bytes | None, why: str) -> None:
        """Take in a failure. remote: "127.0.0.1:5684"; identity: as the device gave it, None where it did not."""
        now = self._clock()
        name = (identity or b"").decode(errors="backslashreplace")
        key = (remote.rpartition(":")[0], name, why)
        self._told = {told: at for told, at in self._told.items() if now - at < _AGAIN_S}
        if key in self._told or sum(now - at < _PERIOD_S for at in self._told.values()) >= _MOST:
            self._more += 1
            return
        self._told[key] = now
        more, self._more = self._more, 0
        self._tell(remote, name, why, more)
