"""The drive as which the boot ROM of an RP2 chip shows itself, and the copy of an image onto it.

A board is known by INFO_UF2.TXT. It restarts by itself when it has the last block, and the drive is gone, most often
while the copy is being finished. So the copy counts as taken when the drive has gone, and not before.
"""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from coaplet_tools.deploy.boards import Refused

INFO = "INFO_UF2.TXT"
_BOARD_IDS = {"rp2040": "RPI-RP2", "rp2350": "RP2350"}
_MOUNTS = Path("/proc/mounts")
_VOLUMES = Path("/Volumes")  # macOS
_CHUNK = 65536
TAKEN_S = 20.0
_LOOK_S = 0.1


def board_id(folder: Path) -> str | None:
    """Return what INFO_UF2.TXT says the board is, or None where there is none."""
    try:
        lines = (folder / INFO).read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Board-ID:")), "")


def check(folder: Path, mcu: str) -> None:
    """Raise Refused if the folder is not the drive of such a chip."""
    found = board_id(folder)
    if found is None:
        raise Refused(f"{folder} has no {INFO}: it is not the drive of a board in its boot ROM")
    if found != _BOARD_IDS[mcu]:
        raise Refused(
            f"{folder} is the drive of another chip: {found or 'it does not say which'}, not {_BOARD_IDS[mcu]}"
        )


def find(mcu: str, wait_s: float = 0) -> Path:
    """Find the one mounted drive of such a chip; wait for it that long. Raises Refused."""
    end = time.monotonic() + wait_s
    while True:
        found = [folder for folder in _mounted() if board_id(folder) == _BOARD_IDS[mcu]]
        if len(found) == 1:
            return found[0]
        if found:
            raise Refused(f"several boards are in their boot ROM: PORT=<one of {', '.join(map(str, found))}>")
        if time.monotonic() >= end:
            raise Refused(
                f"no drive {_BOARD_IDS[mcu]} is mounted: hold BOOTSEL while you plug the board in, mount the drive if "
                "the system does not, or give its folder: PORT=<folder>"
            )
        time.sleep(_LOOK_S)


def _mounted() -> Iterator[Path]:
    if _MOUNTS.exists():
        for line in _MOUNTS.read_text().splitlines():
            folder, kind = line.split()[1:3]
            if kind in ("vfat", "msdos", "fuseblk"):
                yield Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), folder))
    if _VOLUMES.is_dir():
        yield from _VOLUMES.iterdir()


def copy(image: Path, folder: Path, taken_s: float = TAKEN_S) -> None:
    """Copy an image onto the drive and wait until the board has taken it. Raises Refused."""
    data = image.read_bytes()
    failure: OSError | None = None
    try:
        with (folder / image.name).open("wb", buffering=0) as file:
            for at in range(0, len(data), _CHUNK):
                file.write(data[at : at + _CHUNK])
            os.fsync(file.fileno())
    except OSError as error:  # the board may have gone with the last block
        failure = error
    end = time.monotonic() + (taken_s if failure is None else min(taken_s, 2))
    while (folder / INFO).exists():
        if time.monotonic() >= end:
            if failure is not None:
                raise Refused(f"{folder}: {failure.strerror}") from failure
            raise Refused(f"the board has not taken the image: its drive is still there, {folder}")
        time.sleep(_LOOK_S)
