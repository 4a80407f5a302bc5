"""How records lie in SQLite, and how a database is opened, for writing or for reading.

One table that people can read with sqlite3; its version is PRAGMA user_version. A database of a newer version is
refused rather than guessed at. tools/README.md explains the columns to users.

A new database is its owner's alone; one with keys (devices.py, which makes that table where it is needed) is made so.
"""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from coaplet_tools.collector.errors import CollectorError

VERSION = 1
COLUMNS = ("received", "node", "boot", "seq", "kind", "path", "level", "module", "msg", "value", "unit", "ts", "body")

DEVICES = "devices"
SETTINGS = "settings"
SESSIONS = "sessions"

_BUSY_S = 2.0  # how long to wait for somebody else's lock

# NUMERIC keeps 5 an integer and 21.5 a float. In a UNIQUE constraint of SQLite no NULL equals another.
_CREATE = """
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    received INTEGER NOT NULL,
    node TEXT NOT NULL,
    boot INTEGER,
    seq INTEGER,
    kind TEXT NOT NULL CHECK (kind IN ('log', 'reading')),
    path TEXT,
    level TEXT,
    module TEXT,
    msg TEXT,
    value NUMERIC,
    unit TEXT,
    ts INTEGER,
    body TEXT NOT NULL,
    UNIQUE (node, boot, seq)
);
CREATE INDEX records_received ON records (received);
CREATE INDEX records_path ON records (node, kind, path);
"""


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open a database, made if there is none. The connection belongs to the thread that calls.

    WAL: others read while it is written. synchronous=FULL: a commit is on the disk when it returns.
    Raises CollectorError.
    """
    # Never the file of a database that this process has open: to close it gives up SQLite's locks on it (POSIX), and
    # whoever opens it then takes the log for abandoned, and removes it with all that comes to it afterwards.
    with suppress(OSError):  # SQLite says better what is wrong
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    except sqlite3.Error as error:
        raise CollectorError(
            f"{path}: cannot be opened: {error}: is the folder there, and may it be written?"
        ) from error
    try:
        _check(connection, path, create=True)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise CollectorError(f"{path}: SQLite's WAL does not work there (a network drive?): use a local disk")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        connection.close()
        raise CollectorError(f"{path}: cannot be used: {error}") from error
    except CollectorError:
        connection.close()
        raise
    return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a database that exists, for reading only; a collector may be writing it. Raises CollectorError."""
    if not path.is_file():
        raise CollectorError(f"{path}: no such database: start `coaplet-collector serve` first, or name one with --db")
    connection = None
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", timeout=_BUSY_S, uri=True)
        _check(connection, path, create=False)
    except sqlite3.Error as error:
        if connection:
            connection.close()
        raise CollectorError(f"{path}: cannot be read: {error}") from error
    except CollectorError:
        connection.close()  # pyright: ignore[reportOptionalMemberAccess]
        raise
    connection.row_factory = sqlite3.Row
    return connection


def protect(path: Path) -> None:
    """Take a database, and what SQLite keeps beside it, from all but its owner. Raises CollectorError."""
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        try:
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CollectorError(
                f"{file}: holds keys that others can read, and cannot be made its owner's alone: {error.strerror}"
            ) from error


def _check(connection: sqlite3.Connection, path: Path, *, create: bool) -> None:
    if create:
        connection.execute("BEGIN IMMEDIATE")  # two collectors that start at once must not both create it
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if create and version == 0 and not tables:
        for statement in _CREATE.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    elif version > VERSION:
        raise CollectorError(
            f"{path}: a newer coaplet wrote it (schema {version}, this one knows {VERSION}):"
            " update coaplet, or use another --db"
        )
    elif version != VERSION or "records" not in tables:
        raise CollectorError(f"{path}: is not a collector's database: use another --db")
    if create:
        connection.execute("COMMIT")
        if DEVICES in tables:
            protect(path)
