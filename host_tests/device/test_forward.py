"""Options that a proxy does not understand (RFC 7252 5.4.2, 5.4.6), and cache keys (5.6)."""

from coaplet.forward import cache_key, is_cache_key, is_critical, is_safe_to_forward
from coaplet.message import Message
from helpers import CON, NON, fill, message

# RFC 7252 5.10, Table 4: number, critical, unsafe, NoCacheKey (only where safe); 6, 23, 27 from RFC 7641 and 7959
TABLE_4 = (
    (1, True, False, False),
    (3, True, True, None),
    (4, False, False, False),
    (5, True, False, False),
    (7, True, True, None),
    (8, False, False, False),
    (11, True, True, None),
    (12, False, False, False),
    (14, False, True, None),
    (15, True, True, None),
    (17, True, False, False),
    (20, False, False, False),
    (35, True, True, None),
    (39, True, True, None),
    (60, False, False, True),
    (28, False, False, True),  # Size2
    (258, False, True, None),  # No-Response
)


def test_the_number_tells_critical_unsafe_and_no_cache_key():
    for number, critical, unsafe, no_cache_key in TABLE_4:
        assert is_critical(number) == critical, number
        assert is_safe_to_forward(number) == (not unsafe), number
        assert is_cache_key(number) == (not no_cache_key), number


def test_no_cache_key_is_all_three_bits_of_a_safe_option():
    # RFC 7252 5.4.6: NoCacheKey = ((onum & 0x1e) == 0x1c)
    for number in range(600):
        assert is_cache_key(number) == ((number & 0x1E) != 0x1C), number


def request(code, options, payload=b"", kind=CON, mid=1, token=b""):
    rx = Message(16)
    fill(rx, message(kind, code, mid, token, options, payload))
    return rx


def test_requests_share_a_key_when_method_and_options_agree():
    options = [(11, b"a"), (12, b""), (15, b"x=1"), (17, b"2"), (2049, b"z")]
    key = cache_key(request(1, options))
    assert cache_key(request(1, options, b"", NON, 9, b"other")) == key
    assert cache_key(request(1, options, b"ignored of a GET")) == key
    assert cache_key(request(1, [(4, b"tag")] + options)) == cache_key(request(1, [(4, b"other")] + options)) == key
    assert cache_key(request(1, [(4, b"tag")] + options), ()) != key
    # Size1 is NoCacheKey
    assert cache_key(request(1, options[:4] + [(60, b"\x10")] + options[4:])) == key


def test_requests_that_may_differ_in_their_response_have_different_keys():
    options = [(11, b"a"), (11, b"b"), (17, b"2")]
    keys = [cache_key(request(1, options))]
    keys.append(cache_key(request(2, options)))
    keys.append(cache_key(request(1, options[:2])))
    keys.append(cache_key(request(1, [(11, b"ab"), (17, b"2")])))
    keys.append(cache_key(request(1, [(11, b"a"), (15, b"b"), (17, b"2")])))
    keys.append(cache_key(request(1, [(11, b"a"), (11, b"b"), (17, b"3")])))
    keys.append(cache_key(request(5, options)))
    keys.append(cache_key(request(5, options, b"1")))
    keys.append(cache_key(request(5, options, b"2")))
    assert len(set(keys)) == len(keys)
