# The node's sender over coaps: which session is kept and which is given up, and what the console says of it. Scripted:
# with real sessions see test_node_process.py.

import asyncio

from coaplet import CoapError, Reset, SecurityError, Timeout
from node.log import Log
from node.queue import Queue
from node.records import Records
from node.schema import defaults
from node.sender import Sender
from node_fakes import Board, Clock, Cloud, Remote, run


class Session(Remote):
    """A collector over coaps: `closed`, how many remotes were given back; `refusals`, errors of the next connects."""

    def __init__(self, script=()):
        super().__init__(script)
        self.closed = 0
        self.refusals = []

    async def connect(self, uri):
        if self.refusals:
            raise self.refusals.pop(0)
        return await super().connect(uri)

    def close(self):
        self.closed += 1


class Setup:
    def __init__(self, script=()):
        self.config = defaults()
        self.config["collector"] = "coaps://c"
        self.queue = Queue(8)
        clock = Clock(Board())
        self.records = Records(self.queue, clock, "n", 1)
        self.lines = []
        self.session = Session(script)
        log = Log(self.records, "info", self.lines.append)
        connect = self.session.connect
        self.sender = Sender(self.queue, clock, log, self.config, Cloud(), connect, lambda n: bytes(n), asyncio.sleep)
        self.path = self.queue.path(".s/x")
        self.records.reading(self.path, "1", "1")

    def step(self):
        return run(self.sender.step())


def test_a_session_is_kept_while_the_collector_answers():
    for code in (157, 160, 163):
        s = Setup([CoapError(code, "later"), CoapError(code, "later")])
        assert s.step() and s.step() and s.step() == 0
        assert (s.session.connects, s.session.closed) == (1, 0)
        assert s.session.of("seq") == [1]


def test_a_session_that_answers_nothing_is_given_up_for_another_one():
    for error in (Timeout(0, "no answer"), Reset(0, "rejected"), SecurityError(0, "gone"), OSError(111), MemoryError()):
        s = Setup([error])
        assert s.step() > 0
        assert (s.session.connects, s.session.closed) == (1, 1)
        assert s.step() == 0
        assert (s.session.connects, s.session.closed) == (2, 1)
        assert s.session.of("seq") == [1]


def test_without_a_session_the_record_stays_and_the_console_says_why():
    why = "no session with c:5684: wrong key, or unknown identity (decrypt_error)"
    for error in (SecurityError(0, why), ImportError(why), OSError(why)):
        s = Setup()
        s.session.refusals = [error, error, error]
        assert [s.step() for _ in range(3)] == [1000, 2000, 4000]
        assert s.lines == ["node: collector coaps://c away (%s), 1 queued" % why]
        assert s.step() == 0 and s.session.of("seq") == [1]
        assert s.step() == 0 and s.session.of("why") == [why]  # the log record of it


def test_another_reason_why_there_is_no_session_is_a_line_of_its_own():
    s = Setup()
    whys = ("no answer", "no session: no answer", "wrong key", "no session: no answer", "wrong key")
    s.session.refusals = [SecurityError(0, why) for why in whys]
    for _ in whys:
        assert s.step() > 0
    assert s.lines == [
        "node: collector coaps://c away (no answer), 1 queued",
        "node: collector coaps://c still away (wrong key)",
    ]
