"""The compilers for Cortex-M and RV32, with cmake and make, out of Debian's packages, whatever the machine's libraries.

Debian's programs are made for Debian's own C library and for /usr. Each is told (by patchelf) to start through the
loader that came along and to find its libraries beside it; the compiler then finds its own parts relative to itself.
What a build for a board does not need is not unpacked: the C libraries of other processors are nine tenths of it all.
"""

import os
import shutil
from pathlib import Path

from coaplet_tools.setup.apt import SUITE, Apt
from coaplet_tools.setup.places import BUILD, VENV, Unavailable, digest, replacing, run, say
from coaplet_tools.setup.programs import LOADERS, NATIVE

FOLDER = BUILD / "firmware/toolchain"
NEWLIB = FOLDER / "usr/include/newlib"  # header files
_STAMP = "stamp"

# patch: for the sources. The two source packages are the Pico's SDK and its USB stack. The compiler for RISC-V comes
# without a C library: the one image for it takes nothing of that but the header files, and those of newlib serve.
_PACKAGES = (
    *("gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "libstdc++-arm-none-eabi-newlib", "gcc-riscv64-unknown-elf"),
    *("cmake", "make", "patch", "pico-sdk-source", "tinyusb-source"),
)

# Kept of the C libraries: thumb/v6-m (RP2040), thumb/v7-m (Cortex-M3), thumb/v8-m.main+fp/softfp (RP2350), and of the
# compiler's own library for RISC-V: rv32imac
_LEFT_OUT = (
    *("*/thumb/nofp", "*/thumb/v7", "*/thumb/v7+*", "*/thumb/v7-[ar]*", "*/thumb/v7e*", "*/thumb/v7v*"),
    *("*/thumb/v8-a*", "*/thumb/v8-m.base", "*/thumb/v8-m.main", "*/thumb/v8-m.main+dp", "*/thumb/v8.1*"),
    *("*/thumb/v8-m.main+fp/hard", "*/newlib/arm", "*/arm-none-eabi/14*/arm", "./usr/lib/arm-none-eabi/newlib/lib*"),
    *(
        "*/riscv64-unknown-elf/14*/rv64*",
        "*/rv32e*",
        "*/rv32i",
        "*/rv32i[af]*",
        "*/rv32im",
        "*/rv32imf*",
        "*/rv32imaf*",
    ),
    *("*/riscv64-unknown-elf/*/cc1plus", "*/riscv64-unknown-elf/*/plugin"),
    *("*/lib*_nano.a", "*/libstdc++exp*", "*/lto1", "*/g++-mapper-server", "*/arm-none-eabi/*/plugin"),
    *("./etc", "./var", "./usr/sbin", "./usr/libexec", "./usr/lib/python3*", "./usr/lib/systemd", "./usr/lib/valgrind"),
    *("*/gconv", "*/perl*", "*/lib-dynload", "./usr/share/cmake-*/Help"),
    *(f"./usr/share/{name}" for name in ("bash-completion", "doc", "gdb", "info", "locale", "man", "perl5", "zsh")),
)
_PROGRAMS = ("arm-none-eabi-", "riscv64-unknown-elf-", "cmake", "make", "patch", "pioasm")
_NOT_NEEDED = "-lto-dump"

WITHOUT_DEBIAN = (
    "to build without Debian's packages, install arm-none-eabi-gcc with newlib, cmake and make (macOS: brew install "
    "--cask gcc-arm-embedded, brew install cmake; Ubuntu: apt install gcc-arm-none-eabi libnewlib-arm-none-eabi "
    "libstdc++-arm-none-eabi-newlib cmake make) and give MICROPYTHON_DIR=<checkout of MicroPython with its submodules>"
)


def is_ready() -> bool:
    return _read(FOLDER / _STAMP) == asked()


def asked() -> str:
    """Name what the toolchain is made from. The folder counts, as it is written into each program."""
    return digest(SUITE, _PACKAGES, _LEFT_OUT, _PROGRAMS, str(FOLDER))


def get() -> Path:
    """Return the folder whose usr/bin has the compiler; unpack it first if need be. Raises Unavailable."""
    if is_ready():
        return FOLDER
    if NATIVE not in LOADERS or not shutil.which("dpkg-deb"):
        raise Unavailable(f"the compiler cannot be had here, where there are no Debian packages; {WITHOUT_DEBIAN}")
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with replacing(FOLDER) as draft:
        try:
            Apt(NATIVE).unpack(_PACKAGES, draft, without=_LEFT_OUT, keep=False)
        except Unavailable as reason:
            raise Unavailable(f"the compiler cannot be had: {reason}; {WITHOUT_DEBIAN}") from reason
        say(f"fitting the compiler to {FOLDER.relative_to(BUILD.parent)}")
        _prune(draft)
        _link(draft)
        _adapt(draft)
        (draft / _STAMP).write_text(asked())
    return FOLDER


def _prune(root: Path) -> None:
    """Leave no program that would stand in the way of the machine's own, which builds call as well."""
    for path in (root / "usr/bin").iterdir():
        if not path.name.startswith(_PROGRAMS) or path.name.endswith(_NOT_NEEDED):
            path.unlink()


def _link(root: Path) -> None:
    """Lead to newlib from where the compiler looks when it is not in /usr."""
    home = root / "usr/lib/arm-none-eabi"
    (home / "lib").symlink_to("newlib")
    (home / "include").symlink_to("../../include/newlib")
    # The port's makefile asks for this file, to see whether a submodule was fetched
    (root / "usr/src/pico-sdk/README.md").touch()


def _adapt(root: Path) -> None:
    """Set each program's loader and library folder to those of this tree, at its final place."""
    loader = FOLDER / LOADERS[NATIVE]
    libraries = root / Path(LOADERS[NATIVE]).parent
    seen: set[int] = set()  # of inodes: some programs have two names
    programs: list[Path] = []
    for folder, _, names in os.walk(root / "usr"):
        if Path(folder).is_relative_to(libraries):
            continue
        for path in (Path(folder) / name for name in names):
            if not path.is_symlink() and path.stat().st_ino not in seen and _is_program(path):
                seen.add(path.stat().st_ino)
                programs.append(path)
    if not programs:
        raise Unavailable("the packages have no programs: Debian has changed them")
    words = ["--set-interpreter", str(loader), "--force-rpath", "--set-rpath", str(loader.parent)]
    run([VENV / "bin/patchelf", *words, *programs])


def _is_program(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(4096)
    return head[:4] == b"\x7fELF" and b"/ld-linux" in head


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
