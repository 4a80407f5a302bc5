"""MicroPython's source as Debian has it, made whole with what Debian keeps in packages of its own.

Debian's source package lacks the third parties' code. mbedtls comes from its source package, the Pico's SDK and the
USB stack from the packages of the toolchain. Nothing has micropython-lib's packages for sensors (onewire, ds18x20,
dht, neopixel), which the rp2 port's manifest requires: they are stood in for by empty ones, so that one manifest.py
of a board serves here and in an upstream checkout.
"""

import shutil
import tarfile
from pathlib import Path

from coaplet_tools.firmware import toolchain
from coaplet_tools.setup.apt import SUITE, Apt
from coaplet_tools.setup.places import BUILD, Unavailable, digest, replacing, run
from coaplet_tools.setup.programs import NATIVE

FOLDER = BUILD / "firmware/source"
LIB = FOLDER / "lib/none"  # the stand-in for micropython-lib
_STAMP = "stamp"
_STAND_INS = ("onewire", "ds18x20", "dht", "neopixel")
_FROM_TOOLCHAIN = ("pico-sdk", "tinyusb")
_NOT_NEEDED = (
    "docs",
    "tests",
    "lib/mbedtls/docs",
    "lib/mbedtls/framework",
    "lib/mbedtls/programs",
    "lib/mbedtls/tests",
)


def is_ready() -> bool:
    try:
        return (FOLDER / _STAMP).read_text() == asked()
    except OSError:
        return False


def asked() -> str:
    return digest(SUITE, _STAND_INS, _FROM_TOOLCHAIN, _NOT_NEEDED, toolchain.asked())


def get() -> Path:
    """Return the folder of MicroPython's source; unpack it first if need be. Raises Unavailable."""
    if is_ready():
        return FOLDER
    patch = toolchain.get() / "usr/bin/patch"
    with replacing(FOLDER) as draft:
        archives = draft / "archives"
        archives.mkdir()
        Apt(NATIVE, sources=True).download_sources(("micropython", "mbedtls"), archives)
        _unpack(archives, "micropython", draft, patch)
        _unpack(archives, "mbedtls", draft / "lib/mbedtls", patch)
        shutil.rmtree(archives)
        for name in _NOT_NEEDED:  # all of it is unpacked first, as the patches are for all of it
            shutil.rmtree(draft / name)
        for name in _FROM_TOOLCHAIN:
            if (draft / "lib" / name).exists():
                (draft / "lib" / name).rmdir()  # empty, as the submodule that it is upstream
            (draft / "lib" / name).symlink_to(f"../../toolchain/usr/src/{name}")
        _stand_in(draft / LIB.relative_to(FOLDER))
        (draft / _STAMP).write_text(asked())
    return FOLDER


def _unpack(archives: Path, package: str, folder: Path, patch: Path) -> None:
    """Unpack a source package as dpkg-source would: the original, then Debian's changes in their order."""
    folder.mkdir(exist_ok=True)
    (original,) = archives.glob(f"{package}_*.orig.tar.*")
    (changes,) = archives.glob(f"{package}_*.debian.tar.*")
    with tarfile.open(original) as tar:
        _extract(tar, folder, strip=True)
    with tarfile.open(changes) as tar:
        _extract(tar, folder, strip=False)
    series = folder / "debian/patches/series"
    for line in series.read_text().splitlines() if series.exists() else ():
        name = line.partition("#")[0].strip()
        if name:
            run([patch, "--strip=1", "--batch", "--silent", "--input", series.parent / name], cwd=folder)


def _extract(tar: tarfile.TarFile, folder: Path, *, strip: bool) -> None:
    """Extract all of an archive; with strip, without the one folder that it is in."""
    if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and newer
        tar.extraction_filter = tarfile.data_filter
    for member in tar:
        if strip:
            _, _, member.name = member.name.partition("/")
            if member.islnk():
                _, _, member.linkname = member.linkname.partition("/")
        if member.name:
            try:
                tar.extract(member, folder)
            except (OSError, tarfile.TarError) as error:
                raise Unavailable(f"{tar.name}: {error}") from error


def _stand_in(folder: Path) -> None:
    folder.mkdir()
    (folder / "README.md").write_text("Stands in for micropython-lib: its packages, empty.\n")
    for name in _STAND_INS:
        (folder / "micropython" / name).mkdir(parents=True)
        (folder / "micropython" / name / "manifest.py").touch()
