"""Records as CBOR, which may be hostile, and as octets."""

import json
import random
from dataclasses import replace

import cbor2
import pytest

from coaplet_tools.collector import payloads
from coaplet_tools.collector.payloads import Refused, UnknownFormat
from coaplet_tools.collector.records import Record, read_record

_REMOTE = "192.0.2.7:40000"


def _read(path: str, payload: object, content_format: int = 50) -> Record:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return read_record(path, content_format, data, _REMOTE, 1000)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        (
            "logs",
            {
                "level": "warn",
                "module": "m",
                "msg": "h\u00f6t",
                "x": [1, {"y": None}],
                "node": "n",
                "boot": 1,
                "seq": 2,
            },
        ),
        (".s/logs", {"msg": "up"}),
        (".s/x", {"value": 21.5, "unit": "Cel", "ts": 1700000000000}),
        (".s/x", -5),
        (".s/x", True),
        (".s/x", ["a", 2**64 - 1, -(2**64), 0.1]),
    ],
)
def test_cbor_says_what_json_does(path: str, sent: object):
    said = _read(path, sent, 50)
    for data in (cbor2.dumps(sent), cbor2.dumps(sent, indefinite_containers=True)):
        record = _read(path, data, 60)
        assert replace(record, body="") == replace(said, body="")
        assert json.loads(record.body) == sent


@pytest.mark.parametrize(
    ("data", "body"), [("a16178f7", '{"x":null}'), ("81420aff", '["0aff"]'), ("815f410a41ffff", '["0aff"]')]
)
def test_undefined_and_bytes_within_cbor_become_what_json_has(data: str, body: str):
    assert _read(".s/x", bytes.fromhex(data), 60).body == body


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "not CBOR"),
        ("a161", "not CBOR"),
        ("0102", "not CBOR"),  # two items
        ("18", "not CBOR"),
        ("1c", "not CBOR"),  # reserved
        ("1f", "not CBOR"),  # an endless integer
        ("ff", "not CBOR"),
        ("f8ff", "not CBOR"),  # simple values
        ("e0", "not CBOR"),
        ("62ffff", "not CBOR"),  # not UTF-8
        ("5f6161ff", "not CBOR"),  # a text as part of bytes
        ("5f5f4161ffff", "not CBOR"),
        ("5f41", "not CBOR"),
        ("5bffffffffffffffff61", "not CBOR"),  # lengths beyond what there is
        ("7b7fffffffffffffff61", "not CBOR"),
        ("9bffffffffffffffff01", "not CBOR"),
        ("bbffffffffffffffff616101", "not CBOR"),
        ("bf6161ff", "not CBOR"),  # a key alone
        ("9f01", "not CBOR"),
        ("f97e00", "NaN"),
        ("81f97c00", "Infinity"),
        ("fbfff0000000000000", "Infinity"),
        ("a14161" + "01", "must be text"),  # bytes as a key
        ("a10101", "must be text"),
        ("a1800101", "must be text"),
        ("c11a514b67b0", "tags"),  # a time
        ("c249010000000000000000", "tags"),  # 2**64
        ("c48221196ab3", "tags"),  # a decimal fraction, whose exponent may be any
        ("d8238161" + "61", "tags"),  # a regular expression
        ("d81c81d81d00", "tags"),  # an array that has itself in it
        ("d9010081d81900", "tags"),  # references to strings
        ("81" * 33 + "01", "nested deeper than 32"),
        ("9f" * 33 + "01", "nested deeper than 32"),
        ("a16161" * 33 + "01", "nested deeper than 32"),
        ("81" * 100_000, "nested deeper than 32"),
    ],
)
def test_what_json_could_not_say_is_refused(data: str, why: str):
    for path in (".s/x", "logs"):
        with pytest.raises(Refused, match=why):
            _read(path, bytes.fromhex(data), 60)


def test_cbor_as_deep_as_json_may_be_is_taken():
    assert _read(".s/x", b"\x81" * 31 + b"\x80", 60).body == "[" * 32 + "]" * 32


def test_no_cbor_raises_anything_else():
    rng = random.Random(7)
    sent = {"value": 21.5, "unit": "Cel", "node": "n", "boot": 1, "seq": 2, "more": [1, b"x", None, {"a": "b"}]}
    good = cbor2.dumps(sent, indefinite_containers=True)
    taken = 0
    for _ in range(20_000):
        data = bytearray(good if rng.random() < 0.7 else rng.randbytes(rng.randrange(40)))
        for _ in range(rng.randrange(1, 4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            record = _read(".s/x", bytes(data), 60)
        except Refused:
            continue
        taken += 1
        json.loads(record.body)
        assert isinstance(record.body, str)
        record.body.encode()
    assert taken > 1000


def test_without_the_package_for_it_cbor_is_a_format_that_is_not_understood(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(payloads, "cbor2", None)
    with pytest.raises(UnknownFormat, match="no package cbor2"):
        _read("logs", b"\xa0", 60)
    assert _read("logs", {"msg": "x"}).msg == "x"


def test_octets_are_kept_as_they_are():
    record = _read(".s/image", b"\0\xff{", 42)
    assert (record.path, record.value, record.body) == ("image", None, b"\0\xff{")
    with pytest.raises(Refused, match="empty"):
        _read(".s/image", b"", 42)
