"""What RFC 7252 lets a server send for a datagram: a judge for fuzzing that shares no line with the library.

Beside it, what RFC 7959 makes of its Block options, where no resource takes an upload, and RFC 7641 3.6.

A datagram is read by helpers.read() and version, type and code by hand. Where the RFC leaves a choice, such as which of
two errors is told, each of them is right. The judge keeps what is owed: separate responses and their repetitions.
"""

from helpers import ACK, CON, NON, RST, message, read

SILENCE, RESET, ANSWER, ACKNOWLEDGE = 0, 1, 2, 3  # what a datagram calls for

BAD_REQUEST, BAD_OPTION, NOT_FOUND, METHOD_NOT_ALLOWED, NOT_ACCEPTABLE = 128, 130, 132, 133, 134
VALID, PRECONDITION_FAILED, TOO_LARGE, INTERNAL, UNAVAILABLE, NO_PROXYING = 67, 140, 141, 160, 163, 165
INCOMPLETE = 136
SUCCESS = (0, 69, 68, 68, 66, 69, 68, 68)  # by method (RFC 7252 5.8)

# Critical options that an origin server knows, with the least and the most bytes of a value (RFC 7252 5.10)
KNOWN = {3: (1, 255), 7: (0, 2), 11: (0, 255), 15: (0, 255), 17: (0, 2), 35: (1, 1034), 39: (1, 255)}
BLOCK2, BLOCK1 = 23, 27
KNOWN.update({BLOCK2: (0, 3), BLOCK1: (0, 3)})  # RFC 7959 2.1
OBSERVE, SIZE2, ETAG = 6, 28, 4
CONDITIONS = {1: (0, 8), 5: (0, 0)}  # where there are ETags
REPEATABLE = (1, 11, 15)
GET = 1
SAFE = (GET, 5)  # and FETCH


def of_version_1(data):
    return len(data) > 3 and data[0] >> 6 == 1


def block(m, number):
    """(number of the block, whether there are more, its SZX) of a Block option, or None where it is absent."""
    for found, value in m[4]:
        if found == number:
            value = int.from_bytes(value, "big")
            return value >> 4, value & 8 != 0, value & 7
    return None


def verdict(data, mtu=65535, multicast=False, max_options=16):
    """(SILENCE, RESET or ANSWER, the message as read() gives it, or None) for a datagram that nothing is known of."""
    if not of_version_1(data):
        return SILENCE, None  # RFC 7252 3
    kind = data[0] >> 4 & 3
    code = data[1]
    refused = RESET if kind == CON and not multicast else SILENCE  # RFC 7252 4.2, 4.3, 8.1
    if code == 0:  # Empty or wrong: RFC 7252 4.1
        return refused, None
    if 31 < code < 64 or 95 < code < 128 or code > 191:  # reserved: RFC 7252 3
        return refused, None
    # what ends with the marker of a payload that did not fit the receive buffer was no format error
    m = read(data[:-1] if len(data) > mtu and data[-1] == 0xFF else data)
    if m is None or code > 31:  # or a response to nothing
        if m and kind == NON and not multicast and OBSERVE in [number for number, _ in m[4][:max_options]]:
            return RESET, m  # RFC 7641 3.6: a notification that nobody waits for
        return refused, m
    if kind > NON or (multicast and kind == CON):
        return SILENCE, m  # RFC 7252 4.2, 8.1
    if code == 1 or code == 4:
        m = m[:5] + (b"",)  # RFC 7252 5.5: a GET or DELETE has no payload, and what there is is ignored
    return ANSWER, m


def in_time(repetitions, ms):
    """Whether a CON may be sent again so late after the first time (RFC 7252 4.2, 4.8), if one looks each 500 ms."""
    span = (1 << repetitions) - 1
    return repetitions < 5 and 2000 * span <= ms <= 3000 * span + 500 * repetitions


class Resource:
    """methods: codes. formats: what Accept may ask for, or nothing. options: critical ones that its handler reads."""

    def __init__(self, methods, formats=(), options=(), slow=False, reply=None, etag=None, links=()):
        self.methods = methods
        self.formats = formats
        self.options = options
        self.etag = etag
        self.links = links  # of which discovery tells all, or those that a query asks for (RFC 6690 4)
        self.slow = slow  # answered by an async handler
        self.reply = reply  # the payload of a success; None: that of the request


class Served:
    """A request that the host was fed, and what has come of it so far."""

    def __init__(self, data, peer, multicast, m, codes, resource):
        self.data = data
        self.peer = peer
        self.multicast = multicast
        self.m = m
        self.codes = codes  # of which any is right
        self.resource = resource
        self.working = False
        self.acknowledged = False  # by an empty ACK
        self.seen = []  # by its handler
        self.reply = None  # the datagram that answered it


