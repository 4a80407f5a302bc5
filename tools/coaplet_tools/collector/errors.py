"""The one error that a user of the collector meets. The commands print it as a line, without a traceback."""


class CollectorError(Exception):
    """What went wrong and what to do, in one line."""
