"""The board's sensors: reading them, on request and each interval.

A board lists them as (name, unit, rt, title, read): a path segment of a-z 0-9 -, a unit of
RFC 8428 / 8798 (Cel, %RH, hPa, B, s, 1 ...), a resource type, a title for people, and a function
that returns a number, or None when it cannot tell. A sensor that fails never stops the node: its
resource answers 5.03, its readings are left out, and the log says so once, and once more when it
is back.
"""

import asyncio
from array import array

from .records import encode, join, number

HISTORY = 32  # readings of each sensor that are kept
# As many digits as this board's floats have
_FLOAT = "d" if 1 + 2**-30 != 1 else "f"


class Sensor:
    """One sensor; `path` is its resource, `stream` the index of its readings' path in the queue.

    `last`: the latest sample as text, empty before the first and when it could not be read.
    """

    def __init__(self, row, path, stream, log):
        self.name, self.unit, self.rt, self.title, self._read = row
        self.path = path
        self.stream = stream
        self.last = ""
        self._log = log
        self._failing = False

    def text(self):
        """Read it. Returns the number as text that is also JSON, or None when it cannot be read."""
        why = "no value"
        try:
            text = number(self._read())
        except Exception as e:  # a driver is code of its own, and none of it may take the node down
            text = None
            why = str(e) or type(e).__name__
        if (text is None) != self._failing:
            self._failing = text is None
            if self._failing:
                self._log.warning("sensors", "cannot be read", sensor=self.name, why=why)
            else:
                self._log.info("sensors", "can be read again", sensor=self.name)
        return text

    def state(self, sampled):
        """Return the latest sample if it is wanted and there is one, else read the sensor: text, or None."""
        return sampled and self.last or self.text()

    def json(self, sampled=False):
        """Return state(sampled) as JSON text {"value":number or null,"unit":text}."""
        return join([("value", self.state(sampled) or "null"), ("unit", encode(self.unit))])


class History:
    """The last HISTORY samples of all sensors: a ring of rows in two arrays, made once.

    A row: when, in ms since the start, and a number for each sensor, nan where it could not be read.
    """

    def __init__(self, sensors):
        self._sensors = sensors
        self._at = array("q", bytes(8 * HISTORY))
        self._values = array(_FLOAT, bytes((8 if _FLOAT == "d" else 4) * HISTORY * sensors))
        self._samples = 0  # so far
        self._since = None  # when the node was started, ms since 1970, as the clock was at the last sample

    def begin(self, up_ms, now_ms):
        """Begin a row; the oldest one makes way. now_ms: ms since 1970, or None. Returns the row."""
        row = self._samples % HISTORY
        self._at[row] = up_ms
        for i in range(self._sensors):
            self._values[row * self._sensors + i] = float("nan")
        self._since = None if now_ms is None else now_ms - up_ms
        self._samples += 1
        return row

    def put(self, row, i, value):
        """Put the number of the i-th sensor into a row."""
        self._values[row * self._sensors + i] = value

    def write(self, i, unit, write):
        """Write the i-th sensor's samples, oldest first, piece by piece: JSON {"unit","readings":[{"ts","value"}]}.

        `ts` is that of the records, ms since 1970; while the clock is not set there is `up`, ms since the start. The
        text stays the same between two samples: who fetches it in blocks gets one state, or finds that it has changed.
        """
        write('{"unit":%s,"readings":[' % encode(unit))
        stamp = '{"up":%d,"value":%s}' if self._since is None else '{"ts":%d,"value":%s}'
        comma = ""
        for n in range(max(0, self._samples - HISTORY), self._samples):
            row = n % HISTORY
            value = number(self._values[row * self._sensors + i])
            if value is not None:
                write(comma + stamp % (self._at[row] + (self._since or 0), value))
                comma = ","
        write("]}")


class Sensors:
    """All sensors of a board, with its battery and its radio's signal where it has them.

    board: see boards/UNIX/README.md; config: dict of the running values; queue: a Queue or None.
    Attributes: `list`, those below /sensors; `all`, with battery and signal; `changed`: function of a path, called when
    there is a new sample of what is there.
    """

    def __init__(self, board, config, queue, records, log, clock):
        self._records = records
        self._clock = clock
        self.changed = None

        def make(row, path):
            return Sensor(row, path, queue.path(".s/" + row[0]) if queue else 0, log)

        self.list = [make(row, "sensors/" + row[0]) for row in board.sensors(config)]
        self.all = list(self.list)
        if board.battery:
            self.all.append(make(("battery", "%EL", "battery", "Battery charge", board.battery), "battery"))
        if board.signal:
            self.all.append(make(("signal", "dBm", "signal", "Radio signal", board.signal), "signal"))
        self._history = History(len(self.all))

    def json(self, sampled=False):
        """Return those below /sensors, as Sensor.json() has each: JSON text {NAME: {"value","unit"}, ...}."""
        return join([(sensor.name, sensor.json(sampled)) for sensor in self.list])

    def history(self, path, write):
        """Write the history of the sensor at a path, see History.write(). Returns False where there is none."""
        for i in range(len(self.all)):
            sensor = self.all[i]
            if sensor.path == path:
                self._history.write(i, sensor.unit, write)
                return True
        return False

    def sample(self):
        """Read all, queue a record for each that could be read, keep the number, and tell who observes it."""
        for _ in self._read_each():
            pass

    def _read_each(self):
        """Do what sample() does, a sensor at a time: for who has something else to do in between."""
        row = self._history.begin(self._clock.up_ms(), self._clock.now_ms())
        for i in range(len(self.all)):
            sensor = self.all[i]
            text = sensor.text()
            sensor.last = text or ""
            if text is not None:
                self._records.reading(sensor.stream, text, sensor.unit)
                self._history.put(row, i, float(text))
                # Not when it cannot be read: an error would end each observation (RFC 7641 4.2), and it may pass.
                if self.changed:
                    self.changed(sensor.path)
            yield
        if self.changed:
            self.changed("sensors")

    async def run(self, interval_s, sleep=asyncio.sleep):
        """Sample now and each `interval_s` (1..86400) until cancelled.

        The times are multiples of the interval after the start, however long reading takes;
        those missed while the node was busy are left out, not made up for.
        """
        clock = self._clock
        interval = interval_s * 1000
        due = clock.up_ms()
        while True:
            try:
                for _ in self._read_each():
                    await asyncio.sleep(0)
            except MemoryError:
                pass  # the next time there may be some
            now = clock.up_ms()
            due += interval * (1 + (now - due) // interval)
            await sleep((due - now) / 1000)
