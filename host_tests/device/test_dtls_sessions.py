"""The table of sessions: limits that make sense, who is told of a handshake that failed, and faults, of which one
session's must not cost the others their time.
"""

from coaplet.dtls.layer import Dtls
from coaplet.dtls.record import CCM, CCM_8
from dtls_net import KEYS, connected, pair, shake
from helpers import raises


def waiting(c, *names):
    """Sessions with servers that never answer."""
    return [c.layer.connect(name, (b"id", b"secret")) for name in names]


def failing(error):
    def fail(*_):
        raise error

    return fail


def test_limits_that_nothing_could_work_with_are_refused():
    for wrong in (
        {"sessions": 0},
        {"sessions": -1},
        {"timeout_ms": 0},
        {"timeout_ms": 60001},
        {"idle_ms": 0},
        {"cid": -1},
        {"cid": 33},
        {"suites": ()},
        {"suites": (0x1301,)},
        {"half_open": 0},
        {"handshakes": 0},
        {"resumable": -1},
        {"hint": bytes(129)},
    ):
        error = str(raises(ValueError, Dtls, None, 256, find_key=KEYS.get, **wrong))
        assert list(wrong)[0] in error and "\n" not in error, error
    for right in {"sessions": 1, "half_open": 1, "handshakes": 1, "resumable": 0}, {"cid": 32}, {"cid": None}:
        Dtls(None, 256, find_key=KEYS.get, **right)


def test_a_fault_in_one_session_is_raised_when_the_others_have_had_their_time():
    wire, c, s = pair()
    first, second, third = waiting(c, "1", "2", "3")
    fault = KeyError("ours")
    second.handshake.on_timeout = failing(fault)
    wire.advance(1000)
    assert raises(KeyError, c.layer.handle_timeout, wire.now) is fault
    assert second.error == "a fault of ours" and sorted(c.layer.sessions) == ["1", "3"]
    assert c.layer.retransmissions == 2 and c.layer.failed == 1
    assert c.layer.deadline == first.handshake.deadline == third.handshake.deadline


def test_a_session_without_memory_fails_and_nothing_is_raised():
    wire, c, s = pair()
    first, second = waiting(c, "1", "2")
    first.handshake.on_timeout = failing(MemoryError())
    wire.advance(1000)
    c.layer.handle_timeout(wire.now)
    assert first.error == "no memory" and list(c.layer.sessions) == ["2"]
    assert c.layer.retransmissions == 1 and c.layer.failed == 1


def test_who_is_told_of_a_failure_and_fails_costs_nobody_his_time():
    for name in "on_failure", "changed":
        wire, c, s = pair()
        first, second = waiting(c, "1", "2")
        first.handshake.on_timeout = lambda now: False
        setattr(c.layer, name, failing(OSError(5)))
        wire.advance(1000)
        raises(OSError, c.layer.handle_timeout, wire.now)
        assert first.error and list(c.layer.sessions) == ["2"]
        assert c.layer.retransmissions == 1 and c.layer.deadline == second.handshake.deadline


def test_no_memory_to_begin_with_loses_no_deadline():
    wire, c, s = pair()
    waiting(c, "1")
    deadline = c.layer.deadline
    c.layer.all = failing(MemoryError())
    raises(MemoryError, c.layer.handle_timeout, wire.now)
    assert c.layer.deadline == deadline


def test_of_a_handshake_that_failed_it_is_told_whose_and_why():
    for psk, suites, identity, why in (
        ((b"id", b"wrong!"), (CCM_8,), b"id", "wrong key"),
        ((b"nobody", b"secret"), (CCM_8,), b"nobody", "unknown identity"),
        ((b"id", b"secret"), (CCM,), None, "no common cipher suite"),
    ):
        wire, c, s = pair({"suites": suites}, {"suites": (CCM_8,)})
        told = []
        for host in c, s:
            host.layer.on_failure = lambda session, host=host: told.append(
                (host.address, host.layer.format(session), session.identity, session.error)
            )
        a, _ = shake(wire, c, s, psk)
        assert told == [("s", "c", identity, why), ("c", "s", psk[0], a.error)], told
        assert s.layer.failed == c.layer.failed == 1 and not s.layer.acceptor.halves


def test_of_a_client_that_fell_silent_it_is_told_too():
    wire, c, s = pair()
    told = []
    s.layer.on_failure = told.append
    c.layer.connect("s", (b"id", b"secret"))
    wire.run(lambda: s.layer.acceptor.halves)
    del wire.hosts["c"]
    wire.run(lambda: told)
    assert told[0].error == "no answer" and told[0].address == "c" and not s.layer.acceptor.halves


def test_of_a_session_that_came_up_nothing_is_told():
    wire, c, s, a, b = connected()
    told = []
    c.layer.on_failure = s.layer.on_failure = told.append
    s.layer.end(b, "enough")
    wire.run(lambda: not a.up)
    assert told == []
