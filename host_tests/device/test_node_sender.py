# The sender against a scripted collector: order, waiting, refusals, and counts that are neither lost nor told twice.

import asyncio

from coaplet import CoapError, Reset, Timeout
from harness import rounds
from node.log import Log
from node.queue import Queue
from node.records import Records
from node.schema import defaults
from node.sender import Sender
from node_fakes import Board, Clock, Remote, run


class Setup:
    """A queue of 4 records, a sender, its scripted collector, a virtual clock."""

    def __init__(self, script=(), records=4, random=0, level="info"):
        self.config = defaults()
        self.config["collector"] = "coap://c"
        self.board = Board()
        self.clock = Clock(self.board)
        self.queue = Queue(records)
        self.records = Records(self.queue, self.clock, "n", 1)
        self.lines = []
        self.log = Log(self.records, level, self.lines.append)
        self.remote = Remote(script)
        self.waits = []
        self.sender = Sender(
            self.queue, self.clock, self.log, self.config, self.remote.connect, lambda n: bytes([random]), self.sleep
        )
        self.path = self.queue.path(".s/x")

    async def sleep(self, seconds):
        self.waits.append(seconds)
        self.board.advance(int(seconds * 1000))
        await asyncio.sleep(0)

    def read(self, count=1):
        for _ in range(count):
            self.records.reading(self.path, "1", "1")

    def step(self):
        return run(self.sender.step())

    def drain(self):
        """Let the sender run until the queue is empty. Bounded, so that a live-lock fails."""

        async def main():
            task = asyncio.create_task(self.sender.run())
            for _ in range(2000):
                await asyncio.sleep(0)
                if not self.queue.queued:
                    break
            await asyncio.sleep(0)
            task.cancel()
            assert not self.queue.queued

        run(main())


def timeout():
    return Timeout(0, "no answer")


def busy(code=163):
    return CoapError(code, "later")


def bad(code=128):
    return CoapError(code, "bad record")


def test_records_are_sent_in_order_and_leave_after_success():
    s = Setup()
    s.read(3)
    assert s.step() == 0
    assert s.queue.queued == 2
    s.drain()
    assert s.remote.of("seq") == [1, 2, 3]
    assert s.lines == ["node: collector coap://c reachable"]


def test_a_record_without_an_answer_stays_and_is_sent_again():
    for error in (timeout(), Reset(0, "rejected"), OSError(111), busy(), busy(157), busy(160), MemoryError()):
        s = Setup([error])
        s.read(2)
        assert s.step() > 0
        assert s.queue.queued == 3 and s.sender.away  # with the log of its being away
        s.drain()
        assert s.remote.of("seq")[:3] == [1, 2, 3]
        assert [post[1]["seq"] for post in s.remote.posts][:2] == [1, 1]


def test_a_collector_that_cannot_be_found_is_away():
    s = Setup()

    async def nowhere(uri):
        raise OSError(-2)

    s.sender._connect = nowhere
    s.read()
    assert s.step() == 1000 and s.sender.away and s.queue.queued == 2
    s.sender._connect = s.remote.connect
    s.drain()
    assert s.remote.of("seq")[0] == 1


def test_the_wait_doubles_to_its_cap_and_starts_again_after_success():
    s = Setup([timeout() for _ in range(9)])
    s.read()
    waits = [s.step() for _ in range(9)]
    assert waits == [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]
    assert s.step() == 0
    s.remote.script = [timeout()]
    assert s.step() == 1000


def test_the_wait_is_shortened_at_random_by_at_most_half():
    for random in (0, 1, 128, 255):
        s = Setup([timeout() for _ in range(12)], random=random)
        s.read()
        for k in range(12):
            whole = min(60000, 1000 << k)
            wait = s.step()
            assert whole // 2 <= wait <= whole
            assert wait == whole - whole * random // 512


def test_the_waits_are_configurable():
    s = Setup([timeout() for _ in range(5)])
    s.config["retry_first_ms"] = 20
    s.config["retry_cap_ms"] = 50
    s.read()
    assert [s.step() for _ in range(5)] == [20, 40, 50, 50, 50]


def test_away_and_back_are_one_line_and_one_record_each():
    s = Setup([timeout() for _ in range(6)])
    s.read()
    s.drain()
    assert s.lines == [
        "node: collector coap://c away (no answer), 1 queued",
        "node: collector back after 63 s, 1 queued, 0 dropped",
    ]
    logs = [post[1] for post in s.remote.taken if post[0] == "logs"]
    assert [(r["level"], r["msg"]) for r in logs] == [("warn", "collector away"), ("info", "collector back")]
    assert logs[0]["why"] == "no answer" and logs[1]["away_s"] == 63
    assert s.waits == [1, 2, 4, 8, 16, 32]


def test_a_new_remote_is_made_after_a_failure_only():
    s = Setup([None, None, timeout(), None])
    s.read(4)
    s.drain()
    assert s.remote.connects == 2


def test_a_refused_record_is_dropped_counted_and_reported():
    for code in (128, 132, 141, 143):
        s = Setup([bad(code)])
        s.read(2)
        assert s.step() == 0
        assert s.sender.refused == 1 and not s.sender.away
        s.drain()
        assert s.remote.of("seq") == [2, 3]
        assert s.remote.taken[1][1]["msg"] == "record refused" and s.remote.of("refused") == [1]
        assert s.lines[1].startswith("node: warn, collector refused a record for .s/x: 4.")


def test_what_the_library_cannot_send_is_refused_too():
    s = Setup([ValueError("too large")])
    s.read(2)
    s.drain()
    assert s.sender.refused == 1 and s.remote.of("seq") == [2, 3]


