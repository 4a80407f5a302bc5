"""Time: how long the node has been up, and what time it is when the board knows.

A board gives ticks, which wrap (after 12 days on 32-bit boards), and a clock, which may not be set.
`Clock` adds the ticks up, so it must be asked at least every 6 days: each reading and each log does.
Dates are computed here and not by `time`, whose epoch differs from board to board.
"""

_DAY_MS = 86400000


class Clock:
    """board: ticks_ms(), ticks_diff(new, old), clock() as boards/UNIX/README.md says."""

    def __init__(self, board):
        self._board = board
        self._last = board.ticks_ms()
        self._up = 0

    def up_ms(self):
        """Return milliseconds since the start; never wraps, never runs backwards."""
        now = self._board.ticks_ms()
        passed = self._board.ticks_diff(now, self._last)
        if passed > 0:
            self._up += passed
            self._last = now
        return self._up

    def now_ms(self):
        """Return milliseconds since 1970-01-01 UTC, or None while the board's clock is not set."""
        return self._board.clock()


def iso(ms):
    """Return `ms` since 1970 as ISO 8601 text, "2025-01-31T12:00:00.250Z"; years 1970 to 9999."""
    days, ms = divmod(ms, _DAY_MS)
    # Gregorian calendar from a day count: years that begin in March put the leap day last
    # (the method of Fliegel and Van Flandern, in the form H. Hinnant published).
    days += 719468
    era, day = divmod(days, 146097)
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5
    month += 3 if month < 10 else -9
    year += era * 400 + (1 if month <= 2 else 0)
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ" % (year, month, day + 1, hours, minutes, seconds, ms)
