"""The sender: one task that brings the queue's records to the collector, oldest first.

One request is in flight, and records leave the queue only when they are settled. A request has one log, or as many
readings as the cloud takes at once (clouds/):

    2.xx                  delivered
    no answer, reset, no route, no session, 5.xx, 4.29, 4.01, 4.03
                          the collector is away or busy, or does not let us in: keep it, wait, try again. The wait
                          doubles from retry_first_ms to retry_cap_ms and is shortened by up to half at random, so
                          that a thousand nodes do not come back in the same instant; it is at least the Max-Age of
                          an answer that has one
    4.13                  more than it takes: fewer readings at once, a log that is cut and says so
    another 4.xx          refused: the record is bad and stays bad. Dropped and counted. Of a batch that is refused
                          each record is sent alone; where none of them is refused then, there are no more batches

A change between away and back is one line and one log record, however many attempts it takes. Over
coaps there is a line more when what is in the way changes: who hears "no answer" does not look at keys.
A session is kept while the collector answers, if only with 5.xx; else the next attempt begins another one.

With nothing to send for `keepalive_s` the collector is asked whether it is there (0: never): so a session, and the way
back through routers on the way, are there when it has something to tell.

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

from .clouds import SHUT_OUT
from .records import LOGS, cut, with_counts

_MAX_AGE = 14
_SIZE1 = 60
_LEAST = 64  # bytes of a payload: who takes less than that takes nothing
_LONGEST_MS = 3600000  # a Max-Age that we heed


class Sender:
    """queue: a Queue; clock: a Clock; config: dict of the running values, read at each attempt; cloud: a clouds.Base;
    connect: coroutine function of a URI that returns a remote with `request`.
    random: function of n that returns n random bytes; sleep: coroutine function of seconds.
    follow: function that is called with each remote that has answered, and with None when that one is given up.
    Attributes to read: `refused`, since the start; `away`.
    """

    def __init__(self, queue, clock, log, config, cloud, connect, random=os.urandom, sleep=asyncio.sleep, follow=None):
        self._queue = queue
        self._clock = clock
        self._log = log
        self._config = config
        self._cloud = cloud
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
        self._most = cloud.payload_max  # bytes of a payload that the collector takes
        self._single = False  # it takes no batches
        self._alone = 0  # how many records, of a batch that was refused, are to be sent one by one
        self._guilty = False  # one of those was refused, too: else it is batches that the collector does not take
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
                idle_s = self._config["keepalive_s"]
                if not idle_s:
                    await self._event.wait()
                elif not await self._is_woken(idle_s):
                    break
                if self._cloud.batch > 1 and not self._single:
                    await self._sleep(self._cloud.pace_ms / 1000)  # more may come at once
            try:
                wait_ms = await self.step()
            except Exception as e:  # no memory, say: nobody would begin this task again
                self._log.say("warn, sender: %s" % (str(e) or type(e).__name__))
                wait_ms = self._config["retry_first_ms"]
            if wait_ms:
                await self._sleep(wait_ms / 1000)

    async def _is_woken(self, seconds):
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
            return True
        except asyncio.TimeoutError:
            return False

    async def step(self):
        """Try the oldest record once, or with none ask whether the collector is there.

        Returns the milliseconds to wait before the next attempt.
        """
        began = self._clock.up_ms()
        records, tickets = self._gather()
        await self._sleep(0)  # here and below: on a small board each part takes milliseconds
        if self._remote is None:
            try:
                self._remote = await self._connect(self._uri)
                await self._cloud.connect(self._remote)
                self._single = False
            except (OSError, ValueError, ImportError, MemoryError, CoapError) as e:
                # a name that cannot be found, or is none; no session; an image without coaps
                return self._failed(_why(e), isinstance(e, SecurityError), lost=True, least_ms=_max_age_ms(e))
            self._most = self._cloud.payload_max
        if not records:
            try:
                await self._cloud.keep_alive(self._remote)
            except (CoapError, OSError, MemoryError, ValueError) as e:
                return self._failed(_why(e), isinstance(e, SecurityError), lost=True, least_ms=_max_age_ms(e))
            self._reached()
            return 0
        path, body = records[0]
        is_log = path == LOGS
        if is_log and len(body) > self._most:
            body = cut(body, self._most)
            if body is None:
                self._refuse(tickets[0], path, is_log, "more than the collector takes")
                return 0
            records[0] = (path, body)
        payload = b""
        try:
            method, where, payload, ct = self._cloud.request(records)
            await self._sleep(0)
            await self._remote.request(method, where, payload, ct=ct, timeout_ms=self._config["answer_ms"])
        except SecurityError as e:
            return self._failed(str(e), True)
        except (Timeout, Reset) as e:
            return self._failed(_why(e))
        except CoapError as e:
            text = code_text(e.code)
            # Without a code it is trouble on our side of the line: the node stops, or has no slot.
            if not e.code or text[0] == "5" or text == "4.29":
                return self._failed(str(e), answered=e.code, least_ms=_max_age_ms(e))
            if e.code in SHUT_OUT:
                return self._failed(str(e), lost=True)
            if text == "4.13" and (is_log or len(records) > 1) and self._is_less(len(payload), e):
                return 0
            if len(records) > 1:
                self._alone = len(records)
                self._guilty = False
                return 0
            self._refuse(tickets[0], path, is_log, str(e))
            return self._pace(began)
        except (OSError, MemoryError) as e:
            return self._failed(_why(e))
        except Exception as e:  # the library would not send it, and would not the next time either
            self._refuse(tickets[0], path, is_log, _why(e))
            return 0
        # Struck off first, by the counts that the record carried: if it was pushed out while it
        # was on its way, `done` takes that drop back, from what is still to report.
        if is_log:
            self._queue.unreported -= self._dropped
            self.unreported -= self._refused
        else:
            self._complained = False
        for ticket in tickets:
            self._queue.done(ticket)
        self._settled()
        self._reached()
        return self._pace(began)

    def _gather(self):
        """Return the records of the next request, [(path, body)], and their tickets: a log, or some readings."""
        records = []
        tickets = []
        size = 2
        most = 1 if self._alone or self._single else self._cloud.batch
        while len(records) < most:
            record = self._queue.peek(len(records))
            if record is None:
                break
            ticket, path, body = record
            size += len(path) + len(body) + 4
            if records and (path == LOGS or size > self._most):
                break
            if path == LOGS:
                if ticket != self._ticket:
                    self._ticket = ticket
                    self._dropped = self._queue.unreported
                    self._refused = self.unreported
                body = with_counts(body, self._dropped, self._refused)
                most = 1
            records.append((path, body))
            tickets.append(ticket)
        return records, tickets

    def _settled(self):
        if self._alone:
            self._alone -= 1
            if not self._alone and not self._guilty:
                self._single = True

    def _is_less(self, length, error):
        """Note that `length` bytes were more than the collector takes. Returns whether less can be tried."""
        hint = error.reply.uint(_SIZE1, None, 4) if error.reply else None
        length = min(length, self._most)  # what the cloud puts around a record does not count
        most = hint if hint and hint < length else length // 2
        if most < _LEAST:
            return False
        self._most = most
        return True

    def _pace(self, began):
        """Return how long to wait, after a request that began then, before the next one."""
        if not self._queue.queued:
            return 0
        return max(0, self._cloud.pace_ms - (self._clock.up_ms() - began))

    def _failed(self, why, security=False, answered=False, lost=False, least_ms=0):
        close = getattr(self._remote, "close", None)
        if close is None or lost or not answered:
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
        return max(least_ms, self._wait_ms - self._wait_ms * self._random(1)[0] // 512)

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
        self._guilty = True
        self._settled()
        self._reached()
        if not self._complained:
            self._complained = True
            self._log.say("warn, collector refused a record for %s: %s" % (path, why))
            if not is_log:
                self._log.post("warn", "sender", "record refused", path=path, why=why)


def _why(error):
    if isinstance(error, Timeout):
        return "no answer"
    if isinstance(error, Reset):
        return "reset"
    return str(error) or type(error).__name__


def _max_age_ms(error):
    """Return the Max-Age of an error, how long the server does not want to be asked (RFC 7252 5.9.3.4, RFC 8516)."""
    reply = getattr(error, "reply", None)
    seconds = reply.uint(_MAX_AGE, None, 4) if reply else None
    return min(1000 * seconds, _LONGEST_MS) if seconds else 0
