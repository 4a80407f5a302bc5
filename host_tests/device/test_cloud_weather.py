# What a node survives at each kind of cloud: the real sender and remotes against a server with a script, on a virtual
# network and clock. After each storm every record has arrived once, in order, or is counted as dropped or refused.

from cloud_net import CLOUDS, Bench, Server
from coaplet import SecurityError


def benches(**kwargs):
    for cloud in CLOUDS:
        yield Bench(cloud, **kwargs)


def first(n, what):
    """A weather for the first n requests with records."""
    left = [n]

    def weather(payload, response, seqs):
        if not seqs or not left[0]:
            return False
        left[0] -= 1
        what(response)
        return True

    return weather


def error(code, text=None, max_age=None, size1=None):
    def write(response):
        response.code = code
        if max_age is not None:
            response.option(14, max_age)
        if size1 is not None:
            response.option(60, size1)
        if text:
            response.payload(text)

    return write


def storm(b, ms=100000):
    """Records before a storm, in it and after it: mixed, some more in it than the queue has room for."""
    b.say(2)
    b.read(5)
    b.start()
    for _ in range(8):
        b.run_for(ms // 8)
        b.read(2)
        b.say()


def test_in_fair_weather_everything_arrives_in_order():
    for b in benches():
        b.say(2)
        b.read(20)
        b.say()
        assert b.settled() == 0
        assert len(b.server.taken) == 23 and b.connects == 1
        assert b.lines == ["node: collector coap://s reachable"]


def test_readings_go_in_batches_where_the_cloud_takes_them():
    for b in benches():
        b.read(20)
        b.say()
        b.drain()
        assert len(b.server.times) == (3 if b.cloud.batch > 1 else 21)


def test_silence_and_then_it_is_back():
    for b in benches(records=16):
        b.network.lose = lambda n, data: True
        storm(b)
        assert b.sender.away and b.connects > 2 and b.server.taken == []
        b.network.lose = lambda n, data: False
        lost = b.settled()
        assert lost > 0 and b.server.taken[-1] == b.records.seq
        assert b.lines[0] == "node: collector coap://s away (no answer), 7 queued"
        assert sum([line.startswith("node: collector back after ") for line in b.lines]) == 1


def test_a_server_that_rejects_messages_for_a_while():
    for b in benches():
        b.server.resets = 3
        storm(b)
        assert b.settled() == 0 and b.server.resets == 0
        assert b.lines[0].startswith("node: collector coap://s away (")


def test_a_refusal_with_text_is_counted_and_said_and_the_next_record_is_sent():
    for b in benches():
        b.server.weather = first(1, error(128, "no such key"))
        b.say()
        b.read()
        assert b.settled() == 1
        assert b.sender.refused == 1 and b.lines[1].endswith("4.00 Bad Request: no such key"), b.lines


def test_of_a_batch_that_is_refused_only_the_bad_one_is_lost():
    for b in benches():

        def weather(payload, response, seqs):
            if 4 in seqs:
                error(128, "4 is bad")(response)
                return True

        b.server.weather = weather
        b.read(9)
        assert b.settled() == 1
        assert 4 not in b.server.taken and 3 in b.server.taken and 5 in b.server.taken


def test_503_is_heeded_for_as_long_as_its_max_age_says():
    for b in benches():
        b.server.weather = first(2, error(163, "restarting", max_age=40))
        storm(b, 400)
        assert b.settled() == 0
        times = b.server.times
        assert times[1] - times[0] >= 40000 and times[2] - times[1] >= 40000, times
        assert times[2] - times[0] < 90000


def test_429_with_and_without_max_age():
    for max_age, least, most in ((7, 7000, 9000), (None, 1000, 3000)):
        for b in benches():
            b.server.weather = first(1, error(157, "slower", max_age=max_age))
            b.say(3)
            assert b.settled() == 0
            wait = b.server.times[1] - b.server.times[0]
            assert least <= wait <= most, (b.config.running["cloud"], wait)


def test_responses_that_take_their_time_come_separately_and_count_once():
    for b in benches():
        b.server.slow_ms = 4000
        b.say(2)
        b.read(3)
        assert b.settled() == 0
        assert len(b.server.taken) == 5 and not b.sender.away and not [w for w in b.waits if w > 1]


def test_a_response_before_the_ack_is_taken():
    for b in benches():
        b.server.slow_ms = 2500
        b.server.late_acks = True
        b.say(3)
        assert b.settled() == 0
        assert b.server.early == 3 and b.connects == 1 and not b.server.held


def test_a_server_at_another_address_is_found_by_a_new_connect():
    for b in benches():
        b.say()
        b.drain()
        old = b.server
        del b.network.hosts["s"]
        b.server = Server(b.network, b.config.running["cloud"], "s2")
        b.server.taken = old.taken
        b.to = "s2"
        b.say(2)
        b.read(2)
        assert b.settled() == 0 and b.connects == 2
        assert b.lines[1] == "node: collector coap://s away (no answer), 4 queued"


def test_a_node_at_another_address_goes_on():
    for b in benches():
        b.say()
        b.drain()
        del b.network.hosts["c"]
        b.c.name = "c2"
        b.network.hosts["c2"] = b.c
        b.say(2)
        b.read(2)
        assert b.settled() == 0


def test_a_key_that_is_revoked_keeps_the_records_and_says_so():
    for b in benches(records=16):
        b.say()
        b.drain()
        revoked = [True]
        b.server.weather = lambda payload, response, seqs: revoked[0] and (error(129, "revoked")(response) or True)
        storm(b)
        assert b.sender.away and b.sender.refused == 0 and b.server.taken == [1]
        assert b.lines[1].startswith("node: collector coap://s away (4.01 Unauthorized: revoked), "), b.lines
        revoked[0] = False
        b.settled()
        assert b.connects > 2 and b.server.taken[-1] == b.records.seq


def test_a_session_that_cannot_be_had_again_keeps_the_records_and_says_so():
    why = "no session with s:5684: wrong key, or unknown identity"
    for b in benches(records=16):
        b.say()
        b.drain()
        b.network.lose = lambda n, data: True
        b.errors = [SecurityError(0, why) for _ in range(6)]
        storm(b)
        assert b.server.taken == [1] and b.sender.refused == 0
        assert "node: collector coap://s still away (%s)" % why in b.lines
        b.network.lose = lambda n, data: False
        b.settled()
        assert b.server.taken[-1] == b.records.seq


def test_golioth_gets_no_more_than_20_requests_in_any_second():
    b = Bench("golioth", records=128)
    b.say(90)
    b.read(30)
    assert b.settled() == 0
    times = b.server.times
    assert len(times) == 93
    for i in range(len(times) - 20):
        assert times[i + 20] - times[i] >= 1000, times[i : i + 21]


def limited(b, most, hint):
    """Have the server take no more than so many bytes. Returns the list of those records that come cut."""
    cut = []

    def weather(payload, response, seqs):
        if len(payload) > most:
            error(141, size1=most if hint else None)(response)
            return True
        if b'"cut":true' in payload:
            cut.extend(seqs)

    b.server.weather = weather
    return cut


def test_a_payload_limit_splits_batches_and_cuts_logs():
    for most, hint in ((250, True), (250, False), (230, True), (210, True), (190, True)):
        for b in benches():
            cut = limited(b, most, hint)
            b.read(12)
            b.say(1, "x" * 400)
            b.say(1, "y", more="z" * 300)
            b.read(3)
            b.say()
            assert b.settled() == 0 and b.sender.refused == 0
            assert cut == [13, 14], (most, cut)


def test_a_payload_limit_is_forgotten_with_the_remote():
    for b in benches():
        cut = limited(b, 250, True)
        b.say(1, "x" * 400)
        b.drain()
        assert cut == [1]
        b.server.weather = None
        b.say(1, "x" * 400)
        b.drain()
        assert len(b.server.requests[-1][2]) <= 290
        b.network.lose = lambda n, data: True
        b.say()
        b.run_for(30000)
        b.network.lose = lambda n, data: False
        b.say(1, "x" * 400)
        assert b.settled() == 0
        assert len([body for _, _, body in b.server.requests if len(body) > 450]) == 2


def test_what_cannot_be_made_smaller_is_counted():
    for b in benches():
        b.server.weather = first(99, error(141))
        b.read(3)
        b.say()
        b.drain()
        b.server.weather = None
        b.say()
        lost = b.settled()
        assert 4 <= lost == b.sender.refused


def test_who_is_idle_keeps_the_way_back_open():
    for b in benches():
        b.say()
        b.drain()
        sent = len(b.network.log)
        if b.config.running["cloud"] != "golioth":
            b.c.call(b.sender.step())
            assert b.connects == 1 and not b.sender.away
            assert 2 <= len(b.network.log) - sent <= 4
        b.network.lose = lambda n, data: True
        assert b.c.call(b.sender.step()) > 0
        assert b.sender.away
