# The sender against a scripted collector: order, waiting, refusals, and counts that are neither lost nor told twice.

import asyncio
import json

from coaplet import CoapError, Reset, Timeout
from harness import rounds
from node.log import Log
from node.queue import Queue
from node.records import Records
from node.schema import defaults
from node.sender import Sender
from node_fakes import Board, Clock, Cloud, Remote, run


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
        self.cloud = Cloud()
        self.sender = Sender(
            *(self.queue, self.clock, self.log, self.config, self.cloud, self.remote.connect),
            **{"random": lambda n: bytes([random]), "sleep": self.sleep},
        )
        self.path = self.queue.path(".s/x")

    async def sleep(self, seconds):
        if seconds:  # else it only gives way
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

    def finish(self):
        """As drain(), step by step, and as often as wanted."""
        for _ in range(2000):
            if not self.queue.queued:
                return
            wait_ms = self.step()
            if wait_ms:
                run(self.sleep(wait_ms / 1000))
        raise AssertionError("no end in sight")


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


# What a request has


class Batches(Cloud):
    """A cloud that takes up to 4 readings at once; a request of n records is a list of n bodies."""

    batch = 4
    payload_max = 300

    def request(self, records):
        if len(records) == 1:
            return 2, records[0][0], records[0][1], 50
        return 2, ".s", b"[" + b",".join([body for _, body in records]) + b"]", 50


def batches(script=(), records=16, **limits):
    s = Setup(script, records)
    s.cloud = s.sender._cloud = Batches()
    for name in limits:
        setattr(s.cloud, name, limits[name])
    s.sender._most = s.cloud.payload_max
    s.sender._batch = s.cloud.batch
    return s


def seqs(s):
    """The seq of each record that was taken, a list for each request."""
    taken = [body if isinstance(body, list) else [body] for _, body in s.remote.taken]
    return [[record["seq"] for record in records] for records in taken]


class Told:
    """A response with these options."""

    def __init__(self, **options):
        self._options = {14: options.get("max_age"), 60: options.get("size1")}

    def uint(self, number, default, most):
        value = self._options.get(number)
        return default if value is None else value


def error(code, **options):
    return CoapError(code, "told", Told(**options))


def test_readings_are_sent_together_as_many_as_the_cloud_takes_and_as_fit():
    s = batches()
    s.read(6)
    s.finish()
    assert seqs(s) == [[1, 2, 3, 4], [5, 6]]
    s = batches(payload_max=150)
    s.read(6)
    s.finish()
    assert seqs(s) == [[1, 2], [3, 4], [5, 6]]


def test_a_log_is_sent_alone_and_the_order_stays():
    s = batches()
    s.read(2)
    s.log.info("m", "one")
    s.log.info("m", "two")
    s.read(1)
    s.finish()
    assert seqs(s) == [[1, 2], [3], [4], [5]]


def test_a_batch_that_was_not_answered_is_sent_again_with_what_came_meanwhile():
    s = batches([timeout()])
    s.read(2)
    assert s.step() > 0
    s.read(1)
    s.finish()
    assert seqs(s)[0] == [1, 2] and [seq for request in seqs(s) for seq in request] == [1, 2, 3, 4, 5]


def test_of_a_batch_that_is_refused_each_record_is_sent_alone_and_the_bad_one_is_counted():
    s = batches([bad(), None, bad()])
    s.read(4)
    s.finish()
    assert seqs(s)[:3] == [[1], [3], [4]] and s.sender.refused == 1
    s.read(4)
    s.finish()
    assert len(seqs(s)[-1]) == 4  # and then together again


def test_a_collector_that_takes_each_record_but_no_batch_gets_no_more_of_them():
    s = batches([bad()])
    s.read(4)
    s.finish()
    s.read(4)
    s.finish()
    assert seqs(s) == [[n] for n in range(1, 9)] and s.sender.refused == 0
    s.remote.script = [timeout()]
    s.read(4)
    s.finish()  # another remote: it is tried again
    assert max([len(request) for request in seqs(s)[8:]]) > 1


def test_too_large_a_batch_is_split_and_the_next_ones_are_no_larger():
    for told in (error(141), error(141, size1=150)):
        s = batches([told])
        s.read(8)
        s.finish()
        sizes = [len(request) for request in seqs(s)]
        assert [seq for request in seqs(s) for seq in request] == list(range(1, 9)) and max(sizes) <= 3, sizes
        assert s.sender.refused == 0


