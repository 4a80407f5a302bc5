"""Transmission parameters and what derives from them (RFC 7252 4.8), and the jitter of timeouts (4.2)."""

from coaplet.transmission import Parameters
from helpers import raises
from net import Host, Network


def derived(p):
    """What of table 3 an endpoint goes by, in its order, in ms."""
    return (
        p.max_transmit_span_ms,
        p.max_transmit_wait_ms,
        p.exchange_lifetime_ms,
        p.non_lifetime_ms,
    )


def test_the_defaults_are_those_of_table_2():
    p = Parameters()
    assert (p.ack_timeout_ms, p.max_retransmit, p.nstart, p.leisure_ms, p.probing_rate) == (2000, 4, 1, 5000, 1)
    assert p.ack_timeout_ms + p.jitter_ms == 2000 * 3 // 2  # ACK_RANDOM_FACTOR 1.5


def test_the_derived_defaults_are_those_of_table_3():
    assert derived(Parameters()) == (45000, 93000, 247000, 145000)


def test_other_values_derive_by_the_formulas_of_section_4_8_2():
    for ack_timeout, percent, retransmit in ((1000, 0, 0), (4000, 50, 4), (300, 100, 6), (2000, 10, 1), (1, 50, 12)):
        p = Parameters(ack_timeout_ms=ack_timeout, ack_random_percent=percent, max_retransmit=retransmit)
        longest = ack_timeout * (100 + percent) // 100
        span = longest * (2**retransmit - 1)
        wait = longest * (2 ** (retransmit + 1) - 1)
        assert wait - span < 100000  # else the simple formula does not hold
        assert derived(p) == (span, wait, span + 200000 + ack_timeout, span + 100000)


def test_a_last_wait_longer_than_max_latency_makes_the_lifetime_longer():
    # RFC 7252 4.8.2: MAX_TRANSMIT_WAIT need not be considered if it exceeds MAX_TRANSMIT_SPAN by less than MAX_LATENCY
    p = Parameters(ack_timeout_ms=60000)
    assert (p.max_transmit_span_ms, p.max_transmit_wait_ms) == (1350000, 2790000)
    assert p.exchange_lifetime_ms == 2790000 + 100000 + 60000
    assert p.non_lifetime_ms == 1350000 + 100000


def test_what_makes_no_sense_is_one_clear_line():
    for name, values in (
        ("ack_timeout_ms", (0, -1)),
        ("ack_random_percent", (-1,)),
        ("max_retransmit", (-1,)),
        ("nstart", (0, -1)),
        ("leisure_ms", (-1,)),
        ("probing_rate", (-1,)),
    ):
        for value in values:
            text = str(raises(ValueError, Parameters, **{name: value}))
            assert "at least" in text and "\n" not in text, (name, value)
    for ack_timeout, retransmit in ((100000, 12), (2000, 16), (1 << 28, 0)):
        text = str(raises(ValueError, Parameters, ack_timeout_ms=ack_timeout, max_retransmit=retransmit))
        assert "a day" in text and "\n" not in text


def test_the_longest_times_are_those_that_ticks_can_tell():
    p = Parameters(max_retransmit=15)
    assert p.max_transmit_wait_ms < p.exchange_lifetime_ms < 1 << 29


def test_what_an_endpoint_is_given_becomes_its_parameters():
    host = Host("c", Network(), ack_timeout_ms=100, ack_random_percent=20, max_retransmit=2, nstart=3, probing_rate=7)
    p = host.endpoint.parameters
    assert (p.ack_timeout_ms, p.jitter_ms, p.max_retransmit, p.nstart, p.probing_rate) == (100, 20, 2, 3, 7)
    assert p.max_transmit_wait_ms == 120 * 7
    raises(ValueError, Host, "c", Network(), nstart=0)


def first_timeout(bits, ack_timeout, percent):
    host = Host("c", Network(), random=bits, ack_timeout_ms=ack_timeout, ack_random_percent=percent)
    host.get("gone", "t")
    return host.endpoint.poll_timeout(host.network.now)


def test_the_first_timeout_lies_between_ack_timeout_and_that_times_the_factor():
    for ack_timeout, percent in ((2000, 50), (100, 50), (1000, 300), (700, 0)):
        least = first_timeout(lambda n: 0, ack_timeout, percent)
        most = first_timeout(lambda n: (1 << n) - 1, ack_timeout, percent)
        longest = ack_timeout * (100 + percent) // 100
        assert least == ack_timeout
        assert most <= longest and longest - most <= (longest - ack_timeout) // 100 + 1  # nearly all of it is used


def test_a_con_is_sent_once_and_max_retransmit_times_again():
    for retransmit in (0, 1, 3, 6):
        network = Network()
        host = Host("c", network, max_retransmit=retransmit)
        host.get("gone", "t")
        network.run(lambda: host.results, 30)
        assert len(network.log) == 1 + retransmit
        assert 2000 * (2 ** (retransmit + 1) - 1) <= network.elapsed <= host.endpoint.parameters.max_transmit_wait_ms


def test_parameters_may_be_changed_while_it_runs():
    # RFC 7252 4.8.1: "including dynamically adjusted values"
    network = Network()
    host = Host("c", network, exchanges=4, tx_slots=4)
    host.endpoint.parameters = Parameters(ack_timeout_ms=100, max_retransmit=1, nstart=2)
    assert host.get("gone", "a") is not None and host.get("gone", "b") is not None and host.get("gone", "c") is None
    network.run(lambda: len(host.results) == 2, 20)
    assert network.elapsed <= 450 and len(network.log) == 4
