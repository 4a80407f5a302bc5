"""Sessions that outlast a sleep: gone on with once, and never after a power cut that could repeat a number or take a
record twice (RFC 5288 3, RFC 6655 3, RFC 6347 4.1.2.6).

The store is one whose every write may fail, be lost, or be cut at any byte.
"""

from coaplet.dtls.record import REPLAYED
from coaplet.dtls.sleep import Memory, pack, sleep, unpack, wake
from coaplet.port import ticks_diff
from dtls_net import DATA, Host, connected, kept, pair, shake, state, talk
from fuzzing import EMULATED

TOKEN = b"abcdefgh"


class Cut(Exception):
    """The power is gone."""


class Store:
    """What is written there survives a cut. at: the write at which something happens; how: what."""

    def __init__(self, at=-1, how=None, n=0):
        self.data = None
        self.writes = 0
        self.at = at
        self.how = how
        self.n = n

    def load(self):
        return self.data

    def save(self, data):
        self.writes += 1
        if self.writes - 1 != self.at:
            self.data = data
        elif self.how == "before":
            raise Cut
        elif self.how == "behind":
            self.data = data
            raise Cut
        elif self.how == "fails":
            raise OSError(5)
        elif self.how == "over":  # the first bytes are written over the old ones
            self.data = data[: self.n] + (self.data or b"")[self.n :]
            raise Cut
        elif self.how == "short":
            self.data = data[: self.n]
            raise Cut
        elif self.how != "lost":  # nothing says so
            raise AssertionError(self.how)


def restart(wire, **kwargs):
    return Host(wire, "c", **kwargs)


def test_a_session_goes_on_after_a_sleep_without_a_handshake():
    for cid in None, 0, 4:
        wire, c, s, a, b = connected({"cid": cid}, {"cid": cid})
        store = Store()
        mid = 1000
        for i in range(3):
            talk(wire, c, s, a, b)
            before = state(a)[3]
            sleep(a, store, mid + i, TOKEN)
            c = restart(wire, cid=cid)
            since = len(wire.log)
            a, *found = c.layer.restore("s", store)
            assert found == [mid + i, TOKEN] and state(a)[3] == before and a.up
            assert len(wire.log) == since and s.layer.succeeded == 1
            assert a.identity == b"id" and a.resumption == b.resumption
            talk(wire, c, s, a, b)


def test_of_a_session_gone_on_with_it_is_known_how_long_ago_it_was_heard_of():
    # beyond six days the ticks say nothing, so it is looked at each day
    wire, c, s, a, b = connected()
    store = Store()
    sleep(a, store, 1, TOKEN)
    del wire.hosts["s"]
    c = restart(wire)
    a = c.layer.restore("s", store)[0]
    for _ in range(9):
        wire.run_for(86400000)
        assert a.up and 0 <= ticks_diff(wire.now, a.used) <= 518400000


def test_what_was_received_before_the_sleep_is_not_taken_again():
    wire, c, s, a, b = connected()
    received = [kept(s, b, DATA, b"\x40" + bytes((i,))) for i in range(80)]
    for data in received[:70:2]:
        c.take(data, "s")
    store = Store()
    sleep(a, store, 1, TOKEN)
    c = restart(wire)
    assert c.layer.restore("s", store)
    for i in range(70):
        c.take(received[i], "s")
    # those not seen yet, within the window of 64
    assert [data[1] for data, _ in c.got] == [i for i in range(70) if i % 2 and i >= 5]


def test_a_session_is_taken_up_once():
    wire, c, s, a, b = connected()
    store = Store()
    sleep(a, store, 1, TOKEN)
    assert restart(wire).layer.restore("s", store) is not None
    for _ in range(2):
        assert restart(wire).layer.restore("s", store) is None
    c = restart(wire)
    a, b = shake(wire, c, s)
    talk(wire, c, s, a, b)


def test_an_empty_store_has_no_session():
    for data in None, b"", b"\1", b"\1\xc1", bytes(200), b"\xff" * 200:
        store = Store()
        store.data = data
        assert restart(pair()[0]).layer.restore("s", store) is None
        assert store.writes == 0


def test_damaged_bytes_are_no_session():
    wire, c, s, a, b = connected({"cid": 3}, {"cid": 4})
    whole = pack(a, 7, TOKEN)
    c = restart(wire, cid=3)
    store = Store()

    def refused(data):
        store.data = data
        return c.layer.restore("s", store) is None and c.layer.sessions == {}

    for i in range(0, len(whole), 8 if EMULATED else 1):
        for bit in (0,) if EMULATED else range(8):
            wrong = bytearray(whole)
            wrong[i] ^= 1 << bit
            assert refused(bytes(wrong)), (i, bit)
    for n in range(0, len(whole), 16 if EMULATED else 1):
        assert refused(whole[:n]), n
    assert refused(whole + b"\0") and refused(whole[1:]) and store.writes == 0
    assert not refused(whole)


