# Records and the log: their shape, levels, bounds, and that logging never raises.

import json

from node.clock import Clock, iso
from node.log import Log
from node.queue import BODY_MAX, Queue
from node.records import Records, number, with_counts
from node_fakes import Board, clock


def make(level="debug", wall=None):
    board = Board()
    board.wall = wall
    queue = Queue(16)
    lines = []
    records = Records(queue, Clock(board), "n-1", 3)
    return Log(records, level, lines.append), records, queue, lines, board


def taken(queue):
    found = []
    while queue.queued:
        ticket, path, body = queue.peek()
        queue.done(ticket)
        found.append((path, json.loads(body)))
    return found


def test_a_log_record_has_level_module_msg_node_boot_seq_and_time():
    log, _, queue, lines, board = make(wall=1700000000123)
    log.warning("sensors", "cannot be read", sensor="load", tries=3)
    assert taken(queue) == [
        (
            "logs",
            {
                "level": "warn",
                "module": "sensors",
                "msg": "cannot be read",
                "sensor": "load",
                "tries": 3,
                "node": "n-1",
                "boot": 3,
                "seq": 1,
                "ts": 1700000000123,
            },
        )
    ]
    assert lines == ["node: warn, sensors: cannot be read (sensor=load, tries=3)"]


def test_without_a_clock_records_carry_the_time_since_the_start():
    log, _, queue, _, board = make()
    board.advance(1234)
    log.info("m", "x")
    record = taken(queue)[0][1]
    assert record["up"] == 1234 and "ts" not in record


def test_logs_and_readings_share_one_counter():
    log, records, queue, _, _ = make()
    path = queue.path(".s/load")
    log.info("m", "a")
    records.reading(path, "0.5", "1")
    log.info("m", "b")
    found = taken(queue)
    assert [record["seq"] for _, record in found] == [1, 2, 3]
    reading = found[1]
    assert reading[0] == ".s/load"
    assert reading[1] == {"value": 0.5, "unit": "1", "node": "n-1", "boot": 3, "seq": 2, "up": 0}


def test_the_level_filters_records_and_lines():
    for level, passing in (("debug", 4), ("info", 3), ("warn", 2), ("error", 1)):
        log, _, queue, lines, _ = make(level)
        for call in (log.debug, log.info, log.warning, log.error):
            call("m", "x")
        assert len(lines) == passing and queue.queued == passing
        assert [record["level"] for _, record in taken(queue)] == ["debug", "info", "warn", "error"][4 - passing :]


def test_the_level_changes_at_once():
    log, _, queue, _, _ = make("error")
    log.info("m", "x")
    log.set_level("info")
    log.info("m", "x")
    assert queue.queued == 1


def test_say_is_a_line_and_post_is_a_record():
    log, _, queue, lines, _ = make("warn")
    log.say("up")
    assert lines == ["node: up"] and queue.queued == 0
    log.post("warn", "m", "x")
    log.post("info", "m", "x")
    assert lines == ["node: up"] and queue.queued == 1


def test_any_text_becomes_valid_json():
    log, _, queue, _, _ = make()
    for msg in ('a "quoted" \\ text', "two\nlines\ttab\0nul", "Grüße 21 °C", "", "x{}[]:,"):
        log.info("m", msg, more=msg)
        record = taken(queue)[0][1]
        assert record["msg"] == msg and record["more"] == msg


def test_any_value_becomes_valid_json():
    log, _, queue, _, _ = make()
    log.info("m", ValueError("bad"), a=None, b=True, c=float("nan"), d=float("inf"), e=(1, 2), f=-1.5, g=2**40)
    record = taken(queue)[0][1]
    assert record["msg"] == "bad" and record["a"] is None and record["b"] is True
    assert record["c"] is None and record["d"] is None and record["e"] == "(1, 2)"
    assert record["f"] == -1.5 and record["g"] == 2**40


def test_an_extra_key_never_hides_the_records_own():
    log, _, queue, _, _ = make()
    log.info("m", "x", seq=99, node="other", dropped=5)
    record = taken(queue)[0][1]
    assert record["seq"] == 1 and record["node"] == "n-1" and "dropped" not in record
    assert record["seq_"] == 99 and record["node_"] == "other" and record["dropped_"] == 5


def test_a_long_message_is_cut_and_says_so():
    log, _, queue, _, _ = make()
    for msg in ("x" * 5000, "\0" * 700, "ü" * 700, '"' * 700):
        log.info("m" * 100, msg, extra="y" * 900)
        body = queue.peek()[2]
        assert len(body) <= BODY_MAX
        record = taken(queue)[0][1]
        assert record["cut"] is True and len(record["msg"]) > 20 and msg.startswith(record["msg"])


def test_an_extra_too_many_leaves_the_message_whole():
    log, _, queue, _, _ = make()
    log.info("m", "short", extra="y" * 900)
    record = taken(queue)[0][1]
    assert record["msg"] == "short" and record["cut"] is True and "extra" not in record


def test_a_console_that_fails_does_not_stop_the_node():
    def broken(line):
        raise OSError(32)

    queue = Queue(4)
    Log(Records(queue, clock(), "n", 1), "info", broken).info("m", "x")
    assert queue.queued == 1


def test_without_a_collector_nothing_is_queued_or_raised():
    lines = []
    log = Log(Records(None, clock(), "n", 1), "info", lines.append)
    log.info("m", "x")
    assert len(lines) == 1


def test_numbers_are_short_and_always_json():
    for value, text in (
        (1, "1"),
        (21.5, "21.5"),
        (0.1 + 0.2, "0.3"),
        (-0.0001, "0"),
        (1013.26, "1013.26"),
        (3.0, "3"),
        (-7, "-7"),
        (100.0, "100"),
        (0, "0"),
        (2**40, "1099511627776"),
    ):
        assert number(value) == text, (value, number(value))
    for value in (None, True, float("nan"), float("inf"), -float("inf")):
        assert number(value) is None


def test_counts_are_added_to_the_end_of_a_record():
    assert with_counts(b'{"a":1}', 0, 0) == b'{"a":1}'
    assert with_counts(b'{"a":1}', 3, 0) == b'{"a":1,"dropped":3}'
    assert with_counts(b'{"a":1}', 3, 2) == b'{"a":1,"dropped":3,"refused":2}'


def test_the_time_since_the_start_does_not_wrap_with_the_ticks():
    board = Board()
    board.now = 0x3FFFFF00
    watch = Clock(board)
    for day in range(60):
        assert watch.up_ms() == day * 86400000
        board.advance(86400000)


def test_dates_are_written_as_iso_8601():
    for ms, text in (
        (0, "1970-01-01T00:00:00.000Z"),
        (951782399999, "2000-02-28T23:59:59.999Z"),
        (951782400000, "2000-02-29T00:00:00.000Z"),
        (1735689599250, "2024-12-31T23:59:59.250Z"),
        (4107542400000, "2100-03-01T00:00:00.000Z"),
    ):
        assert iso(ms) == text, iso(ms)
