"""What the collector takes as a record, and the ETags of its answers."""

import json

import pytest

from coaplet_tools.collector.etag import crc64, etag
from coaplet_tools.collector.payloads import Refused, UnknownFormat
from coaplet_tools.collector.records import Record, read_record
from coaplet_tools.collector.text import clean

_REMOTE = "192.0.2.7:40000"


def _read(path: str, payload: object, content_format: int | None = 50) -> Record:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return read_record(path, content_format, data, _REMOTE, 1000)


@pytest.mark.parametrize(
    ("payload", "tag"), [(b"OK", "000000000000ca0c"), (b'"OK"', "000000f05acafc5a")], ids=["OK", "quoted"]
)
def test_etag_is_the_one_seen_on_the_wire(payload: bytes, tag: str):
    assert etag(payload).hex() == tag


def test_crc64_has_the_check_value_of_the_catalogue():
    assert crc64(b"123456789") == 0xB90956C775A41001  # CRC-64/GO-ISO


def test_a_log_record_fills_its_columns():
    sent = {"level": "warn", "module": "m", "msg": "hot", "x": 1, "node": "n", "boot": 2, "seq": 3, "ts": 1700000000000}
    record = _read("logs", sent)
    assert (record.kind, record.path, record.level, record.module, record.msg) == ("log", None, "warn", "m", "hot")
    assert (record.node, record.boot, record.seq, record.ts, record.received) == ("n", 2, 3, 1700000000000, 1000)
    assert json.loads(record.body) == sent


def test_a_reading_fills_its_columns():
    record = _read(".s/temperature", {"value": 21.5, "unit": "Cel", "node": "n", "boot": 2, "seq": 3})
    assert (record.kind, record.path, record.value, record.unit) == ("reading", "temperature", 21.5, "Cel")


def test_a_stream_named_logs_takes_log_records():
    assert _read(".s/logs", {"level": "info", "msg": "up"}).kind == "log"


@pytest.mark.parametrize("value", [5, -2.5, True, 2**70, 1e308])
def test_a_bare_number_is_a_reading(value: float):
    record = _read(".s/a/b", value) if value is not True else _read(".s/a/b", {"value": value})
    assert record.path == "a/b"
    assert record.value == value


@pytest.mark.parametrize("payload", [{"lat": 1.5, "lon": 2}, [1, 2], "text", None, {"value": None}])
def test_a_stream_takes_any_json_and_keeps_it(payload: object):
    record = _read(".s/x", payload)
    assert record.value is None
    assert json.loads(record.body) == payload


@pytest.mark.parametrize("content_format", [0, None])
def test_a_text_is_a_log_record(content_format: int | None):
    record = _read("logs", 'h\u00e9llo "there"'.encode(), content_format)
    assert record.msg == 'h\u00e9llo "there"'
    assert json.loads(record.body) == record.msg


def test_without_a_name_the_node_is_its_address_and_the_record_has_no_identity():
    record = _read("logs", {"msg": "up", "boot": 1, "seq": 1})
    assert (record.node, record.boot, record.seq) == ("192.0.2.7", None, None)
    assert read_record("logs", 0, b"x", "[fe80::1%3]:5683", 0).node == "fe80::1%3"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("node", value) for value in (7, "", "n" * 129, ["n"])),
        *(("boot", value) for value in ("1", 1.0, True, -1, 2**63)),
        *(("seq", value) for value in ("1", 1.5, False, -1, 2**63)),
        *(("level", value) for value in (3, ["info"])),
        ("module", 1),
        ("msg", {"a": 1}),
        ("ts", "now"),
    ],
)
def test_a_wrong_type_is_refused_by_its_key(key: str, value: object):
    record = {"level": "info", "module": "m", "msg": "x", "node": "n", "boot": 1, "seq": 1}
    with pytest.raises(Refused, match=f"^{key}: must be "):
        _read("logs", record | {key: value})


@pytest.mark.parametrize(("key", "value"), [("value", "21"), ("value", [1]), ("unit", 5)])
def test_a_wrong_type_of_a_reading_is_refused_by_its_key(key: str, value: object):
    with pytest.raises(Refused, match=f"^{key}: must be "):
        _read(".s/x", {"value": 1, "unit": "m"} | {key: value})


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b'{"a":}',
        b"NaN",
        b"1e999",
        b'{"value":-1e999}',
        b'{"value":Infinity}',
        b"\xff\xfe",
        b"[" * 100_000,
        b"1" * 5000,
        b'{"a":1} x',
    ],
)
def test_what_is_not_json_is_refused(payload: bytes):
    for path in ("logs", ".s/x"):
        with pytest.raises(Refused):
            _read(path, payload)


def test_an_integer_that_is_no_float_has_no_value():
    assert _read(".s/x", b"1" + b"0" * 400).value is None


@pytest.mark.parametrize("depth", [33, 500, 1500])
def test_deep_nesting_is_refused(depth: int):
    with pytest.raises(Refused, match="nested deeper"):
        _read(".s/x", b"[" * depth + b"]" * depth)
    _read(".s/x", b"[" * 32 + b"]" * 32)


@pytest.mark.parametrize("payload", [[1], "text", 5, None])
def test_a_log_record_is_an_object(payload: object):
    with pytest.raises(Refused, match="JSON object"):
        _read("logs", payload)


@pytest.mark.parametrize("content_format", [40, 112, 11542])
def test_other_formats_are_not_understood(content_format: int):
    for path in ("logs", ".s/x"):
        with pytest.raises(UnknownFormat):
            _read(path, b"\xa0\xff", content_format)
    with pytest.raises(UnknownFormat):
        _read(".s/x", b"21", 0)
    with pytest.raises(UnknownFormat):
        _read("logs", b"\0", 42)


def test_lone_surrogates_can_be_stored():
    record = _read("logs", b'{"msg":"a\\ud800b","node":"\\udfff"}')
    assert (record.msg, record.node) == ("a?b", "?")


def test_what_peers_write_cannot_steer_a_terminal():
    assert clean("a\x1b[2J\r\nb\u202e\x07") == "a\ufffd[2J\ufffd\ufffdb\ufffd\ufffd"