class ServerJudge:
    """Feeds one host datagrams and judges each that it sends.

    site: Resources by path, those that end in /* serve all below. A handler notes in host.seen what it reads.
    """

    def __init__(self, host, site, mtu, max_options, duplicates, async_slots=2):
        self.host = host
        self.mtu = mtu
        self.max_options = max_options
        self.duplicates = duplicates
        self.async_slots = async_slots
        self.exact = {}
        self.below = {}
        for path in site:
            segments = tuple([s.encode() for s in path.split("/")])
            if segments[-1] == b"*":
                self.below[segments[:-1]] = site[path]
            else:
                self.exact[segments] = site[path]
        self.answered = 0
        self.forget()

    def forget(self):
        """Hold nothing that the host may have given."""
        self.owed = []  # the Served of each of host.tasks
        self.at_leisure = []  # multicast requests whose response is to come
        self.separate = {}  # (peer, MID) -> [datagram, repetitions, when, request] not acknowledged yet
        self.remembered = []  # the unsafe requests that the host has to know again, the latest last
        self.last_safe = None

    def resource(self, segments):
        found = self.exact.get(segments)
        if found is None:
            for n in range(len(segments) - 1, 0, -1):
                if segments[:n] in self.below:
                    return self.below[segments[:n]]
        return found

    def codes(self, m, truncated):
        """(all codes that are right for a request, its resource): errors where one applies, else what comes of it."""
        _, code, _, _, options, payload = m
        resource = self.resource(tuple([value for number, value in options if number == 11]))
        codes = []
        if len(options) > self.max_options:
            codes.append(BAD_OPTION)  # a limit of ours
        previous = None
        etag = resource.etag if resource else None
        for number, value in options:
            if number & 1 and not (resource and number in resource.options):
                known = number in CONDITIONS and (etag or resource is None)
                least, most = CONDITIONS.get(number) if known else KNOWN.get(number, (1, 0))
                wrong = not least <= len(value) <= most or number == previous and number not in REPEATABLE
                if wrong:
                    codes.append(BAD_OPTION)  # RFC 7252 5.4.1, 5.4.3, 5.4.5
                elif number == 35 or number == 39:
                    codes.append(NO_PROXYING)  # RFC 7252 5.10.2
                elif number == 17 and resource and resource.formats:
                    if int.from_bytes(value, "big") not in resource.formats:
                        codes.append(NOT_ACCEPTABLE)  # RFC 7252 5.10.4
            previous = number
        if resource is None:
            codes.append(NOT_FOUND)
        if code > 7 or resource and code not in resource.methods:
            codes.append(METHOD_NOT_ALLOWED)
        if truncated:
            codes.append(TOO_LARGE)
        matching = [value for number, value in options if number == 1]
        if etag and (matching and etag not in matching and b"" not in matching or (5, b"") in options):
            codes.append(PRECONDITION_FAILED)  # RFC 7252 5.10.8
        asked = [found for found in (block(m, BLOCK1), block(m, BLOCK2)) if found is not None]
        if any([szx == 7 for _, _, szx in asked]):
            codes.append(BAD_REQUEST)  # RFC 7959 2.2
        if not codes and resource:
            one, two = block(m, BLOCK1), block(m, BLOCK2)
            if etag and code in SAFE and (4, etag) in options:
                codes.append(VALID)  # RFC 7252 5.10.6.2
            elif one is not None and (one[0] or one[1]):
                codes.append(TOO_LARGE)  # RFC 7959 2.9.3: nothing here takes an upload
            elif code != GET and two is not None and two[0] and not payload and one is None:
                # RFC 7959 2.7: the rest of an answer, which may be kept, and may be shorter
                codes += [INCOMPLETE, SUCCESS[code], BAD_REQUEST]
            elif payload[:1] == b"!":
                codes.append(BAD_REQUEST)  # as the handler says
            elif resource.links:
                codes.append(SUCCESS[GET])
                if two is not None and two[0]:
                    codes.append(BAD_REQUEST)  # whatever there is, beyond its end
            else:
                whole = payload if resource.reply is None else resource.reply
                if two is not None and two[0] and two[0] << 4 + two[2] >= len(whole):
                    codes.append(BAD_REQUEST)  # beyond the end
                else:
                    codes.append(SUCCESS[code])
            if self.max_options < 5:
                codes.append(INTERNAL)  # which have no room for what a block says of itself
            if resource.slow and len(self.owed) + len(self.separate) + len(self.at_leisure) >= self.async_slots:
                codes.append(UNAVAILABLE)
        return codes, resource

    def feed(self, data, peer, multicast=False):
        """Let the host receive a datagram that it has not seen before."""
        what, m = verdict(data, self.mtu, multicast, self.max_options)
        if of_version_1(data) and data[1] == 0 and len(data) == 4 and data[0] & 0x2F == 0x20:
            self.separate.pop((peer, data[2] << 8 | data[3]), None)  # acknowledged or rejected
        sent = self._receive(data, peer, multicast)
        if what == SILENCE:
            assert not sent, sent
        elif what == RESET:
            assert sent == [message(RST, 0, data[2] << 8 | data[3])], sent
        else:
            served = Served(data, peer, multicast, m, *self.codes(m, len(data) > self.mtu))
            if m[1] in SAFE:
                self.last_safe = served
            else:
                self.remembered = self.remembered[-self.duplicates + 1 :] if self.duplicates > 1 else []
                self.remembered.append(served)
            self._check(served, sent)

    def feed_again(self, served):
        """Repeat a request: one that was not safe is not run again, and is told the same (RFC 7252 4.5)."""
        if served.multicast:
            return
        sent = self._receive(served.data, served.peer, False)
        kind, code, mid, token, _, _ = served.m
        if kind == NON:
            assert not sent, sent
        elif served.acknowledged:
            assert sent == [message(ACK, 0, mid)], sent
        elif served.working:
            assert not sent, sent
        elif code in SAFE:  # it may run again
            served.codes, _ = self.codes(served.m, len(served.data) > self.mtu)
            self._check(served, sent)
            return
        else:
            # where nothing could be kept, the code alone
            assert sent == [served.reply] or sent == [served.reply[: 4 + len(token)]], sent
        assert not self.host.seen and len(self.host.tasks) == len(self.owed)

    def feed_from_another(self, served, peer):
        """Another peer's request is its own, whatever its Message ID and token (RFC 7252 4.4)."""
        mid = served.m[2]
        for known in self.remembered + self.owed + [kept[3] for kept in self.separate.values()]:
            if known.m[2] == mid and known.peer == peer:
                return
        self.feed(served.data, peer, served.multicast)

    def _receive(self, data, peer, multicast):
        host = self.host
        self.refused = host.endpoint.counters.refused
        del host.seen[:]
        sent = []
        for reply, to in host.receive(data, peer, multicast):
            assert to == peer and len(reply) <= self.mtu
            sent.append(reply)
        return sent

    def _check(self, served, sent):
        """See that what was sent answers a request: piggybacked, separate or as NON (RFC 7252 5.2), by a right code."""
        kind, method, mid, token, options, payload = served.m
        codes = served.codes
        served.seen = served.seen or list(self.host.seen)
        resource = served.resource
        if len(self.host.tasks) > len(self.owed):
            assert not sent and resource.slow and codes[0] in (BAD_REQUEST, INTERNAL, SUCCESS[method]), sent
            served.working = True
            self.owed.append(served)
            return
        if not sent and kind == NON:
            # RFC 7252 8.2: a group need not be told of errors; 4.3, 5.4.1: a NON not understood is rejected by silence
            if BAD_OPTION not in codes and codes[0] < 128:
                assert served.multicast, codes
                if self.host.endpoint.counters.refused == self.refused:  # for want of a slot
                    self.at_leisure.append(served)
            return
        ack = message(ACK, 0, mid)
        if kind == CON and ack in sent:
            assert not served.acknowledged
            sent.remove(ack)
            served.acknowledged = True
        assert len(sent) == 1, sent
        served.reply = sent[0]
        reply = read(sent[0])
        assert reply is not None, sent
        if kind == NON:
            assert reply[0] == NON
            others = NO_PROXYING, NOT_ACCEPTABLE, BAD_REQUEST
            assert BAD_OPTION not in codes or any([code in codes for code in others])
        elif served.acknowledged:
            assert reply[0] == CON
            self.separate[served.peer, reply[2]] = [sent[0], 0, self.host.network.elapsed, served]
        else:
            assert reply[0] == ACK and reply[2] == mid
        code = reply[1]
        assert reply[3] == token and code in codes, (reply, codes)
        assert code < 128 or not served.multicast, reply  # RFC 7252 8.2
        self.answered += 1
        if code == VALID:
            assert not reply[5] and reply[4] == [(4, resource.etag)] and not served.seen, reply
        elif resource and resource.links:
            if code == SUCCESS[GET]:
                some = any([number == 15 for number, _ in options])
                if not some or block(reply, BLOCK2) is not None:
                    self._check_block(served, reply, None if some else b",".join(resource.links))
                else:
                    told = reply[5].split(b",") if reply[5] else []
                    assert all([link in resource.links for link in told]), reply
        elif code < 128 and INCOMPLETE in codes:
            self._check_block(served, reply, resource.reply)  # of an answer that was kept
            assert not served.seen, served.seen
        elif code < 128:
            self._check_block(served, reply, payload if resource.reply is None else resource.reply)
            segments = [value for number, value in options if number == 11]
            queries = [value for number, value in options if number == 15]
            formats = [value for number, value in options if number == 12]
            ct = int.from_bytes(formats[0], "big") if formats and len(formats[0]) < 3 else None
            assert served.seen == [(method, segments, queries, ct, payload)], served.seen

    def _check_block(self, served, reply, whole):
        """See that a response has its payload, or the part of it that was asked for (RFC 7959 2.2-2.4).

        whole: None where it is not known.
        """
        asked = block(served.m, BLOCK2)
        found = block(reply, BLOCK2)
        if found is None:
            assert reply[5] == whole and asked is None, reply
            return
        number, more, szx = found
        start = number << 4 + szx
        assert szx < 7 and 16 << szx <= self.mtu - 64 and not (more and len(reply[5]) != 16 << szx), reply
        assert start == (0 if asked is None else asked[0] << 4 + asked[2]) and (asked is None or szx <= asked[2]), reply
        assert asked is not None or more, reply  # else it fits
        if whole is not None:
            end = start + (16 << szx)
            assert reply[5] == whole[start:end] and more == (end < len(whole)), reply
            sizes = [int.from_bytes(value, "big") for at, value in reply[4] if at == SIZE2]
            assert sizes in ([], [len(whole)]), reply
            assert start or not more or sizes, reply
        tags = [value for at, value in reply[4] if at == ETAG]
        assert served.m[1] not in SAFE or not (more or start) or len(tags) == 1, reply  # RFC 7959 2.4

    def finish_task(self):
        """Run an async handler to its end."""
        host = self.host
        served = self.owed.pop(0)
        served.working = False
        del host.seen[:]
        self.refused = host.endpoint.counters.refused
        host.finish_task()
        sent = []
        for reply, to in host.network.take():
            assert to == served.peer
            sent.append(reply)
        self._check(served, sent)

    def advance(self, ms):
        """Let time pass: acknowledgements of slow requests, repetitions and answers to a group's requests are due."""
        host = self.host
        network = host.network
        network.advance(ms)
        if host.endpoint.poll_timeout(network.now) != 0:
            return
        host.endpoint.handle_timeout(network.now)
        host.events()
        for datagram, peer in host.sent():
            known = self._repeats(datagram, peer) or self._acknowledges(datagram, peer) or self._late(datagram, peer)
            assert known, "sent for nothing: %r" % datagram
        for key in list(self.separate):
            if network.elapsed - self.separate[key][2] > 100000:  # MAX_TRANSMIT_WAIT and more
                del self.separate[key]

    def _repeats(self, datagram, peer):
        kept = self.separate.get((peer, datagram[2] << 8 | datagram[3]))
        if kept is None or datagram != kept[0]:
            return False
        kept[1] += 1
        return in_time(kept[1], self.host.network.elapsed - kept[2])

    def _acknowledges(self, datagram, peer):
        for served in self.owed:
            if not served.acknowledged and served.peer == peer and datagram == message(ACK, 0, served.m[2]):
                served.acknowledged = True  # RFC 7252 5.2.2
                return True
        return False

    def _late(self, datagram, peer):
        for served in self.at_leisure:
            token = served.m[3]
            if served.peer == peer and datagram[0] == 0x50 | len(token) and datagram[4 : 4 + len(token)] == token:
                self.at_leisure.remove(served)
                self._check(served, [datagram])
                return True
        return False

    def settle(self):
        """Let all handlers end and all time pass, until the host has nothing to wait for."""
        while self.owed:
            self.finish_task()
        endpoint = self.host.endpoint
        for _ in range(200):
            ms = endpoint.poll_timeout(self.host.network.now)
            if ms < 0:
                break
            self.advance(ms)
        else:
            raise AssertionError("a deadline is left for ever")
        # with a query there may have been nothing to tell, and a group is not told of an error that may have been
        silent = [served.resource.links or max(served.codes) > 127 for served in self.at_leisure]
        assert not self.separate and all(silent)
        self.forget()
