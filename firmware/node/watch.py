"""What the node watches at its cloud, and what it answers there: over the sender's remote, as long as that is used.

Each path is observed by a task of its own. One that the server does not have, or refuses, is not asked again over that
remote; what gets no answer is asked again after `retry_cap_ms`. What is told is taken at once, by a plain function,
since the next notification may follow it; what is to be answered waits in a short list, goes out in order, and survives
the remote: an answer that was not delivered is sent over the next one.
"""

import asyncio

from coaplet import CoapError, code_text

from .clouds import SHUT_OUT
from .schema import SECURE

_MOST = 8  # answers that wait
# A session tells by itself that the server forgot its observers; each Max-Age would be a request a minute for each path
_REFRESH_S = 3600
# Lists and objects in what is told. MicroPython compares them with no look at its stack
_DEEP = 128


class Watches:
    """config: dict of the running values; sleep: coroutine function of seconds.

    address: function of a path that returns what is asked for in its place: a cloud's, where paths have a secret in
    them, which is in no log, or what is new with each connection.
    """

    address = str  # which returns a str as it is

    def __init__(self, config, log, sleep=asyncio.sleep):
        self._config = config
        self._log = log
        self._sleep = sleep
        self._paths = []
        self._answers = []
        self._remote = None
        self._tasks = []
        self._answering = None

    def add(self, path, take, accept=50, refresh_s=0):
        """Watch a path. take: function of a decoded JSON value, of any type; it does not raise.

        accept: the Content-Format that is asked for, or None. refresh_s: how long the server need not say anything,
        where it does not take it well to be asked again.
        """
        one = (path, take, accept, refresh_s)
        self._paths.append(one)
        if self._remote:
            self._tasks.append(asyncio.create_task(self._watch(self._remote, *one)))

    def remote_now(self):
        """Return the remote. Raises CoapError while there is none."""
        if self._remote is None:
            raise CoapError(0, "the collector is away")
        return self._remote

    def answer(self, path, text, done=None, state=False):
        """Send a JSON text to a path, as soon as may be. done: function that is called when it is settled.

        state: what waits for that path is out of date, and makes way.
        """
        if state:  # the first one may be on its way
            self._answers[1:] = [one for one in self._answers[1:] if one[0] != path]
        if len(self._answers) == _MOST:
            self._log.warning("cloud", "answer dropped", path=self._answers.pop(0)[0])
        self._answers.append((path, text, done))
        self._begin()

    def follow(self, remote):
        """Watch over this remote from now on; None: no longer."""
        for task in self._tasks:
            task.cancel()
        if self._answering:
            self._answering.cancel()
        self._answering = None
        self._remote = remote
        self._tasks = [asyncio.create_task(self._watch(remote, *one)) for one in self._paths] if remote else []
        self._begin()

    def _begin(self):
        if self._remote and self._answers and not self._answering:
            self._answering = asyncio.create_task(self._send_answers(self._remote))

    async def _watch(self, remote, path, take, accept, least_s):
        while True:
            observation = None
            try:
                config = self._config
                refresh_s = max(least_s, _REFRESH_S if str(config["collector"]).startswith(SECURE) else 0)
                ms = config["answer_ms"]
                observation = remote.observe(
                    self.address(path), accept=accept, refresh_s=refresh_s, timeout_ms=ms, most=4
                )
                while True:
                    reply = await observation.next()
                    text = bytes(reply.payload)
                    if not text:
                        continue  # it was taken note of that we watch, and there is nothing yet
                    try:
                        if text.count(b"[") + text.count(b"{") > _DEEP:
                            raise ValueError
                        given = reply.json()
                    except (CoapError, ValueError):
                        self._log.warning("cloud", "not understood", path=path)
                        continue
                    take(given)
            except CoapError as e:
                if is_final(e):
                    self._log.debug("cloud", "has no " + path, why=str(e))
                    return
            except ImportError as e:  # a build without it
                self._log.debug("cloud", "cannot be watched", why=str(e))
                return
            except Exception as e:  # no memory, say; the node goes on as it is
                self._log.warning("cloud", "cannot be watched", path=path, why=str(e) or type(e).__name__)
            finally:
                if observation:
                    observation.close()
            await self._wait()

    async def _send_answers(self, remote):
        tries = len(self._answers)
        while self._answers:
            path, text, done = one = self._answers[0]
            try:
                await remote.post(self.address(path), text, ct=50, timeout_ms=self._config["answer_ms"])
            except (CoapError, OSError, MemoryError, ValueError) as e:
                if not is_final(e) or getattr(e, "code", 0) in SHUT_OUT:  # the sender is told so, too, and begins anew
                    same = [other for other in self._answers if other[0] == path]
                    if getattr(e, "code", 0):  # it is this path: the others need not wait for it
                        self._answers[:] = [other for other in self._answers if other[0] != path] + same
                        tries -= len(same) or 1
                        if tries > 0:
                            continue
                    await self._wait()
                    tries = len(self._answers)
                    continue
                self._log.debug("cloud", "refused an answer", path=path, why=str(e))
            if self._answers and self._answers[0] is one:
                self._answers.pop(0)
            if done:
                done()
        self._answering = None

    async def _wait(self):
        await self._sleep(self._config["retry_cap_ms"] / 1000)


def is_final(error):
    """Tell whether an error is the server's word, and not that there was no answer, no session, or no time."""
    if isinstance(error, ValueError):  # the library would not send it, and would not the next time either
        return True
    code = getattr(error, "code", 0)
    text = code_text(code)
    return code and text[0] == "4" and text != "4.29"
