"""Mutated records and handshake messages, of who has no key and of who has one: nothing raises, nothing that is not
authenticated changes anything, nothing grows.

FUZZ_DATAGRAMS and FUZZ_SEED, in the environment, set how many datagrams and which. Of all, established sessions get
60 %, handshakes 30 %, and 10 % are sealed as they should be with anything within.
"""

import gc
import os

from dtls_net import ALERT, CHANGE, CID, DATA, HANDSHAKE, connected, kept, message, pair, record, shake, state, talk
from fuzzing import ARCH, EMULATED, SEED, allocated, assert_no_growth, mutate, some_bytes
from harness import BOARD
from net import Random

DATAGRAMS = 100 if BOARD else 2000 if EMULATED else (100000, 10000, 10000)[ARCH]
if not BOARD and os.getenv("FUZZ_DATAGRAMS"):
    DATAGRAMS = int(os.getenv("FUZZ_DATAGRAMS"))
A_PAIR = 50 if EMULATED else 500  # datagrams for one pair of ends
VARIANTS = (({"cid": None}, {"cid": None}), ({"cid": 0}, {"cid": 4}), ({"cid": 3}, {"cid": 0, "hint": b"a hint"}))
CONTENTS = (b"", b"\1\0\0\0\0\0\0\0\0\0\0\0", b"\2\x28", bytes(12), b"\xfe\xfd" + bytes(36), bytes(70), b"\1")


def some_record(random, genuine):
    """A datagram: records that were sent, altered, cut, put together; or headers that fit, with anything behind."""
    kind = random.below(8)
    data = genuine[random.below(len(genuine))]
    if kind < 4:
        return mutate(random, data)
    if kind == 4:
        return mutate(random, data + genuine[random.below(len(genuine))])
    content = CONTENTS[random.below(len(CONTENTS))]
    if kind == 5:
        content = some_bytes(random, random.below(60))
    if kind == 6:
        body = content
        which = (0, 1, 2, 3, 4, 12, 14, 16, 20, 255)[random.below(10)]
        content = message(which, random.below(6), body, 0, random.below(len(body) + 1))
    out = record((CHANGE, ALERT, HANDSHAKE, DATA, CID, 0)[random.below(6)], content, random.bits(16))
    if random.below(3) == 0:
        out = out[:4] + bytes((random.below(3),)) + out[5:]
    return mutate(random, out) if kind == 7 else out


def settle(wire, *hosts):
    """Let half-open handshakes run out, and forget what the tests keep."""
    wire.run_for(200000, 5000)
    wire.log.clear()
    for host in hosts:
        host.changes.clear()
        host.got.clear()
        assert host.layer.acceptor is None or not host.layer.acceptor.halves


def test_sessions_stand_whatever_comes_from_who_has_no_key():
    random = Random(SEED)
    sizes = []
    n = DATAGRAMS * 6 // 10
    pairs = []
    for client, server in VARIANTS:
        wire, c, s, a, b = connected(client, server)
        talk(wire, c, s, a, b)
        pairs.append((wire, c, s, a, b, [data for _, _, _, data in wire.log]))
    for _ in range(5):
        for wire, c, s, a, b, genuine in pairs:
            before = state(a), state(b)
            wire.log.clear()
            c.got.clear()
            s.got.clear()
            wire.change = lambda *_: ()
            for i in range(n // 15):
                data = some_record(random, genuine)
                # the peer's address, the own one, and another
                for host in (c, s):
                    source = ("c", "s", "x")[random.below(3)]
                    sent = len(wire.log)
                    host.take(data, source)
                    if source == "x":  # no more, and no larger, than what was asked
                        assert sum([len(x[3]) for x in wire.log[sent:]]) <= len(data), data
                assert a.keys.last == before[0][3][1] and b.keys.last == before[1][3][1], data
                if i % 16 == 0:
                    wire.log.clear()
            assert (state(a), state(b)) == before and not c.got and not s.got
            assert list(c.layer.sessions.values()) == [a] and len(s.layer.sessions) == 1
            wire.change = None
            settle(wire, c, s)
            talk(wire, c, s, a, b)
        wire.log.clear()
        for host in (c, s):
            host.got.clear()
            host.layer._opened.clear()
            host.layer._sealed.clear()
        gc.collect()
        gc.collect()
        sizes.append(allocated())
    assert_no_growth(sizes)


def test_handshakes_come_to_an_end_whatever_comes_between():
    random = Random(SEED + 1)
    n = DATAGRAMS * 3 // 10
    up = rounds = 0
    while n > 0:
        rounds += 1
        client, server = VARIANTS[rounds % 3]
        wire, c, s = pair(client, server)
        genuine = [some_bytes(random, 40)]
        held = []
        wire.change = lambda *datagram: held.append(datagram) or ()
        a = c.layer.connect("s", (b"id", b"secret"))
        few = 1 + random.below(2) if rounds % 4 else 25
        while held:
            source, target, data = held.pop(0)
            genuine.append(data)
            for _ in range(few):
                n -= 1
                wire.hosts[target].take(some_record(random, genuine if rounds % 2 else [data]), source)
            wire.hosts[target].take(data, source)
            if len(genuine) > 40:
                break
        wire.change = None
        assert not c.got and not s.got
        wire.run(lambda: a.error or a.up, 3000)
        b = s.layer.sessions.get("c")
        if a.up and b:
            assert bytes(a.keys.block) == bytes(b.keys.block)
            talk(wire, c, s, a, b)
            up += 1
        c.layer.end(a, "enough")
        settle(wire, c, s)
        a, b = shake(wire, c, s)  # and the next one is as any other
        assert a.up and b.up
    assert up * 8 > rounds or rounds < 50, (up, rounds)  # not all: a message altered that comes first is believed


def test_what_is_sealed_as_it_should_be_may_say_anything():
    random = Random(SEED + 2)
    n = DATAGRAMS // 10
    while n > 0:
        wire, c, s, a, b = connected(*VARIANTS[n % 3])
        genuine = [message(20, 3, bytes(12)), message(1, 1, b"\xfe\xfd" + bytes(50)), b"\1\0", b"\1\x5a"]
        for _ in range(A_PAIR):
            n -= 1
            content = some_record(random, genuine)[:200]
            kind = (CHANGE, ALERT, HANDSHAKE, HANDSHAKE, CID, 255)[random.below(6)]
            if b.up and a.up:
                s.take(kept(c, a, kind, content), "c")
            if b.up and a.up:
                c.take(kept(s, b, kind, content), "s")
        assert not c.got and not s.got
        if a.up and b.up:
            talk(wire, c, s, a, b)
        else:
            assert (a.error or b.error).startswith("the peer ended the session: ")
