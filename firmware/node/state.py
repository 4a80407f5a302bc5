"""The node's state at the cloud: what it says of itself, and what the cloud wants of it.

    reported    {"firmware","version","board","boot", NAME: value ...}
    desired     {NAME: value ...}: what is new is applied, and then reported

    state.offer("led", get, set)

A value that cannot be applied is logged, and what is reported stays as it is: so the cloud sees the difference.
"""


class State:
    """about: dict of what is reported beside the values; log: a Log."""

    def __init__(self, about, log):
        self._about = about
        self._log = log
        self._offers = {}
        self._applied = {}

    def offer(self, name, get, set):
        """Offer a value. get: function that returns it; set: function of the one wanted, raises ValueError."""
        self._offers[name] = (get, set)

    def has(self, name):
        """Tell whether a value is offered."""
        return name in self._offers

    def forget(self, name):
        """Note that the cloud wants a value no longer."""
        self._applied.pop(name, None)

    def apply(self, wanted):
        """Apply what is new of a dict of values that are wanted. Returns whether there is something to report."""
        news = False
        for name in sorted(wanted) if isinstance(wanted, dict) else ():
            value = wanted[name]
            if name not in self._offers or (name in self._applied and self._applied[name] == value):
                continue
            self._applied[name] = value
            news = True
            try:
                self._offers[name][1](value)
                self._log.info("state", "applied", name=name, value=value)
            except Exception as e:  # a driver, say
                self._log.warning("state", "cannot be applied", name=name, why=str(e) or type(e).__name__)
        return news

    def reported(self):
        """Return what is reported, a new dict."""
        values = dict(self._about)
        for name in self._offers:
            values[name] = self._offers[name][0]()
        return values
