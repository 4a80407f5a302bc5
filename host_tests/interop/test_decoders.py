"""Three decoders read the same datagrams: ours, aiocoap's and tshark's dissector.

The corpus is made here, from one seed: valid messages, mutated ones, and what lies at the boundaries of RFC 7252 3. All
three take and reject the same, and read the same type, code, Message ID, token, options and payload, but where another
one departs from the RFC. What a Departure makes of a datagram is told by our reading of a datagram that we do take, so
it excuses one thing, and all else is compared.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from coaplet.endpoint import Endpoint
from coaplet.wire import HEAD
from interop.dissect import Reading, dissect, write_capture
from interop.relay import Datagram

SEED = 7252
TYPES = (CON, NON, ACK, RST) = range(4)
EDGES = (0, 1, 8, 9, 12, 13, 14, 255, 256, 267, 268, 269, 270, 524, 525, 600)
STRINGS = frozenset((3, 8, 11, 15, 20, 35, 39))
UINTS = frozenset((6, 7, 12, 13, 14, 16, 17, 23, 27, 28, 60, 258))  # 13: of a draft, to aiocoap
NUMBERS = (1, 3, 4, 5, *UINTS, *STRINGS, *STRINGS, 252, 292, 2048, 2049, 3000, 65000, 65001)


def option(delta: int, value: bytes) -> bytes:
    extended = b""
    first = 0
    for size in (delta, len(value)):
        nibble = size if size < 13 else 13 if size < 269 else 14
        if nibble > 12:
            extended += (size - (13 if nibble == 13 else 269)).to_bytes(nibble - 12)
        first = first << 4 | nibble
    return bytes([first]) + extended + value


def message(
    kind: int, code: int, mid: int, token: bytes, options: Sequence[tuple[int, bytes]], payload: bytes
) -> bytes:
    data = bytes([0x40 | kind << 4 | len(token), code]) + mid.to_bytes(2) + token
    last = 0
    for number, value in sorted(options, key=lambda each: each[0]):
        data += option(number - last, value)
        last = number
    return data + (b"\xff" + payload if payload else b"")


def valid(choose: random.Random) -> bytes:
    options = []
    for _ in range(choose.randrange(6)):
        number = choose.choice(NUMBERS) if choose.randrange(4) else choose.randrange(2048, 65536)
        if number in UINTS:
            value = choose.randbytes(choose.randrange(4 if number == 14 or number > 20 else 3))
        elif number in STRINGS:
            value = choose.choice(("", "a", "é", "x" * 12, "y" * 13, "z" * 200)).encode()
        else:
            value = choose.randbytes(choose.choice(EDGES[:6]) if number < 2048 else choose.choice(EDGES))
        options.append((number, value))
    code = choose.choice((1, 2, 3, 4, 5, 6, 7, 65, 66, 67, 68, 69, 95, 128, 129, 130, 132, 141, 157, 160, 163, 165))
    payload = choose.randbytes(choose.choice((0, 0, 1, 5, 300)))
    return message(
        choose.choice(TYPES), code, choose.randrange(65536), choose.randbytes(choose.randrange(9)), options, payload
    )


def mutated(choose: random.Random, data: bytes) -> bytes:
    buf = bytearray(data)
    for _ in range(choose.randrange(1, 4)):
        at = min(choose.randrange(len(buf) + 1), choose.randrange(60)) if buf else 0
        match choose.randrange(5):
            case 0:
                buf[at : at + 1] = choose.randbytes(1)
            case 1 if at < len(buf):
                buf[at] ^= 1 << choose.randrange(8)
            case 2:
                buf[at:at] = choose.randbytes(1)
            case 3:
                del buf[at : at + 1]
            case _:
                del buf[at:]
    return bytes(buf)


def boundaries() -> Iterator[bytes]:
    get = b"\x40\x01\x12\x34"
    yield from (get[:n] for n in range(5))
    for first in range(256):
        yield bytes([first]) + get[1:] + bytes(first & 15) + b"\xb1a\xffp"
    for first in range(0x40, 0x80):
        yield bytes([first]) + get[1:] + bytes(min(first & 15, 7))
        yield bytes([first, 0]) + get[2:] + bytes(first & 15)
    for code in range(256):
        yield bytes([0x50, code]) + get[2:]
    for code in range(0, 256, 7):
        yield bytes([0x61, code]) + get[2:] + b"t\xb1a\xffp"
    for delta in (*EDGES[2:], 2048, 65535 - 269, 65535):
        for n in EDGES:
            data = get + option(delta, bytes([delta & 255]) * n)
            yield from (data[:-1], data)
            if n in (0, 12, 13, 268, 269):
                yield from (data + b"\xff", data + b"\xffp", data + b"\x10")
    for rest in (
        "e0fef2",
        "e0fef3",
        "e0fef210",
        "e0fef2d000",
        "e0ffff",
        "e0fef2e00000",
        "1effff",
        "dd",
        "dd00",
        "ed00",
    ):
        yield get + bytes.fromhex(rest)
    for nibbles in range(256):
        yield get + bytes([nibbles]) + bytes(nibbles % 6)


def make_corpus() -> list[bytes]:
    """Datagrams of each kind, each once. What has a Content-Format has no payload: tshark would read that, too."""
    choose = random.Random(SEED)
    made = [valid(choose) for _ in range(800)]
    made += [mutated(choose, choose.choice(made)) for _ in range(1600)]
    made += [bytes([0x40 | choose.randrange(64)]) + choose.randbytes(choose.randrange(40)) for _ in range(200)]
    made += boundaries()
    corpus = {}
    for data in made:
        reading = our_reading(data)
        if reading and reading.payload and any(number == 12 for number, _ in reading.options):
            data = data[: -1 - len(reading.payload)]
        corpus[data] = None
    return list(corpus)


def our_reading(data: bytes) -> Reading | None:
    """Let an endpoint take in a datagram. None: it is ignored, or a format error (RFC 7252 3, 4.1)."""
    if len(data) > 1:
        # which types go with which codes is no question of format: a request or response as NON, an Empty as ACK
        as_known = bytes([data[0] & 0xCF | (NON if data[1] else ACK) << 4]) + data[1:]
    else:
        as_known = data
    endpoint = Endpoint(max_options=64, duplicates=1)
    endpoint.handle_datagram(0, as_known, "peer", None)
    if endpoint.counters.ignored or endpoint.counters.malformed:
        return None
    table = endpoint.rx.table
    cells = range(HEAD, HEAD + 3 * table[1], 3) if data[1] else ()
    options = [table[k : k + 3] for k in cells]
    return Reading(
        kind=data[0] >> 4 & 3,
        code=data[1],
        mid=int.from_bytes(data[2:4]),
        token=data[4 : 4 + (data[0] & 15)],
        options=tuple((number, data[at : at + n]) for number, at, n in options),
        payload=data[table[2] :] if data[1] else b"",
    )


@dataclass(frozen=True)
class Departure:
    """A way in which another decoder takes what we reject.

    section: of RFC 7252. repair: returns what comes closer to a datagram that we take, and what to replace in our
    reading of that to get the other's; or None where the departure is not the case.
    """

    section: str
    what: str
    repair: Callable[[bytes], tuple[bytes, dict[str, Any]] | None]


def _version(data: bytes) -> tuple[bytes, dict[str, Any]] | None:
    return (bytes([0x40 | data[0] & 0x3F]) + data[1:], {}) if data[0] >> 6 != 1 else None


def _cut_token(data: bytes) -> tuple[bytes, dict[str, Any]] | None:
    return (bytes([data[0] & 0xF0]) + data[1:4], {"token": data[4:]}) if len(data) < 4 + (data[0] & 15) else None


def _long_token(data: bytes) -> tuple[bytes, dict[str, Any]] | None:
    end = 4 + (data[0] & 15)
    if end < 13 or len(data) < end:
        return None
    return bytes([data[0] & 0xF0]) + data[1:4] + data[end:], {"token": data[4:end]}


def _reserved_class(data: bytes) -> tuple[bytes, dict[str, Any]] | None:
    return (data[:1] + b"\x01" + data[2:], {"code": data[1]}) if data[1] >> 5 in (1, 3, 6, 7) else None


def _full_empty(data: bytes) -> tuple[bytes, dict[str, Any]] | None:
    return (data[:1] + b"\x01" + data[2:], {"code": 0}) if data[1] == 0 and len(data) > 4 else None


def _options(data: bytes) -> tuple[list[tuple[int, bytes]], int] | None:
    """Read options with numbers of any size. Returns them and where they end; None where they are malformed."""
    pos = 4 + (data[0] & 15)
    number = 0
    options = []
    while pos < len(data) and data[pos] != 0xFF:
        sizes = [data[pos] >> 4, data[pos] & 15]
        pos += 1
        for i, size in enumerate(sizes):
            more = max(0, size - 12)
            if more > 2 or pos + more > len(data):
                return None
            sizes[i] = min(size, 12) + (0, 1, 257)[more] + int.from_bytes(data[pos : pos + more])
            pos += more
        number += sizes[0]
        options.append((number, data[pos : pos + sizes[1]]))
        pos += sizes[1]
    return (options, pos) if pos <= len(data) else None


def _empty_payload(data: bytes) -> tuple[bytes, dict[str, Any]] | None:
    read = _options(data)
    return (data[:-1], {}) if read and read[1] == len(data) - 1 else None


def _large_number(data: bytes) -> tuple[bytes, dict[str, Any]] | None:
    """Write the datagram anew, with 65,535 for each larger number."""
    options, end = _options(data) or ([], 0)
    if not options or options[-1][0] < 65536:
        return None
    known = [(min(number, 65535), value) for number, value in options]
    return data[: 4 + (data[0] & 15)] + message(0, 0, 0, b"", known, b"")[4:] + data[end:], {"options": tuple(options)}


VERSION = Departure("3", "another version than 1 is taken", _version)
CUT_TOKEN = Departure("3", "a token that ends with the datagram, too early, is taken", _cut_token)
LONG_TOKEN = Departure("3", "a token of 9 to 15 bytes is taken", _long_token)
RESERVED_CLASS = Departure("3, 12.1", "a code of class 1, 3, 6 or 7 is taken", _reserved_class)
FULL_EMPTY = Departure("4.1", "an Empty message with more than a header is taken", _full_empty)
EMPTY_PAYLOAD = Departure("3", "a payload marker without payload is taken", _empty_payload)
LARGE_NUMBER = Departure("3.1, 12.2", "an option number above 65,535 is taken", _large_number)

AIOCOAP = (CUT_TOKEN, LONG_TOKEN, RESERVED_CLASS, FULL_EMPTY, EMPTY_PAYLOAD, LARGE_NUMBER)
TSHARK = (VERSION, LONG_TOKEN, RESERVED_CLASS, FULL_EMPTY, EMPTY_PAYLOAD)


def read_with(departures: Sequence[Departure], data: bytes) -> tuple[Reading | None, list[str]]:
    """Read a datagram as a decoder does that departs so. Returns the reading, and the departures that it took."""
    taken: list[str] = []
    changes: dict[str, Any] = {}
    while (reading := our_reading(data)) is None:
        repairs = ((departure, departure.repair(data)) for departure in departures if len(data) > 3)
        departure, repaired = next((each for each in repairs if each[1]), (None, None))
        if departure is None or repaired is None:
            return None, []
        data = repaired[0]
        changes = {**repaired[1], **changes}
        taken.append(departure.what)
    return replace(reading, **changes), taken


@pytest.fixture(scope="module")
def corpus() -> list[bytes]:
    made = make_corpus()
    taken = sum(our_reading(data) is not None for data in made)
    assert len(made) > 3000 and len(made) // 4 < taken < len(made) * 3 // 4
    return made


def assert_only(seen: Counter[str], departures: Sequence[Departure], *others: str) -> None:
    """See that each departure is still one: what a new version of a decoder mends is to be deleted here."""
    assert set(seen) == {departure.what for departure in departures} | set(others), seen


# What aiocoap does beside AIOCOAP's
NOT_UTF_8 = (
    "3.2: a message with a string option that is not UTF-8 is rejected, though the RFC makes that no format error"
)
SHORTEST = "3.2: a uint option is read as a number, so leading zeros are lost; compared as numbers"


def read_with_aiocoap(data: bytes) -> tuple[Reading | None, str]:
    """Returns aiocoap's reading, or None and the kind of error that it raised."""
    import aiocoap
    import aiocoap.error

    try:
        decoded = aiocoap.Message.decode(data)
    except (aiocoap.error.UnparsableMessage, UnicodeDecodeError) as error:
        return None, type(error).__name__
    assert decoded.mtype is not None and decoded.code is not None and decoded.mid is not None
    return Reading(
        kind=int(decoded.mtype),
        code=int(decoded.code),
        mid=decoded.mid,
        token=decoded.token,
        options=tuple((int(each.number), each.encode()) for each in decoded.opt.option_list()),
        payload=decoded.payload,
    ), ""


