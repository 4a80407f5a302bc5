"""The node's configuration: one JSON file, and the last good copy of it.

config.json is what people and PUT /config write. config.good.json is what the node runs with, or
last ran with: it is written only from values that passed the schema and with which the node came up.

    start   config.json fits the schema    use it
            it does not, or is unreadable  one line that names the key; use config.good.json
            that one neither, or missing   the defaults
    up      what came up goes to config.good.json (only if it differs: flash wears out)
    PUT     checked, merged over the current values, stored; keys that a running node can follow
            go to config.good.json too

config.json is never rewritten because it is wrong: whoever wrote it finds his text as he left it.
"""

import json

from .schema import AT_ONCE, KEYS, SECRET, ConfigError, check, check_whole, defaults
from .store import Damaged, parse

FILE = "config.json"
GOOD = "config.good.json"


class Config:
    """The values in force. `values`: what is stored; `running`: what the node runs with, which
    differs in the keys that wait for the next start. Both: dicts of every key, the secret ones as well.
    """

    def __init__(self, store):
        self._store = store
        self.values = defaults()
        self.running = dict(self.values)
        self._good = None  # what config.good.json holds, None if unusable
        self._stored = False  # config.json holds `values`; else a PUT that changes nothing mends it

    def load(self):
        """Read the configuration. Returns None, or one line that says what was refused and what is used."""
        line = None
        self._good = self._load_good()
        try:
            given = self._store.load(FILE)
            if given is None:
                # No file: a new node, or one whose file was lost; the last good one knows better.
                values = self._good or defaults()
            else:
                check(given)
                values = merged(defaults(), given)
                check_whole(values)
                self._stored = True
        except (ConfigError, Damaged) as e:
            values = self._good or defaults()
            used = "the last good one" if self._good else "the defaults"
            line = "config refused: %s; using %s" % (e, used)
        self._use(values)
        return line

    def fall_back(self, *keys):
        """Switch to the last good configuration. Returns False when it says the same of `keys`.

        For values that fit the schema but not this place (an address that is not ours, another network's password).
        """
        if self._good is None or all([self._good[key] == self.values[key] for key in keys]):
            return False
        self._stored = False
        self._use(self._good)
        return True

    def accept(self):
        """Note that the node came up with the running values: they are the last good ones.

        Returns None, or one line when they could not be stored.
        """
        if self.running == self._good:
            return None
        try:
            self._store.save(GOOD, as_text(self.running))
        except OSError as e:
            return "%s: cannot be written: %s" % (GOOD, e)
        self._good = dict(self.running)
        return None

    def put(self, text):
        """Change the configuration by `text`, a JSON object of the keys to change.

        Returns (now, later): lists of the changed keys that are in force at once, and of those
        that wait for the next start. The other keys stay as they are.
        Raises ConfigError (nothing changed), OSError when it cannot be stored (nothing changed).
        """
        try:
            given = parse(text)
        except ValueError:
            raise ConfigError("config: is not JSON")
        return self.change(given)

    def change(self, given):
        """Change the configuration by `given`, a decoded JSON value, as put() does."""
        check(given)
        values = merged(self.values, given)
        check_whole(values)
        if values == self.values and self._stored:
            return [], []
        self._store.save(FILE, as_text(values))
        self._stored = True
        changed = [key for key in KEYS if values[key] != self.values[key]]
        self.values = values
        now = [key for key in changed if key in AT_ONCE]
        for key in now:
            self.running[key] = values[key]
        return now, [key for key in changed if key not in AT_ONCE]

    def _use(self, values):
        self.values = dict(values)
        self.running = dict(values)

    def _load_good(self):
        try:
            given = self._store.load(GOOD)
            if given is None:
                return None
            check(given)
            values = merged(defaults(), given)
            check_whole(values)
            return values
        except (ConfigError, Damaged):
            return None  # load() then says that the defaults are used


def merged(base, given):
    """Return a new dict: `base` with the values of `given`."""
    values = dict(base)
    values.update(given)
    return values


def as_text(values, without=()):
    """Return `values` as JSON text, a line a key in the schema's order: made to be read and edited."""
    lines = ["  %s: %s" % (json.dumps(key), json.dumps(values[key])) for key in KEYS if key not in without]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def public_text(values):
    """Return `values` as as_text does, without the secret keys: what others may see, and may PUT back as it is."""
    return as_text(values, SECRET)
