"""What the cloud may call: methods by name, with parameters that are checked before they run.

    rpc.register("blink", blink, ("times", int))    detail = blink(3)

A method returns what is to be told: a dict that JSON can say, None, or a value, which becomes {"result": value}. It
raises ValueError for what it cannot take. A coroutine function runs in a task of its own. Codes are gRPC's. The same
call twice, as after a lost answer, runs once and is answered twice.
"""

import asyncio
import json

OK = 0
INVALID_ARGUMENT = 3
UNIMPLEMENTED = 12
INTERNAL = 13


class Rpc:
    """log: a Log. calls: how many were run."""

    def __init__(self, log):
        self._log = log
        self._methods = {}
        self._last = []  # (id, status, detail as JSON text) of the calls that were answered last
        self._running = []  # (id, task) of those that take their time
        self.calls = 0
        self.afterwards = None  # function: what a method wants done when its answer was delivered, such as a reset

    def then(self):
        """Return what is to be done once the answer that is sent now has reached the cloud, or None."""
        then = self.afterwards
        self.afterwards = None
        return then

    def register(self, name, method, *parameters):
        """Offer a method. parameters: (name, kind) each, kind one of int, float, bool, str, dict, list, None (any)."""
        self._methods[name] = (method, parameters)

    def call(self, id, name, given, answer):
        """Run a method, then call answer(id, status, detail as JSON text). given: list of parameters, or dict."""
        for last in self._last:
            if last[0] == id:
                answer(*last)
                return
        if id in [running for running, _ in self._running]:
            return
        method, parameters = self._methods.get(name, (None, ())) if isinstance(name, str) else (None, ())
        if method is None:
            self._done(answer, id, UNIMPLEMENTED, _error("no method " + str(name)[:32]))
            return
        arguments, why = _arguments(given, parameters)
        if why:
            self._done(answer, id, INVALID_ARGUMENT, _error(why))
            return
        self.calls += 1
        self._log.info("rpc", "called", method=name)
        try:
            detail = method(*arguments)
            if hasattr(detail, "send"):  # a coroutine; of those, MicroPython's are generators
                self._running.append((id, asyncio.create_task(self._wait(answer, id, name, detail))))
                return
        except Exception as e:  # it is somebody's code, and none of it may take the node down
            self._failed(answer, id, name, e)
            return
        self._done(answer, id, OK, detail)

    async def _wait(self, answer, id, name, coroutine):
        try:
            detail = await coroutine
        except Exception as e:
            self._failed(answer, id, name, e)
        else:
            self._done(answer, id, OK, detail)
        self._running = [one for one in self._running if one[0] != id]

    def _failed(self, answer, id, name, error):
        why = str(error) or type(error).__name__
        if isinstance(error, ValueError):
            self._done(answer, id, INVALID_ARGUMENT, _error(why))
            return
        self._log.warning("rpc", "failed", method=name, why=why)
        self._done(answer, id, INTERNAL, _error(why))

    def _done(self, answer, id, status, detail):
        try:
            if not isinstance(detail, dict):
                detail = {} if detail is None else {"result": detail}
            text = json.dumps(detail)
        except Exception as e:
            status = INTERNAL
            text = json.dumps(_error(str(e) or type(e).__name__))
        self._last = self._last[-3:] + [(id, status, text)]
        answer(id, status, text)


def _error(why):
    return {"error": why[:96]}


def _arguments(given, parameters):
    """Return (list of arguments, None), or (None, why not)."""
    if given is None:
        given = []
    elif not isinstance(given, (list, dict)):
        given = [given]
    if len(given) != len(parameters):
        names = ", ".join([name for name, _ in parameters]) or "none"
        return None, "parameters are: " + names
    arguments = []
    for i in range(len(parameters)):
        name, kind = parameters[i]
        try:
            value = given[i] if isinstance(given, list) else given[name]
        except KeyError:
            return None, name + ": is missing"
        if not _fits(value, kind):
            return None, "%s: must be %s" % (name, _WORDS[kind])
        arguments.append(value)
    return arguments, None


def _fits(value, kind):
    if kind is None:
        return True
    if value is True or value is False:  # a bool is an int in Python
        return kind is bool
    if kind is float:
        return isinstance(value, (int, float))
    return isinstance(value, kind)


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    dict: "an object",
    list: "a list",
}
