"""The configuration that the cloud keeps for this node: applied, and reported back.

    {"version":N,"settings":{KEY: VALUE, ...} or null}
    {"version":N} once it is applied; "errors":[{"setting_key","error_code"}] of keys that were not

as Golioth has it, where keys are written in capitals. A version is looked at once a start: what PUT /config changes
after it stays until the cloud has another version. Each key is checked as one that is put is, and the good ones are
stored and applied together; a wrong one is logged and reported, and changes nothing. A key that the cloud no longer has
stays as it is.
"""

from .schema import KEYS, SCHEMA, ConfigError, check

# Error codes, as Golioth's SDK numbers them
_UNKNOWN = 1
_WRONG = 3
_RANGE = 4
_TOO_LONG = 5
_OTHER = 6
_MOST = 12  # errors of at most 32 characters each: the report is to fit a datagram


class Settings:
    """config: a Config; configured: function of what Config.change() returns."""

    def __init__(self, config, configured, log):
        self._config = config
        self._configured = configured
        self._log = log
        self._version = None  # the last that was looked at

    def take(self, given):
        """Apply what the cloud has, if it is new. Returns the report, a dict, or None."""
        try:
            version = given["version"]
            settings = given["settings"] or {}
            names = sorted(settings.keys())
        except (TypeError, KeyError, AttributeError):
            self._log.warning("config", "refused: the cloud's is not understood")
            return None
        if version == self._version:
            return None
        if not version:
            return None  # the cloud has none for this node
        report = {"version": version}
        errors = self.apply(settings, names)
        self._version = version  # not before: what ran out of memory is looked at again
        if errors:
            report["errors"] = errors
        return report

    def apply(self, settings, names):
        """Apply the keys `names` of a dict. Returns the errors, a list of dicts."""
        good = {}
        errors = []
        for name in names:
            key = name.lower()
            try:
                if key not in KEYS:
                    raise ConfigError("unknown key")
                check({key: settings[name]})
                good[key] = settings[name]
            except ConfigError as e:
                self._refuse(errors, name, _code(key, settings[name]), e)
        try:
            now, later = self._config.change(good) if good else ([], [])
            if now or later:
                self._configured(now, later)
        except ConfigError as e:  # what the keys say together
            self._refuse(errors, str(e).split(":")[0], _WRONG, e)
        except OSError as e:
            for key in sorted(good):
                self._refuse(errors, key, _OTHER, "cannot be stored: %s" % e)
        return errors

    def _refuse(self, errors, name, code, why):
        self._log.warning("config", "refused from the cloud", key=name[:32], why=str(why))
        if len(errors) < _MOST:
            errors.append({"setting_key": name[:32], "error_code": code})


def _code(key, value):
    """Return the error code of a value that was refused."""
    for row in SCHEMA:
        if row[0] == key:
            if isinstance(value, bool) or type(value) is not type(row[4]):
                return _WRONG
            if isinstance(value, int):
                return _RANGE
            return _TOO_LONG if len(value) > row[3] > 0 else _WRONG
    return _UNKNOWN
