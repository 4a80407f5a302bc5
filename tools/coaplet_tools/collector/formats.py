"""Rows as a table for people, as JSON and CSV for scripts. All are written as the rows come, however many."""

import csv
import itertools
import json
import sqlite3
from collections.abc import Iterable
from typing import TextIO

from coaplet_tools.collector.schema import COLUMNS
from coaplet_tools.collector.show import as_json, as_text, describe
from coaplet_tools.collector.text import Paint, clean, moment, table

_CHUNK = 500  # rows of a table whose columns are aligned with each other
_HEAD = ("received", "node", "boot", "seq", "what", "subject", "value or message")


def write(rows: Iterable[sqlite3.Row], form: str, out: TextIO, paint: Paint) -> None:
    """Write rows in a format: table, json or csv."""
    {"table": _table, "json": _json, "csv": _csv}[form](rows, out, paint)


def _json(rows: Iterable[sqlite3.Row], out: TextIO, _: Paint) -> None:
    """Write an array, a row a line; a body is the JSON that it is."""
    separator = "[\n"
    for row in rows:
        out.write(separator + json.dumps(as_json(dict(row))))
        separator = ",\n"
    out.write("[]\n" if separator == "[\n" else "\n]\n")


def _csv(rows: Iterable[sqlite3.Row], out: TextIO, _: Paint) -> None:
    """Write the columns of the database under their names; an empty field is a NULL."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("id", *COLUMNS))
    # the body is the last column
    writer.writerows((*tuple(row)[:-1], as_text(row["body"])) for row in rows)


def _table(rows: Iterable[sqlite3.Row], out: TextIO, paint: Paint) -> None:
    widths: list[int] = []
    remaining = iter(rows)
    first = True
    while (chunk := list(itertools.islice(remaining, _CHUNK))) or first:
        lines, widths = table(_HEAD, [_cells(row) for row in chunk], right=(2, 3), paint=paint, at_least=widths)
        out.writelines(line + "\n" for line in lines[0 if first else 1 :])
        first = False


def _cells(row: sqlite3.Row) -> tuple[str, ...]:
    label, subject, text = describe(row)
    boot, seq = ("" if row[key] is None else str(row[key]) for key in ("boot", "seq"))
    return moment(row["received"]), clean(row["node"]), boot, seq, label, subject, text
