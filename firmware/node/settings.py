"""The configuration that the collector keeps for this node: watched there, applied, and reported back.

    GET .c, observed     {"version":N,"settings":{KEY: VALUE, ...} or null}
    POST .c/status       {"version":N} once it is applied; "errors":[{"setting_key","error_code"}] of keys that were not

as Golioth has it, where keys are written in capitals. A version is looked at once a start: what PUT /config changes
after it stays until the collector has another version. Each key is checked as one that is put is, and the good ones are
stored and applied together; a wrong one is logged and reported, and changes nothing. A key that the collector no longer
has stays as it is.

Watched is the remote over which the sender delivers records, as long as it uses it; only over coaps, since in the clear
anybody could change the node. A server that has no settings is not asked again over that remote.
"""

import asyncio
import json

from coaplet import CoapError, code_text

from .schema import KEYS, ConfigError, check

_PATH = ".c"
_UNKNOWN = 1  # error codes, as Golioth's SDK numbers them
_WRONG = 3
_OTHER = 6
_MOST = 12  # errors of at most 32 characters each: the report is to fit a datagram


class Settings:
    """config: a Config; configured: function of what Config.change() returns; sleep: coroutine function of seconds."""

    def __init__(self, config, configured, log, sleep=asyncio.sleep):
        self._config = config
        self._configured = configured
        self._log = log
        self._sleep = sleep
        self._task = None
        self._version = None  # the last that was looked at
        self._report = None  # what the collector has still to be told of it

    def follow(self, remote):
        """Watch over this remote from now on; None: no longer."""
        if self._task:
            self._task.cancel()
        self._task = asyncio.create_task(self.run(remote)) if remote else None

    async def run(self, remote):
        """Watch until cancelled, or until it shows that the server has no settings."""
        while True:
            observation = None
            try:
                answer_ms = self._config.running["answer_ms"]
                observation = remote.observe(_PATH, timeout_ms=answer_ms)
                while True:
                    reply = await observation.next()
                    self.take(reply)
                    if self._report:
                        await self._tell(remote, answer_ms)
            except CoapError as e:
                if _is_final(e):
                    self._log.debug("config", "none at the collector", why=str(e))
                    return
            except ImportError as e:  # a build without it
                self._log.debug("config", "cannot be watched", why=str(e))
                return
            except Exception as e:  # no memory, say; the node goes on with the configuration that it has
                self._log.warning("config", "cannot be watched", why=str(e) or type(e).__name__)
            finally:
                if observation:
                    observation.close()
            await self._sleep(self._config.running["retry_cap_ms"] / 1000)

    def take(self, reply):
        """Apply what a reply says, if it is new. Never raises for what is in it."""
        try:
            given = reply.json()
            version = given["version"]
            settings = given["settings"] or {}
            names = sorted(settings.keys())
        except (CoapError, TypeError, KeyError, AttributeError):
            self._log.warning("config", "refused: the collector's is not understood")
            return
        if version == self._version:
            return
        self._version = version
        if not version:
            return  # the collector has none for this node
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
                self._refuse(errors, name, _WRONG if key in KEYS else _UNKNOWN, e)
        try:
            now, later = self._config.change(good)
            if now or later:
                self._configured(now, later)
        except ConfigError as e:  # what the keys say together
            self._refuse(errors, str(e).split(":")[0], _WRONG, e)
        except OSError as e:
            for key in sorted(good):
                self._refuse(errors, key, _OTHER, "cannot be stored: %s" % e)
        self._report = {"version": version}
        if errors:
            self._report["errors"] = errors

    def _refuse(self, errors, name, code, why):
        self._log.warning("config", "refused from the collector", key=name[:32], why=str(why))
        if len(errors) < _MOST:
            errors.append({"setting_key": name[:32], "error_code": code})

    async def _tell(self, remote, answer_ms):
        try:
            await remote.post(_PATH + "/status", json.dumps(self._report), ct=50, timeout_ms=answer_ms)
        except CoapError as e:
            if not _is_final(e):
                raise
        self._report = None


def _is_final(error):
    # Without a code there was no answer, or no session; 4.29 and 5.xx pass, too.
    text = code_text(error.code)
    return error.code and text[0] == "4" and text != "4.29"
