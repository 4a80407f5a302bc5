"""The devices that may come over coaps: for each identity a pre-shared key, in the collector's own database.

Keys lie there as they are, since DTLS with a pre-shared key needs them so. A database that has ever held one is
therefore readable by its owner alone: `add` sees to that before it writes a key, and schema.open_to_write at each
start. A key that is removed is overwritten with zeros.

`Keyring` is what a running collector asks: a key when a device shows up, and once a second whose key has gone.
"""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from coaplet_tools.collector import artifacts
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.kept import OF_DEVICES
from coaplet_tools.collector.schema import DEVICES, open_to_read, open_to_write, protect

_KEY_BYTES = 16  # what AES-128 can make use of
_LONGEST = 128  # RFC 4279 5.3

# added: ms since 1970
_CREATE = (
    f"CREATE TABLE IF NOT EXISTS {DEVICES} (identity TEXT PRIMARY KEY, key BLOB NOT NULL, added INTEGER NOT NULL)"
    " WITHOUT ROWID"
)


def add(database: Path, identity: str, *, replace: bool = False) -> bytes:
    """Make a random key for a device, store it and return it. replace: in place of one that it has.

    Raises CollectorError: an identity that cannot be one, or that has a key already.
    """
    if not identity.isprintable() or identity.strip() != identity or not 0 < len(identity.encode()) <= _LONGEST:
        raise CollectorError(f"a device's name has 1 to {_LONGEST} bytes of printable characters, no space at its ends")
    key = os.urandom(_KEY_BYTES)
    with closing(open_to_write(database)) as connection:
        protect(database)
        try:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute(_CREATE)
            verb = "REPLACE" if replace else "INSERT"
            row = (identity, key, time.time_ns() // 1_000_000)
            connection.execute(f"{verb} INTO {DEVICES} (identity, key, added) VALUES (?, ?, ?)", row)
            for table in () if replace else OF_DEVICES:  # of one that was removed, and has written for a moment still
                if _has(connection, table):
                    connection.execute(f"DELETE FROM {table} WHERE identity = ?", (identity,))
            _clear_log(connection)
        except sqlite3.IntegrityError as error:
            raise CollectorError(f"{identity}: has a key already; --replace gives it another one") from error
        except sqlite3.Error as error:
            raise CollectorError(f"{database}: cannot be written: {error}") from error
    return key


def remove(database: Path, identity: str) -> None:
    """Take a device's key away, and all that is kept for it but its records.

    Raises CollectorError where it has no key.
    """
    open_to_read(database).close()  # what is not there is not made here
    with closing(open_to_write(database)) as connection:
        try:
            connection.execute("PRAGMA secure_delete = ON")
            found = (
                _has_devices(connection)
                and connection.execute(f"DELETE FROM {DEVICES} WHERE identity = ?", (identity,)).rowcount
            )
            for table in OF_DEVICES:
                if _has(connection, table):
                    connection.execute(f"DELETE FROM {table} WHERE identity = ?", (identity,))
            _clear_log(connection)
        except sqlite3.Error as error:
            raise CollectorError(f"{database}: cannot be written: {error}") from error
    if not found:
        raise CollectorError(f"{identity}: no such device")
    artifacts.prune(database)


def devices(database: Path) -> list[tuple[str, int]]:
    """Return identities, in their order, and when each got its key, ms since 1970. Raises CollectorError."""
    with closing(open_to_read(database)) as connection:
        if not _has_devices(connection):
            return []
        return [
            (row[0], row[1]) for row in connection.execute(f"SELECT identity, added FROM {DEVICES} ORDER BY identity")
        ]


def key_of(database: Path, identity: str) -> bytes | None:
    """Return a device's key, or None. Raises CollectorError."""
    with closing(open_to_read(database)) as connection:
        return _key(connection, identity)


class Keyring:
    """The keys of a database that others may change meanwhile; for one thread. Raises CollectorError."""

    def __init__(self, database: Path) -> None:
        self._connection = open_to_read(database)
        self._version: int | None = None
        self._known: dict[bytes, bytes] = {}
        self.trouble = ""  # why a key could not be looked up, the last time
        self.revoked()

    def close(self) -> None:
        self._connection.close()

    def find(self, identity: bytes) -> bytes | None:
        """Return the key of an identity, as coaplet.Node's psk= has it: None where there is none.

        A database that cannot be read has none: the device will try again.
        """
        try:
            key = _key(self._connection, identity.decode())
        except UnicodeDecodeError:
            return None
        except sqlite3.Error as error:
            self.trouble = str(error)
            return None
        self.trouble = ""
        return key

    def revoked(self) -> set[bytes]:
        """Return the identities that had a key at the last call and have none any more, or another one."""
        try:
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
            if version == self._version:
                return set()
            known: dict[bytes, bytes] = {}
            if _has_devices(self._connection):
                for row in self._connection.execute(f"SELECT identity, key FROM {DEVICES}"):
                    known[row[0].encode()] = row[1]
        except sqlite3.Error:
            return set()  # it is asked again
        gone = {identity for identity, key in self._known.items() if known.get(identity) != key}
        self._version = version
        self._known = known
        return gone

    def __len__(self) -> int:
        return len(self._known)


def _key(connection: sqlite3.Connection, identity: str) -> bytes | None:
    if not _has_devices(connection):
        return None
    row = connection.execute(f"SELECT key FROM {DEVICES} WHERE identity = ?", (identity,)).fetchone()
    return row[0] if row else None


def _has_devices(connection: sqlite3.Connection) -> bool:
    return _has(connection, DEVICES)


def _has(connection: sqlite3.Connection, table: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
    return found.fetchone() is not None


def _clear_log(connection: sqlite3.Connection) -> None:
    """Leave no key in the write-ahead log. While a collector reads, what is left goes with its next checkpoint."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