def test_what_was_kept_for_another_configuration_is_no_session():
    wire, c, s, a, b = connected({"cid": 3}, {"cid": 4})
    for other in {"cid": None}, {"cid": 0}, {"cid": 4}, {"cid": 3, "suites": (0xA8,)}:
        store = Store()
        sleep(a, store, 7, TOKEN)
        assert restart(wire, **other).layer.restore("s", store) is None
    store = Store()
    store.save(pack(b, 7, TOKEN))  # a server's
    assert restart(wire, cid=4).layer.restore("s", store) is None
    session = s.layer.new_session("s", True)
    assert wake(session, store, (0xC0A8,)) is None
    used = bytearray(pack(a, 7, TOKEN))
    used[1] = 5
    assert unpack(bytes(used), session, (0xC0A8,)) is None


def test_a_store_that_fails_gives_no_session():
    class Broken(Store):
        def load(self):
            raise OSError(5)

    wire, c, s, a, b = connected()
    assert restart(wire).layer.restore("s", Broken()) is None
    for how in ("fails", "lost"):  # of whom nobody knows whether it was noted that the session is used
        store = Store(1, how)
        sleep(a, store, 1, TOKEN)
        c = restart(wire)
        assert c.layer.restore("s", store) is None and c.layer.sessions == {}


def test_what_says_that_a_session_was_used_does_not_give_its_keys_away():
    wire, c, s, a, b = connected()
    store = Store()
    sleep(a, store, 1, TOKEN)
    a = restart(wire).layer.restore("s", store)[0]
    assert bytes(a.keys.block) not in store.data and len(store.data) < 8


def test_memory_is_a_store():
    class Rtc:
        data = b""

        def memory(self, data=None):
            if data is None:
                return self.data
            self.data = bytes(data)

    wire, c, s, a, b = connected()
    store = Memory(Rtc().memory)
    assert store.load() is None and restart(wire).layer.restore("s", store) is None
    sleep(a, store, 9, TOKEN)
    c = restart(wire)
    a, *found = c.layer.restore("s", store)
    assert found == [9, TOKEN]
    talk(wire, c, s, a, b)


class Life:
    """A client that sleeps, is cut off and starts again, with one store; and what must never happen to it."""

    def __init__(self, store):
        self.wire, _, self.s = pair()
        self.store = store
        self.numbers = set()  # (key block, sequence number) of all that it sealed
        self.received = []  # (server's session, record) of all that it took
        self.restored = self.anew = 0

    def boot(self, crash):
        wire, s, store = self.wire, self.s, self.store
        c = restart(wire)
        found = c.layer.restore("s", store)
        if found is None:
            self.anew += 1
            a, b = shake(wire, c, s)
            self.note(a.keys, 0)
        else:
            self.restored += 1
            a = found[0]
            b = s.layer.sessions["c"]
            for data in self.received:
                assert a.keys.open(c.layer.scratch, data, 0, len(data)) < 0
        for i in range(3):
            self.note(a.keys, a.keys.next, 1)
            assert c.layer.send(b"\x40sent", a)
            n = len(s.got)
            wire.run(lambda: len(s.got) > n)
            assert s.got[n] == (b"\x40sent", b)
            data = kept(s, b, DATA, b"\x40taken")
            self.received.append(data)
            c.take(data, "s")
            assert len(c.got) == i + 1
            if crash == i:
                raise Cut
        sleep(a, store, 1, TOKEN)
        assert a.keys.open(c.layer.scratch, data, 0, len(data)) == REPLAYED

    def note(self, keys, first, n=None):
        """Numbers from the first one on are used; of a new session, those of its handshake."""
        for seq in range(first, keys.next if n is None else first + n):
            number = bytes(keys.block), seq
            assert number not in self.numbers, number
            self.numbers.add(number)

    def run(self, crashes=()):
        """Boot five times; after a cut, the next time comes earlier."""
        for i in range(5):
            try:
                self.boot(crashes[i] if i < len(crashes) else None)
            except (Cut, OSError):  # sleep() says that it could not keep the session
                pass
        return self


def test_a_life_without_cuts_has_one_handshake():
    life = Life(Store()).run()
    assert life.anew == 1 and life.restored == 4


def test_a_crash_while_awake_costs_a_handshake_and_nothing_else():
    for when in (0, 2) if EMULATED else (0, 1, 2):
        for at in (1, 3):
            crashes = [None] * at + [when]
            life = Life(Store()).run(crashes)
            assert life.anew == 2 and life.restored == 3


def test_the_power_may_be_cut_at_every_write():
    for how in ("before", "behind", "fails", "lost"):
        for at in range(1, 9, 3) if EMULATED else range(10):
            life = Life(Store(at, how)).run()
            assert life.anew <= 2 and life.anew + life.restored >= 4


def test_the_power_may_be_cut_at_every_byte_of_a_write():
    size = len(pack(connected()[3], 1, TOKEN))
    for how in "over", "short":
        for at in (1, 2) if EMULATED else range(4):
            # of the first bytes each; there is what tells one state from the other
            for n in (1, 2, 60) if EMULATED else list(range(8)) + list(range(8, size, 5)) + [size - 1, size]:
                life = Life(Store(at, how, n)).run()
                assert life.anew <= 3, (how, at, n)


def test_two_cuts_one_after_the_other_repeat_nothing():
    for at in range(1, 6, 4 if EMULATED else 1):
        for crash in (0, 2):
            for how in ("before", "behind"):
                Life(Store(at, how)).run([None, crash, None, crash])
