# The bounded queue: order, both bounds, drops counted, records pushed out while they are in flight.

from harness import rounds
from node.queue import BODY_MAX, Queue

try:
    from micropython import heap_lock, heap_unlock
except ImportError:  # CPython: the test below only shows that the count is right
    heap_lock = heap_unlock = lambda: None


def fill(queue, numbers):
    path = queue.path("logs")
    for n in numbers:
        queue.push(path, b"%d" % n)


def drain(queue):
    found = []
    while queue.queued:
        ticket, _, body = queue.peek()
        queue.done(ticket)
        found.append(body)
    return found


def test_records_leave_in_the_order_they_came():
    queue = Queue(8)
    fill(queue, range(5))
    assert drain(queue) == [b"0", b"1", b"2", b"3", b"4"]
    assert queue.peek() is None and queue.dropped == 0


def test_peek_leaves_the_record_where_it_is():
    queue = Queue(8)
    fill(queue, range(2))
    assert queue.peek() == queue.peek() and queue.queued == 2


def test_any_record_can_be_peeked_at_also_where_the_ring_wraps():
    queue = Queue(4)
    path = queue.path("p")
    other = queue.path("q")
    for n in range(300):
        body = bytes([65 + n % 26]) * (1 + n * 7 % 400)
        queue.push(other if n % 2 else path, body)
        if n % 3 == 0:
            queue.done(queue.peek()[0])
        first = queue.peek() and queue.peek()[0]
        for i in range(queue.queued):
            ticket, where, found = queue.peek(i)
            assert ticket == first + i and where == ("q" if ticket % 2 else "p")
            assert found == bytes([65 + ticket % 26]) * (1 + ticket * 7 % 400)
        assert queue.peek(queue.queued) is None


def test_overflow_drops_the_oldest_and_counts():
    queue = Queue(8)
    fill(queue, range(20))
    assert queue.queued == 8 and queue.dropped == 12 and queue.unreported == 12
    assert drain(queue) == [b"%d" % n for n in range(12, 20)]


def test_bytes_are_bounded_too():
    queue = Queue(4)
    path = queue.path("logs")
    for n in range(9):
        queue.push(path, b"%d" % n + b"x" * (BODY_MAX - 1))
    assert queue.queued == 2 and queue.dropped == 7
    assert [body[:1] for body in drain(queue)] == [b"7", b"8"]


def test_a_thousand_records_of_mixed_sizes_wrap_round_the_ring_unharmed():
    queue = Queue(16)
    paths = [queue.path(text) for text in ("logs", ".s/a", ".s/b")]
    assert paths == [0, 1, 2] and queue.path(".s/a") == 1
    seed = 1
    expected = []
    for n in range(rounds(1000)):
        seed = (seed * 75 + 74) % 65537
        body = b"%d:" % n + bytes([seed & 0xFF]) * (seed % (BODY_MAX - 8))
        queue.push(paths[n % 3], body)
        expected.append((("logs", ".s/a", ".s/b")[n % 3], body))
        del expected[: len(expected) - queue.queued]
        if seed % 3 == 0:
            ticket, path, body = queue.peek()
            assert (path, body) == expected.pop(0)
            queue.done(ticket)
        assert queue.queued == len(expected) <= 16
        if expected:
            assert queue.peek()[1:] == expected[0]
    assert queue.dropped > 0


def test_a_record_pushed_out_in_flight_and_delivered_is_not_counted_as_dropped():
    queue = Queue(4)
    fill(queue, range(4))
    ticket = queue.peek()[0]
    fill(queue, range(4, 6))
    assert queue.dropped == 2
    queue.done(ticket)
    assert queue.dropped == 1 and queue.unreported == 1 and queue.queued == 4
    assert drain(queue) == [b"2", b"3", b"4", b"5"]


def test_a_record_pushed_out_in_flight_and_refused_stays_counted():
    queue = Queue(4)
    fill(queue, range(4))
    ticket = queue.peek()[0]
    fill(queue, range(4, 6))
    queue.done(ticket, delivered=False)
    assert queue.dropped == 2 and queue.queued == 4


def test_the_sender_is_woken_at_each_push():
    queue = Queue(4)
    woken = []
    queue.wake = lambda: woken.append(queue.queued)
    fill(queue, range(3))
    assert woken == [1, 2, 3]


def test_push_allocates_nothing():
    queue = Queue(4)
    body = b"x" * 300
    for _ in range(3):
        queue.push(0, body)
    heap_lock()
    try:
        for _ in range(7):
            queue.push(0, body)
    finally:
        heap_unlock()
    assert queue.dropped == 7
