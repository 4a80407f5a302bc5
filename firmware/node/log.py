"""The log: levels, the console, and the collector's `logs`.

    log.warning("sensors", "cannot be read", sensor="temperature")

becomes the line `node: warn, sensors: cannot be read (sensor=temperature)` and a record. What is
below the level is neither. `say` is for the console alone: the node's few lines for the person
who watches it. Logging never raises: an error on the way is worth less than the node's work.
"""

import sys

from .schema import LEVELS


def console(line):
    """Print a line and push it out."""
    print(line)
    # CPython keeps lines back in a pipe; a board's stdout has no flush, and writes at once.
    flush = getattr(sys.stdout, "flush", None)
    if flush:
        flush()


class Log:
    """records: where log records go; level: one of LEVELS; out: function of a line, the console."""

    def __init__(self, records, level, out=console):
        self._records = records
        self._out = out
        self.set_level(level)

    def set_level(self, level):
        """Let pass `level` and what is above it, from now on."""
        self._level = LEVELS.index(level)

    def debug(self, module, msg, **extra):
        """Log what only its developer wants to know."""
        self._log(0, module, msg, extra)

    def info(self, module, msg, **extra):
        """Log an event of normal life."""
        self._log(1, module, msg, extra)

    def warning(self, module, msg, **extra):
        """Log what works again by itself or is somebody's mistake."""
        self._log(2, module, msg, extra)

    def error(self, module, msg, **extra):
        """Log what needs a person."""
        self._log(3, module, msg, extra)

    def post(self, level, module, msg, **extra):
        """Send a record without a line on the console, where `say` has said it better. level: a name."""
        if LEVELS.index(level) >= self._level:
            self._records.log(level, module, msg, extra)

    def say(self, text):
        """Print `node: TEXT` on the console, whatever the level; no record."""
        try:
            self._out("node: " + text)
        except (OSError, ValueError):
            pass  # nobody reads the console any more, or it has no such character

    def _log(self, level, module, msg, extra):
        if level < self._level:
            return
        more = ", ".join(["%s=%s" % (key, extra[key]) for key in sorted(extra)])
        self.say("%s, %s: %s%s" % (LEVELS[level], module, msg, " (" + more + ")" if more else ""))
        self._records.log(LEVELS[level], module, msg, extra)
