"""The littlefs in a board's flash, as MicroPython's rp2 port makes it: blocks of 4 KB, 256 bytes at a time.

A Pico has 320 of them, other boards other numbers (models.py).
"""

from collections.abc import Iterable, Mapping

from littlefs import LittleFS, UserContext

BLOCK = 4096
BLOCKS = 320
SIZE = BLOCK * BLOCKS
_PROGRAM = 256
# Of the format: the first one of littlefs 2, which any MicroPython reads, and changes to its own when it writes
_VERSION = 0x00020000


def build(files: Mapping[str, bytes], size: int = SIZE) -> bytes:
    """Make the image of a file system with these files, by their absolute paths."""
    context = UserContext(buffsize=size)
    count = size // BLOCK
    lfs = LittleFS(context=context, block_size=BLOCK, block_count=count, prog_size=_PROGRAM, disk_version=_VERSION)
    write(lfs, files)
    lfs.unmount()
    return bytes(context.buffer)


def change(image: bytes, files: Mapping[str, bytes], without: Iterable[str] = ()) -> bytes:
    """Return the image with these files written and those without; the others stay."""
    context = UserContext(buffsize=len(image))
    context.buffer[:] = image
    lfs = _mounted(context, len(image))
    for path in without:
        lfs.remove(path)
    write(lfs, files)
    lfs.unmount()
    return bytes(context.buffer)


def read(image: bytes) -> dict[str, bytes]:
    """Return all files of an image, by their absolute paths. Raises LittleFSError where it has no file system."""
    context = UserContext(buffsize=len(image))
    context.buffer[:] = image
    lfs = _mounted(context, len(image))
    found: dict[str, bytes] = {}
    for folder, _, names in lfs.walk("/"):
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            with lfs.open(path, "rb") as file:
                found[path] = file.read()
    lfs.unmount()
    return found


def write(lfs: LittleFS, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        folder = path.rpartition("/")[0]
        if folder:
            lfs.makedirs(folder, exist_ok=True)
        with lfs.open(path, "wb") as file:
            file.write(data)


def _mounted(context: UserContext, size: int) -> LittleFS:
    lfs = LittleFS(
        context=context,
        block_size=BLOCK,
        block_count=size // BLOCK,
        prog_size=_PROGRAM,
        mount=False,
    )
    lfs.mount()
    return lfs
