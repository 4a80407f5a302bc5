"""A batch: several readings in one request to `.s`, each with its own time.

    [{"temperature":{"value":21.5,"unit":"Cel","node":"n","boot":1,"seq":7},"ts":1700000000000}, ...]

An element says of each name in it what a request to `.s/NAME` would, with `ts` (or `up`, while no clock is set) put
into it, and becomes the very record that this would be. What cannot be taken is left out and named, the rest is
stored: a node that drops the batch for its 4.00 has lost nothing good, and one that sends the elements again, one by
one, finds them to be duplicates.
"""

from dataclasses import dataclass, replace
from typing import Any

from coaplet_tools.collector.limits import BATCH, PATH
from coaplet_tools.collector.payloads import CBOR, JSON, Refused, UnknownFormat, from_cbor, from_json, to_json, to_text
from coaplet_tools.collector.records import Record, is_number, make_record

_STAMPS = ("ts", "up")
_SHOWN = 40  # characters of a name in an answer


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of a batch, and why others are none: `[INDEX] NAME: KEY: why`, a text each."""

    records: list[Record]
    refused: list[str]


class TooMany(Refused):
    """More readings than one request may have."""


def read_batch(content_format: int | None, payload: bytes, remote: str, received: int) -> Batch:
    """Make records of what was posted to `.s`. The arguments are those of read_record.

    Raises Refused where nothing of it can be read, UnknownFormat, TooMany.
    """
    if content_format == CBOR:
        elements = from_cbor(payload)
    elif content_format in (None, JSON):
        elements = from_json(to_text(payload))
    else:
        raise UnknownFormat(f".s: send JSON (50) or CBOR (60), not format {content_format}")
    if isinstance(elements, dict):
        elements = [elements]
    if not isinstance(elements, list) or not elements:
        raise Refused("a batch is an array of objects; the path of one stream is .s/NAME")
    names = [[name for name in each if name not in _STAMPS] if isinstance(each, dict) else [] for each in elements]
    if sum(max(len(each), 1) for each in names) > BATCH:
        raise TooMany(f"a batch has at most {BATCH} readings")
    batch = Batch([], [])
    for i, element in enumerate(elements):
        if not names[i]:
            batch.refused.append(f"[{i}]: must be an object with the name of a reading")
        for name in names[i]:
            try:
                batch.records.append(_record(name, element, remote, received))
            except Refused as error:
                batch.refused.append(f"[{i}] {name[:_SHOWN]}: {error}")
    return batch


def _record(name: str, element: dict[str, Any], remote: str, received: int) -> Record:
    if not 0 < len(name.encode(errors="replace")) <= PATH:
        raise Refused(f"a path has 1 to {PATH} bytes")
    path = ".s/" + name
    value = element[name]
    stamps = {key: element[key] for key in _STAMPS if key in element}
    if isinstance(value, dict):
        value = {**stamps, **value}
    elif stamps and (is_number(value) or isinstance(value, bool)):
        value = {"value": value, **stamps}
    record = make_record(path, value, to_json(value), remote, received)
    if not isinstance(value, dict) and stamps:  # a text or a list has no place for its time
        record = replace(record, ts=make_record(path, stamps, "", remote, received).ts)
    return record