def with_shortest_uints(reading: Reading) -> Reading:
    options = ((n, value.lstrip(b"\0") if n in UINTS else value) for n, value in reading.options)
    return replace(reading, options=tuple(options))


def is_utf_8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_aiocoap_reads_what_we_read(corpus):
    pytest.importorskip("aiocoap", reason="aiocoap is not in .venv: tools/requirements.txt has to name it")
    seen: Counter[str] = Counter()
    for data in corpus:
        ours, taken = read_with(AIOCOAP, data)
        theirs, error = read_with_aiocoap(data)
        if ours and error == "UnicodeDecodeError":
            assert not all(is_utf_8(value) for number, value in ours.options if number in STRINGS), data.hex()
            seen[NOT_UTF_8] += 1
            continue
        if ours and with_shortest_uints(ours) != ours:
            ours = with_shortest_uints(ours)
            taken.append(SHORTEST)
        assert theirs == ours, data.hex()
        seen.update(taken)
    assert_only(seen, AIOCOAP, NOT_UTF_8, SHORTEST)


# What tshark does beside TSHARK's
RANGE = "5.4.3: an option of a wrong length is called malformed, though it is to be treated as unrecognized"
RESERVED_NUMBER = "12.2: an option with the reserved number 0 is called malformed"
OSCORE = "none: the value of an OSCORE option is read as RFC 8613 6.1 says, and the packet rejected for it"


