"""The littlefs in a Pico's flash, as MicroPython's rp2 port makes it: 352 blocks of 4 KB, 256 bytes at a time."""

from collections.abc import Mapping

from littlefs import LittleFS, UserContext

BLOCK = 4096
BLOCKS = 352
SIZE = BLOCK * BLOCKS
_PROGRAM = 256
# Of the format: the first one of littlefs 2, which any MicroPython reads, and changes to its own when it writes
_VERSION = 0x00020000


def build(files: Mapping[str, bytes]) -> bytes:
    """Make the image of a file system with these files, by their absolute paths."""
    context = UserContext(buffsize=SIZE)
    lfs = LittleFS(context=context, block_size=BLOCK, block_count=BLOCKS, prog_size=_PROGRAM, disk_version=_VERSION)
    write(lfs, files)
    lfs.unmount()
    return bytes(context.buffer)


def change(image: bytes, files: Mapping[str, bytes]) -> bytes:
    """Return the image with these files written; the others stay."""
    context = UserContext(buffsize=SIZE)
    context.buffer[:] = image
    lfs = _mounted(context)
    write(lfs, files)
    lfs.unmount()
    return bytes(context.buffer)


def read(image: bytes) -> dict[str, bytes]:
    """Return all files of an image, by their absolute paths. Raises LittleFSError where it has no file system."""
    context = UserContext(buffsize=SIZE)
    context.buffer[:] = image
    lfs = _mounted(context)
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


def _mounted(context: UserContext) -> LittleFS:
    lfs = LittleFS(
        context=context,
        block_size=BLOCK,
        block_count=BLOCKS,
        prog_size=_PROGRAM,
        mount=False,
    )
    lfs.mount()
    return lfs
