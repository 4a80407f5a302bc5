"""Artifacts, such as firmware: what each device is to run, and the files, in a folder beside the database.

`collector.db.artifacts` has a copy of each file that a manifest names, by its SHA-256, for its owner alone; a copy
that none names any more is removed with the next change. The whole of one is read once, when it comes.
"""

import hashlib
import os
import secrets
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.etag import Crc64
from coaplet_tools.collector.kept import DESIRED
from coaplet_tools.collector.schema import open_to_read
from coaplet_tools.collector.store import change, notice, select

_LARGEST = 64 * 1024 * 1024
_LONGEST = 64  # characters of a package's name, and of a version; Golioth's SDK takes 16 unless it is told otherwise
_MOST = 16  # packages of a device
_CHUNK = 65_536
_FRESH_S = 60  # a file so new may be named soon, by who takes it in right now
_MCUBOOT = b"\x3d\xb8\xf3\x96"  # how an image for MCUboot begins

_WRITE = (
    f"INSERT OR REPLACE INTO {DESIRED} (identity, package, version, hash, size, type, etag, sequence)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, 0)"
)


class Artifact(NamedTuple):
    """hash: SHA-256 in hex; type: "mcuboot" or "default", as Golioth tells them apart; etag: of all its bytes."""

    package: str
    version: str
    hash: str
    size: int
    type: str
    etag: bytes

    @property
    def name(self) -> str:
        """What its path ends in."""
        return f"{self.package}@{self.version}"


def folder(database: Path) -> Path:
    """Return where artifacts are kept."""
    return Path(f"{database}.artifacts")


def desire(database: Path, identity: str, file: Path, package: str, version: str) -> Artifact:
    """Have a device run an artifact, in place of another one of that package. Raises CollectorError."""
    for what, text in (("a package's name", package), ("a version", version)):
        if not 0 < len(text) <= _LONGEST or not text.isprintable() or set(text) & set("@/ "):
            raise CollectorError(f"{what} has 1 to {_LONGEST} printable characters, without @, / and spaces")
    change(database, identity, _nothing)  # is there such a device?
    artifact = _take_in(database, file, package, version)
    change(database, identity, _desire, artifact)
    prune(database)
    return artifact


def forget(database: Path, identity: str, package: str | None) -> None:
    """Have a device run nothing in particular, of a package or at all. Raises CollectorError."""
    change(database, identity, _forget, package)
    prune(database)


def desired(connection: sqlite3.Connection, identity: str) -> tuple[int, list[Artifact]]:
    """Return a device's sequence number, 0 where it has no manifest, and the artifacts that it is to run."""
    sql = (
        f"SELECT package, version, hash, size, type, etag, sequence FROM {DESIRED} WHERE identity = ? ORDER BY package"
    )
    rows = select(connection, sql, identity)
    return (rows[0]["sequence"] if rows else 0), [Artifact(*tuple(row)[:6]) for row in rows if row["package"]]


def prune(database: Path) -> None:
    """Remove files that no manifest names."""
    if not folder(database).is_dir():
        return
    with closing(open_to_read(database)) as connection:
        named = {row["hash"] for row in select(connection, f"SELECT DISTINCT hash FROM {DESIRED}")}
    old = time.time() - _FRESH_S
    with suppress(OSError):
        for file in folder(database).iterdir():
            if file.name not in named and file.stat().st_mtime < old:
                file.unlink(missing_ok=True)


def _take_in(database: Path, file: Path, package: str, version: str) -> Artifact:
    """Copy a file into the folder, and learn what it is."""
    place = folder(database)
    copy = place / f"{secrets.token_hex(8)}.new"
    sha, crc, size, begins = hashlib.sha256(), Crc64(), 0, b""
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        with (
            file.open("rb") as source,
            os.fdopen(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as f,
        ):
            while chunk := source.read(_CHUNK):
                begins = begins or chunk[:4]
                size += len(chunk)
                if size > _LARGEST:
                    raise CollectorError(f"{file}: an artifact has at most {_LARGEST >> 20} MB")
                sha.update(chunk)
                crc.update(chunk)
                f.write(chunk)
            f.flush()
            os.fsync(f.fileno())
        if not size:
            raise CollectorError(f"{file}: is empty")
        copy.replace(place / sha.hexdigest())
    except OSError as error:
        raise CollectorError(f"{error.filename or file}: {error.strerror}") from error
    finally:
        copy.unlink(missing_ok=True)
    kind = "mcuboot" if begins == _MCUBOOT else "default"
    return Artifact(package, version, sha.hexdigest(), size, kind, crc.digest())


def _desire(connection: sqlite3.Connection, identity: str, artifact: Artifact) -> None:
    others = [other for other in desired(connection, identity)[1] if other.package != artifact.package]
    if len(others) >= _MOST:
        raise CollectorError(f"{identity}: a device has at most {_MOST} packages")
    before = desired(connection, identity)[0]
    connection.execute(_WRITE, (identity, *artifact))
    _number(connection, identity, before)


def _forget(connection: sqlite3.Connection, identity: str, package: str | None) -> None:
    before = desired(connection, identity)[0]
    sql = f"DELETE FROM {DESIRED} WHERE identity = ?1 AND package != '' AND (?2 IS NULL OR package = ?2)"
    if connection.execute(sql, (identity, package)).rowcount:
        connection.execute(_WRITE, (identity, "", "", "", 0, "", b""))  # keeps the number, which never becomes less
        _number(connection, identity, before)


def _number(connection: sqlite3.Connection, identity: str, before: int) -> None:
    # s since 1970: Golioth's SDK has 31 bits for it
    sequence = max(int(time.time()), before + 1)
    connection.execute(f"UPDATE {DESIRED} SET sequence = ? WHERE identity = ?", (sequence, identity))
    notice(connection, DESIRED, identity)


def _nothing(*_: Any) -> None:
    pass