def test_tshark_reads_what_we_read(corpus, tshark, tmp_path):
    write_capture(tmp_path / "corpus.pcap", [Datagram(data, True, False, (i, 40000)) for i, data in enumerate(corpus)])
    readings = dissect(tshark, tmp_path / "corpus.pcap", tmp_path, tolerant=True)
    seen: Counter[str] = Counter()
    for data, (theirs, remarks) in zip(corpus, readings, strict=True):
        ours, taken = read_with(TSHARK, data)
        wrong = " ".join(remark for remark in remarks if "/Malformed)" in remark)
        if any(int(number) > 65535 for number in re.findall(r"Invalid Option Number (\d+)", wrong)):
            theirs = None
        if theirs is None and ours and any(number == 9 for number, _ in ours.options):
            seen[OSCORE] += 1
            continue
        assert theirs == ours, f"{data.hex()}: {remarks}"
        seen.update(taken)
        if theirs:
            lengths = [int(n) for n in re.findall(r"Invalid Option Range: (\d+)", wrong)]
            assert not Counter(lengths) - Counter(len(value) for _, value in theirs.options), f"{data.hex()}: {remarks}"
            seen[RANGE] += len(lengths)
            zeros = wrong.count("Invalid Option Number 0")
            assert zeros == sum(number == 0 for number, _ in theirs.options), f"{data.hex()}: {remarks}"
            seen[RESERVED_NUMBER] += zeros
    assert_only(+seen, TSHARK, RANGE, RESERVED_NUMBER, OSCORE)
