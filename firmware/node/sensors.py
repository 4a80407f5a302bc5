"""The board's sensors: reading them, on request and each interval.

A board lists them as (name, unit, rt, title, read): a path segment of a-z 0-9 -, a unit of
RFC 8428 / 8798 (Cel, %RH, hPa, B, s, 1 ...), a resource type, a title for people, and a function
that returns a number, or None when it cannot tell. A sensor that fails never stops the node: its
resource answers 5.03, its readings are left out, and the log says so once, and once more when it
is back.
"""

import asyncio

from .records import encode, join, number


class Sensor:
    """One sensor; `path` is its resource, `stream` the index of its readings' path in the queue."""

    def __init__(self, row, path, stream, log):
        self.name, self.unit, self.rt, self.title, self._read = row
        self.path = path
        self.stream = stream
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

    def json(self):
        """Read it. Returns JSON text {"value":number or null,"unit":text}."""
        return join([("value", self.text() or "null"), ("unit", encode(self.unit))])


class Sensors:
    """All sensors of a board, with its battery and its radio's signal where it has them.

    board: see boards/UNIX/README.md; config: dict of the running values; queue: a Queue or None.
    Attributes: `list`, those below /sensors; `all`, with battery and signal.
    """

    def __init__(self, board, config, queue, records, log):
        self._records = records

        def make(row, path):
            return Sensor(row, path, queue.path(".s/" + row[0]) if queue else 0, log)

        self.list = [make(row, "sensors/" + row[0]) for row in board.sensors(config)]
        self.all = list(self.list)
        if board.battery:
            self.all.append(make(("battery", "%EL", "battery", "Battery charge", board.battery), "battery"))
        if board.signal:
            self.all.append(make(("signal", "dBm", "signal", "Radio signal", board.signal), "signal"))

    def json(self):
        """Read those below /sensors. Returns JSON text {NAME: {"value","unit"}, ...}."""
        return join([(sensor.name, sensor.json()) for sensor in self.list])

    def sample(self):
        """Read all and queue a record for each that could be read."""
        for sensor in self.all:
            text = sensor.text()
            if text is not None:
                self._records.reading(sensor.stream, text, sensor.unit)

    async def run(self, interval_s, clock, sleep=asyncio.sleep):
        """Sample now and each `interval_s` (1..86400) until cancelled.

        The times are multiples of the interval after the start, however long reading takes;
        those missed while the node was busy are left out, not made up for.
        """
        interval = interval_s * 1000
        due = clock.up_ms()
        while True:
            self.sample()
            now = clock.up_ms()
            due += interval * (1 + (now - due) // interval)
            await sleep((due - now) / 1000)
