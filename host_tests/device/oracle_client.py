"""What RFC 7252 lets a client do with a datagram while requests of its own wait: a judge for fuzzing, as oracle.py."""

from coaplet.endpoint import REFUSED, RESPONSE
from coaplet.endpoint import RESET as REJECTED
from helpers import ACK, CON, NON, RST, message
from oracle import ACKNOWLEDGE, ANSWER, BLOCK1, BLOCK2, RESET, SILENCE, in_time, of_version_1, verdict


def rejected(options):
    """Whether options make a client reject a response (RFC 7252 5.4.1): it is for no critical one of RFC 7252's (5.4).

    Of Block1 and Block2 (RFC 7959 2.1) one each is known, of at most three bytes: whoever asked looks at what it says.
    """
    for known in (BLOCK1, BLOCK2):
        blocks = [value for number, value in options if number == known]
        if len(blocks) > 1 or blocks and len(blocks[0]) > 3:
            return True
    return any([number & 1 and number != BLOCK1 and number != BLOCK2 for number, _ in options])


class Asked:
    """A request of a client's, or a ping, that has no answer yet."""

    def __init__(self, ex, peer, data, confirmable, when):
        self.ex = ex
        self.when = when
        self.peer = peer
        self.data = data
        self.mid = data[2] << 8 | data[3]
        self.token = data[4 : 4 + (data[0] & 15)]
        self.confirmable = confirmable
        self.ping = data[1] == 0
        self.acknowledged = False
        self.repetitions = 0


class ClientJudge:
    """Feeds a host that serves nothing with datagrams while requests of its own, .live, wait for their answers."""

    def __init__(self, host, max_options, tx_slots=2):
        self.host = host
        self.max_options = max_options
        self.tx_slots = tx_slots
        self.live = []
        self.acknowledged = None  # (peer, MID) of the last response that was acknowledged
        self.responses = 0

    def forget(self):
        self.live = []
        self.acknowledged = None

    def rule(self, data, peer):
        """(what is sent for a datagram, the request that it ends, with which event, the message)."""
        what, m = verdict(data, max_options=self.max_options)
        if not of_version_1(data):
            return SILENCE, None, 0, m
        kind = data[0] >> 4 & 3
        if what == ANSWER:  # a request, where nothing is served
            return RESET if kind == CON else SILENCE, None, 0, m
        mid = data[2] << 8 | data[3]
        for asked in self.live:
            if asked.peer != peer:
                continue
            if data[1] == 0:
                if len(data) == 4 and data[0] & 0x2F == 0x20 and asked.mid == mid:
                    if asked.ping:
                        return SILENCE, asked, RESPONSE, m  # RFC 7252 4.3
                    if kind == RST:
                        return SILENCE, asked, REJECTED, m  # RFC 7252 4.2, 4.3
                    asked.acknowledged = asked.confirmable  # RFC 7252 5.2.2
            elif m is not None and m[1] > 31 and m[3] == asked.token and kind != RST and not asked.ping:
                # RFC 7252 5.3.2; 4.4: an ACK speaks of the one message with its MID
                if kind == ACK and (asked.mid != mid or not asked.confirmable):
                    continue
                wrong = len(m[4]) > self.max_options or rejected(m[4])
                what = SILENCE
                if kind == CON:
                    what = RESET if wrong else ACKNOWLEDGE
                return what, asked, REFUSED if wrong else RESPONSE, m
        if what == RESET and kind == CON and m is not None and (peer, mid) == self.acknowledged:
            what = ACKNOWLEDGE  # RFC 7252 4.5: our ACK was lost
        return what, None, 0, m

    def feed(self, data, peer):
        host = self.host
        what, asked, event, m = self.rule(data, peer)
        mid = data[2] << 8 | data[3] if len(data) > 3 else 0
        sent = host.receive(data, peer)
        if what == SILENCE:
            assert not sent, sent
        else:
            assert sent == [(message(RST if what == RESET else ACK, 0, mid), peer)], sent
        if what == ACKNOWLEDGE:
            self.acknowledged = peer, mid
        if asked is not None:
            self.live.remove(asked)
        # what is acknowledged or has ended holds no buffer any longer
        held = sum([one.confirmable and not one.acknowledged for one in self.live])
        assert host.endpoint.spare == self.tx_slots - held
        results = host.results
        if asked is None:
            assert not results, results
            return
        assert len(results) == 1 and results[0][0] == event and results[0][3] is asked.ex, results
        if event == RESPONSE and not asked.ping:
            assert results[0][1:3] == (m[1], m[5]), results
            self.responses += 1
        del results[:]

    def answer(self, asked, mid, code, payload):
        """Be a peer that does as the RFC says."""
        if asked.ping:
            data = message(RST, 0, asked.mid)
        elif asked.confirmable and not asked.acknowledged:
            data = message(ACK, code, asked.mid, asked.token, [(12, b"")], payload)
        else:
            data = message(CON if mid & 1 else NON, code, mid, asked.token, [(12, b"")], payload)
        self.feed(data, asked.peer)
        assert asked not in self.live, "an honest answer was not taken"

    def advance(self, ms):
        """Let time pass: only what is not acknowledged is sent again, the same bytes each time (RFC 7252 4.2)."""
        host = self.host
        host.network.advance(ms)
        if host.endpoint.poll_timeout(host.network.now) == 0:
            host.endpoint.handle_timeout(host.network.now)
            host.events()
            for data, peer in host.sent():
                (asked,) = [asked for asked in self.live if asked.data == data and asked.peer == peer]
                asked.repetitions += 1
                assert asked.confirmable and not asked.acknowledged, data
                assert in_time(asked.repetitions, host.network.elapsed - asked.when), data
            assert not host.results, host.results

    def settle(self):
        """Let all time pass, until the host has nothing to wait for."""
        endpoint = self.host.endpoint
        for _ in range(20):
            ms = endpoint.poll_timeout(self.host.network.now)
            if ms < 0:
                return
            self.advance(ms)
        raise AssertionError("a deadline is left for ever")