def test_refused_logs_do_not_make_more_logs():
    s = Setup([bad() for _ in range(3)])
    for _ in range(3):
        s.log.post("info", "m", "x")
    s.drain()
    assert len(s.remote.posts) == 3 and s.sender.refused == 3
    assert len(s.lines) == 2
    s.log.post("info", "m", "x")
    s.drain()
    assert s.remote.of("refused") == [3]


def test_a_run_of_refused_readings_makes_one_log():
    s = Setup([bad() for _ in range(20)], records=32)
    s.read(20)
    s.drain()
    assert [post[1]["msg"] for post in s.remote.taken] == ["record refused"]
    assert s.remote.of("refused") == [20]


def test_drops_ride_on_the_next_log_exactly_once():
    s = Setup()
    s.read(10)
    s.drain()
    assert s.remote.of("seq") == [7, 8, 9, 10] and s.remote.of("dropped") == []
    s.log.post("info", "m", "a")
    s.log.post("info", "m", "b")
    s.drain()
    assert [post[1].get("dropped") for post in s.remote.taken][-2:] == [6, None]
    assert s.queue.unreported == 0 and s.queue.dropped == 6


def test_the_count_survives_the_refusal_of_the_log_that_carried_it():
    s = Setup([None, None, None, bad()])
    s.read(5)
    s.log.post("info", "m", "a")
    assert s.queue.dropped == 2
    s.drain()
    assert s.remote.of("dropped") == [] and s.queue.unreported == 2
    s.log.post("info", "m", "b")
    s.drain()
    assert s.remote.of("dropped") == [2] and s.remote.of("refused") == [1]


def test_the_count_survives_the_dropping_of_the_log_that_carried_it():
    s = Setup([timeout(), timeout()])
    s.read(4)
    s.log.post("info", "m", "a")  # drops 1
    s.read(9)  # pushes the log out
    s.step()
    s.step()
    assert s.queue.unreported == s.queue.dropped
    s.drain()
    s.log.post("info", "m", "b")
    s.drain()
    assert sum(s.remote.of("dropped")) == s.queue.dropped
    lost = set(range(1, s.records.seq + 1)) - set(s.remote.of("seq"))
    assert len(lost) == s.queue.dropped


def test_a_log_sent_again_carries_the_same_count():
    s = Setup([timeout(), timeout(), None])
    s.log.post("info", "m", "a")
    s.queue.dropped = s.queue.unreported = 3
    s.step()
    s.queue.dropped += 2
    s.queue.unreported += 2
    s.step()
    s.step()
    assert [post[1].get("dropped") for post in s.remote.posts] == [3, 3, 3]
    assert s.queue.unreported == 2


def test_a_log_pushed_out_in_flight_but_delivered_is_no_drop():
    s = Setup()
    s.remote.script = [lambda: s.read(4)]
    s.log.post("info", "m", "a")
    s.step()
    assert s.remote.of("seq") == [1] and s.queue.dropped == 0 and s.queue.unreported == 0
    s.drain()
    assert s.remote.of("seq") == [1, 2, 3, 4, 5]


def test_drops_counted_while_a_reading_is_in_flight_are_reported_once():
    s = Setup()
    s.remote.script = [lambda: s.read(6)]
    s.read()
    s.step()
    assert s.queue.dropped == 2 and s.queue.unreported == 2
    s.log.post("info", "m", "a")
    s.drain()
    s.log.post("info", "m", "b")
    s.drain()
    assert sum(s.remote.of("dropped")) == s.queue.dropped
    assert len(set(range(1, s.records.seq + 1)) - set(s.remote.of("seq"))) == s.queue.dropped


def test_whatever_the_collector_does_counts_and_gaps_agree():
    for seed in range(1, 1 + rounds(29)):
        s = Setup(records=8)
        x = seed
        for _ in range(150):
            x = (x * 75 + 74) % 65537
            kind = x % 11
            if kind < 4:
                s.read(1 + x % 3)
            elif kind == 4:
                s.log.info("m", "x")
            elif s.queue.queued:
                script = [None, None, None, timeout(), busy(), bad(), lambda: s.read(1)]
                if x % 13 == 0:
                    script.append(lambda: s.read(20))
                s.remote.script = [script[(x >> 4) % len(script)]]
                s.step()
        s.remote.script = []
        s.drain()
        s.log.warning("m", "last")
        s.drain()
        seqs = s.remote.of("seq")
        assert seqs == sorted(seqs) and len(set(seqs)) == len(seqs)
        lost = s.records.seq - len(seqs)
        assert lost == s.queue.dropped + s.sender.refused, (seed, lost, s.queue.dropped, s.sender.refused)
        assert sum(s.remote.of("dropped")) == s.queue.dropped and s.queue.unreported == 0, seed
        assert sum(s.remote.of("refused")) == s.sender.refused and s.sender.unreported == 0, seed


def test_a_full_queue_is_said_once_in_each_time_away():
    s = Setup([timeout()])
    s.read()
    s.step()
    s.read(20)
    assert s.lines[1:] == ["node: queue full, 4 queued, dropping the oldest"]
    s.drain()
    assert s.lines[2].startswith("node: collector back after ") and " dropped" in s.lines[2]
    assert s.remote.taken[-1][1]["level"] == "warn" and s.remote.taken[-1][1]["dropped"] == s.queue.dropped


def test_a_log_level_that_hides_everything_does_not_stop_the_sender():
    s = Setup([timeout(), bad()], level="error")
    s.read(3)
    s.drain()
    assert s.remote.of("seq") == [2, 3] and s.remote.of("level") == []


def test_who_follows_is_told_of_each_remote_that_answers_and_when_it_is_given_up():
    s = Setup([None, timeout(), timeout(), None])
    told = []
    s.sender._follow = told.append
    s.read(2)
    while s.queue.queued:
        s.step()
    assert told == [s.remote, None, s.remote]