def test_a_log_too_large_is_cut_with_a_mark():
    s = Setup([error(141, size1=200)], records=16)
    s.log.info("m", "x" * 300, more="y" * 50)
    s.finish()
    record = s.remote.taken[0][1]
    assert record["cut"] is True and record["msg"] == "x" * len(record["msg"]) and 50 < len(record["msg"]) < 150
    assert record["seq"] == 1 and record["node"] == "n" and "more" not in record
    assert len(json.dumps(record)) <= 220


def test_a_record_that_cannot_be_cut_is_refused_and_counted():
    s = Setup([error(141)], records=16)
    s.read()
    s.finish()
    assert s.sender.refused == 1 and s.remote.of("value") == []


def test_a_busy_collector_says_when_it_wants_to_be_asked_again():
    for code in (157, 163):
        s = Setup([error(code, max_age=120), error(code), error(code, max_age=0), error(code, max_age=10**9)])
        s.read()
        s.finish()
        assert s.waits == [120, 2, 4, 3600]


def test_who_does_not_let_us_in_gets_no_record_and_loses_none():
    for code in (129, 131):
        s = Setup([error(code), error(code)])
        s.read(2)
        s.finish()
        assert s.remote.of("seq")[:2] == [1, 2] and s.sender.refused == 0 and s.remote.connects == 3
        assert s.waits == [1, 2]


def test_requests_are_no_closer_than_the_cloud_wants():
    s = batches(pace_ms=50, batch=1)
    s.read(3)
    assert s.step() == 50
    assert s.step() == 50
    assert s.step() == 0  # the queue is empty


def test_what_comes_before_the_first_record_is_done_for_each_remote():
    s = Setup([None, timeout()])
    s.read(3)
    s.finish()
    assert s.cloud.connected == [s.remote] * 2 and s.remote.of("seq")[:3] == [1, 2, 3]


def test_a_collector_that_does_not_let_us_begin_is_away_and_asked_again():
    s = Setup()
    errors = [error(129), timeout()]
    connect = s.cloud.connect

    async def refuses(remote):
        if errors:
            raise errors.pop(0)
        await connect(remote)

    s.cloud.connect = refuses
    s.read()
    s.finish()
    assert s.waits == [1, 2] and s.remote.of("value") == [1] and s.sender.refused == 0


def test_with_nothing_to_send_the_collector_is_asked_whether_it_is_there():
    s = Setup()
    assert s.step() == 0 and s.cloud.kept == 1 and s.remote.posts == [] and not s.sender.away
    errors = [timeout(), error(129)]

    async def keep_alive(remote):
        if errors:
            raise errors.pop(0)

    s.cloud.keep_alive = keep_alive
    assert s.step() == 1000 and s.sender.away and s.remote.connects == 1
    while s.queue.queued:  # the log record that says so would be sent first
        s.queue.done(s.queue.peek()[0])
    assert s.step() == 2000 and s.remote.connects == 2
    assert s.step() == 0 and not s.sender.away and s.remote.connects == 3


def test_the_collector_is_asked_after_the_time_that_is_configured_or_never():
    for seconds, asked in ((0, 0), (1, 1)):
        s = Setup()
        s.config["keepalive_s"] = seconds
        waits = []

        async def woken(given, waits=waits):
            waits.append(given)
            if len(waits) > 1:
                await asyncio.sleep(1000)
            return False

        s.sender._is_woken = woken

        async def main(s=s):
            task = asyncio.create_task(s.sender.run())
            for _ in range(10):
                await asyncio.sleep(0)
            task.cancel()

        run(main())
        assert s.cloud.kept == asked and waits == [seconds] * (2 * asked)


def test_a_limit_that_one_log_met_refuses_no_reading_unasked():
    s = Setup([error(141, size1=70)], records=16)
    s.log.info("m", "x" * 300)
    s.read(3)
    s.finish()
    assert s.remote.of("value") == [1, 1, 1] and s.sender.refused <= 1


def test_a_log_of_long_characters_is_cut_to_bytes():
    s = Setup([error(141, size1=200)], records=16)
    s.log.info("m", "\u00fc" * 90)
    s.finish()
    assert s.remote.of("cut") == [True] and s.sender.refused == 0


def test_no_memory_for_a_moment_does_not_end_the_sender():
    s = Setup(records=16)
    s.read(2)
    errors = [MemoryError(), MemoryError()]
    peek = s.queue.peek

    def fails(i=0):
        if errors:
            raise errors.pop()
        return peek(i)

    s.queue.peek = fails
    s.drain()
    assert s.remote.of("seq")[:2] == [1, 2]
