"""The sender: one task that brings the queue's records to the collector, oldest first.

One record is in flight, as a confirmable POST, and leaves the queue only when it is settled:

    2.xx                  delivered
    no answer, reset, no route, no session, 5.xx, 4.29
                          the collector is away or busy: keep it, wait, try again. The wait doubles
                          from retry_first_ms to retry_cap_ms and is shortened by up to half at random,
                          so that a thousand nodes do not come back in the same instant
    any other 4.xx        refused: the record is bad and stays bad. Dropped and counted

A change between away and back is one line and one log record, however many attempts it takes. Over
coaps there is a line more when what is in the way changes: who hears "no answer" does not look at keys.
A session is kept while the collector answers, if only with 5.xx; else the next attempt begins another one.

Counts. What the queue dropped, and what was refused, rides on the next log record as `dropped` and
`refused`: how many since the last report. They are added when a log record is first sent, stay the
same when it is sent again (the collector may have had it), and are struck off only once it is
delivered: a record that is itself dropped or refused loses no count. One corner remains, as it must
between two parties: if the answer to such a record is lost and the record is then dropped, its
counts come again with a later one. The gaps in `seq` are the exact truth.

A refusal makes no log record if it was a log record that was refused: they would chase each other.
"""

import asyncio
import os

from coaplet import CoapError, Reset, SecurityError, Timeout, code_text

from .records import LOGS, with_counts


class Sender:
    """queue: a Queue; clock: a Clock; config: dict of the running values, read at each attempt;
    connect: coroutine function of a URI that returns a remote with `post`.
    random: function of n that returns n random bytes; sleep: coroutine function of seconds.
    follow: function that is called with each remote that has answered, and with None when that one is given up.
    Attributes to read: `refused`, since the start; `away`.
    """

    def __init__(self, queue, clock, log, config, connect, random=os.urandom, sleep=asyncio.sleep, follow=None):
        self._queue = queue
        self._clock = clock
        self._log = log
        self._config = config
        self._uri = config["collector"]
        self._connect = connect
        self._random = random
        self._sleep = sleep
        self._event = asyncio.Event()
        self._remote = None
        self._known = False  # the collector has answered since the start
        self._away_since = 0
        self._why = ""
        self._wait_ms = 0
        self._full = False  # said that the queue is full, in this time away
        self._complained = False  # said that records are refused, since one was delivered
        self._ticket = -1  # the log record that the counts below ride on
        self._dropped = 0
        self._refused = 0
        self._follow = follow
        self._followed = None
        self.refused = 0
        self.unreported = 0
        self.away = False
        queue.wake = self.wake

    def wake(self):
        """Note that there is something to send. Called by the queue."""
        self._event.set()
        if self.away and self._queue.unreported and not self._full:
            self._full = True
            self._log.say("queue full, %d queued, dropping the oldest" % self._queue.queued)

    async def run(self):
        """Send for ever; ends by being cancelled."""
        while True:
            while not self._queue.queued:
                self._event.clear()
                await self._event.wait()
            wait_ms = await self.step()
            if wait_ms:
                await self._sleep(wait_ms / 1000)

    async def step(self):
        """Try the oldest record once. Returns the milliseconds to wait before the next attempt."""
        ticket, path, body = self._queue.peek()
        is_log = path == LOGS
        if is_log:
            if ticket != self._ticket:
                self._ticket = ticket
                self._dropped = self._queue.unreported
                self._refused = self.unreported
            body = with_counts(body, self._dropped, self._refused)
        if self._remote is None:
            try:
                self._remote = await self._connect(self._uri)
            except (OSError, ValueError, ImportError, MemoryError, CoapError) as e:
                # a name that cannot be found, or is none; no session; an image without coaps
                return self._failed(str(e) or type(e).__name__, isinstance(e, SecurityError))
        try:
            # 50 is application/json
            await self._remote.post(path, body, ct=50, timeout_ms=self._config["answer_ms"])
        except Timeout:
            return self._failed("no answer")
        except Reset:
            return self._failed("reset")
        except SecurityError as e:
            return self._failed(str(e), True)
        except CoapError as e:
            text = code_text(e.code)
            # Without a code it is trouble on our side of the line: the node stops, or has no slot.
            if not e.code or text[0] == "5" or text == "4.29":
                return self._failed(str(e), answered=e.code)
            self._refuse(ticket, path, is_log, str(e))
            return 0
        except (OSError, MemoryError) as e:
            return self._failed(str(e) or type(e).__name__)
        except Exception as e:  # the library would not send it, and would not the next time either
            self._refuse(ticket, path, is_log, str(e) or type(e).__name__)
            return 0
        # Struck off first, by the counts that the record carried: if it was pushed out while it
        # was on its way, `done` takes that drop back, from what is still to report.
        if is_log:
            self._queue.unreported -= self._dropped
            self.unreported -= self._refused
        else:
            self._complained = False
        self._queue.done(ticket)
        self._reached()
        return 0

    def _failed(self, why, security=False, answered=False):
        close = getattr(self._remote, "close", None)
        if close is None or not answered:
            # A new remote next time: the name may by then stand for another address, or the collector have lost its end
            # of the session, which it cannot say.
            self._remote = None
            self._tell()
            if close:
                close()
        first = self._config["retry_first_ms"]
        cap = max(first, self._config["retry_cap_ms"])
        self._wait_ms = min(cap, 2 * self._wait_ms) if self._wait_ms >= first else first
        if not self.away:
            self.away = True
            self._full = False
            self._away_since = self._clock.up_ms()
            self._log.say("collector %s away (%s), %d queued" % (self._uri, why, self._queue.queued))
            self._log.post("warn", "sender", "collector away", why=why)
            self._why = why
        elif security and why != self._why and not why.endswith("no answer"):
            self._log.say("collector %s still away (%s)" % (self._uri, why))
            self._why = why
        return self._wait_ms - self._wait_ms * self._random(1)[0] // 512

    def _reached(self):
        # Any answer that settles a record shows that the collector is there.
        self._wait_ms = 0
        self._tell()
        if self.away:
            self.away = False
            seconds = (self._clock.up_ms() - self._away_since) // 1000
            dropped = self._queue.unreported
            self._log.say("collector back after %d s, %d queued, %d dropped" % (seconds, self._queue.queued, dropped))
            self._log.post("warn" if dropped else "info", "sender", "collector back", away_s=seconds)
        elif not self._known:
            self._log.say("collector %s reachable" % self._uri)
        self._known = True

    def _tell(self):
        if self._follow and self._followed is not self._remote:
            self._followed = self._remote
            self._follow(self._remote)

    def _refuse(self, ticket, path, is_log, why):
        self.refused += 1
        self.unreported += 1
        self._queue.done(ticket, delivered=False)
        self._reached()
        if not self._complained:
            self._complained = True
            self._log.say("warn, collector refused a record for %s: %s" % (path, why))
            if not is_log:
                self._log.post("warn", "sender", "record refused", path=path, why=why)
