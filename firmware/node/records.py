"""Records as the collector gets them: JSON objects that carry node, boot and seq.

    log      {"level","module","msg", ...extra..., "node","boot","seq","ts"}    to `logs`
    reading  {"value","unit","node","boot","seq","ts"}                          to `.s/NAME`

`ts` is ms since 1970; while the board's clock is not set there is `up` instead, ms since the start.
One counter gives `seq` to both kinds, 1 at the start of each boot, so that (node, boot, seq) names
a record for ever and a gap in it is a record that was lost. A record is encoded once, here, and
waits in the queue as these bytes.

JSON is put together pair by pair: a dict has no order on MicroPython, and people read these lines.
"""

import json

from .queue import BODY_MAX

LOGS = "logs"
_OWN = ("level", "module", "msg", "node", "boot", "seq", "ts", "up", "dropped", "refused")


def number(value):
    """Return a number as text that is also JSON, at most 3 decimals: "21.5", "3".

    Returns None for None and for what JSON cannot say (nan, inf).
    """
    if value is None or value is True or value is False:
        return None
    if isinstance(value, int):
        return str(value)
    # Not compared with itself: nan would be, but inf - inf is nan as well, so one test serves both.
    if value - value != 0:
        return None
    text = ("%.3f" % value).rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def encode(value):
    """Return JSON text of None, bool, int, float or str; anything else as its str()."""
    if isinstance(value, float):
        return number(value) or "null"
    if value is None or isinstance(value, (bool, int, str)):
        return json.dumps(value)
    return json.dumps(str(value))


def join(pairs):
    """Return a JSON object of (key, JSON text) pairs, in their order, without spaces."""
    return "{" + ",".join(['"%s":%s' % pair for pair in pairs]) + "}"


class Records:
    """Makes the records of one boot and puts them into `queue` (None: there is no collector).

    node: the configured name; boot: this boot's number; clock: a Clock.
    """

    def __init__(self, queue, clock, node, boot):
        self._queue = queue
        self._clock = clock
        self._head = '"node":%s,"boot":%d,"seq":' % (encode(node), boot)
        self._logs = queue.path(LOGS) if queue else 0
        self.seq = 0

    def log(self, level, module, msg, extra):
        """Queue a log record. extra: dict of further keys; one that is the record's own gets a "_".

        A record above BODY_MAX bytes loses its extra keys, then half of its message again and
        again, and says so with "cut".
        """
        if self._queue is None:
            return
        module = str(module)
        msg = str(msg)
        pairs = [("level", encode(level)), ("module", encode(module)), ("msg", encode(msg))]
        for key in sorted(extra):
            name = encode(key + "_" if key in _OWN else key)[1:-1]
            pairs.append((name, encode(extra[key])))
        tail = self._tail()
        body = (join(pairs)[:-1] + tail).encode()
        while len(body) > BODY_MAX:
            pairs = [("level", encode(level)), ("module", encode(module[:32])), ("msg", encode(msg)), ("cut", "true")]
            body = (join(pairs)[:-1] + tail).encode()
            msg = msg[: len(msg) // 2]
        self._queue.push(self._logs, body)

    def reading(self, path, value, unit):
        """Queue a reading. path: index from Queue.path; value: JSON text of a number; unit: str."""
        if self._queue is None:
            return
        body = '{"value":%s,"unit":%s' % (value, encode(unit)) + self._tail()
        self._queue.push(path, body.encode())

    def _tail(self):
        self.seq += 1
        now = self._clock.now_ms()
        stamp = ',"up":%d}' % self._clock.up_ms() if now is None else ',"ts":%d}' % now
        return "," + self._head + str(self.seq) + stamp


def cut(body, most):
    """Return a log record's bytes with less of its message and none of its further keys, and "cut":true.

    body: as records are queued, and with_counts() has them. Returns None where `most` bytes cannot hold what is left.
    """
    record = json.loads(body)
    msg = str(record.get("msg", ""))
    while True:
        pairs = [("cut", "true") if key == "cut" else (key, encode(record[key])) for key in _OWN if key in record]
        text = join([pair for pair in pairs if pair[0] not in ("msg", "cut")] + [("msg", encode(msg)), ("cut", "true")])
        text = text.encode()  # MicroPython's json leaves characters as they are: bytes count
        if len(text) <= most:
            return text
        if not msg:
            return None
        msg = msg[: len(msg) // 2]


def with_counts(body, dropped, refused):
    """Return a log record's bytes with the counts that are not 0 added as `dropped` and `refused`."""
    if not dropped and not refused:
        return body
    counts = (',"dropped":%d' % dropped if dropped else "") + (',"refused":%d' % refused if refused else "")
    return body[:-1] + counts.encode() + b"}"
