"""The programs that tests run against: MicroPython's unix ports and peers that nobody here wrote.

Each is taken from PATH where it is new enough, else unpacked from Debian packages into build/programs, and gets a
launcher in build/bin. A launcher starts the program through the C library's loader that came along with it, so the
machine's own libraries do not matter. A program counts as had when it has been started and named its version.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from coaplet_tools.setup.apt import SUITE, Apt, debian_architecture
from coaplet_tools.setup.places import BIN, BUILD, VENV, Unavailable, digest, replacing, run, say
from coaplet_tools.setup.state import Entry

NATIVE = debian_architecture()
LOADERS = {
    "amd64": "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "arm64": "usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1",
    "i386": "usr/lib/i386-linux-gnu/ld-linux.so.2",
}


@dataclass(frozen=True)
class Part:
    """Programs that come together. The first one is started with `probe`, and `version` must match what it says."""

    name: str
    programs: dict[str, str]  # launcher in build/bin: file in the packages
    packages: tuple[str, ...]
    probe: tuple[str, ...]
    version: str  # a regular expression with the version as its group
    at_least: tuple[int, ...] = ()
    arch: str = NATIVE
    on_path: tuple[str, ...] = ()  # the names of `programs` on PATH, in their order; none: PATH is not asked
    only: str = ""  # the one file that is wanted of large packages
    without: tuple[str, ...] = ()  # tar's patterns of what is left out of the packages
    machine: str = ""  # of firmware/machines.py, whose image is built; there are no packages then
    needs: str = ""  # the part that has to be there first
    hint: str = ""  # how to get it where there are no Debian packages


def _micropython(arch: str, **extra: str | tuple[str, ...]) -> Part:
    return Part(
        name=f"micropython-{arch}",
        programs={f"micropython-{arch}": "usr/bin/micropython"},
        packages=("micropython",),
        probe=("-c", "import sys; print(sys.version)"),
        version=r"MicroPython v([\d.]+)",
        at_least=(1, 25),
        arch=arch,
        **extra,  # pyright: ignore[reportArgumentType]
    )


def _libcoap(flavour: str, suffix: str) -> Part:
    names = ("coap-client", "coap-server", "coap-rd")
    return Part(
        name=f"libcoap-{flavour}",
        programs={name + suffix: f"usr/bin/{name}-{flavour}" for name in names},
        packages=("libcoap3-bin",),
        probe=(),
        version=r"coap-client\S* v([\d.]+)",
        at_least=(4, 3, 4),
        on_path=tuple(name + suffix for name in names),
        hint="on macOS: brew install libcoap",
    )


def _machine(name: str) -> Part:
    return Part(
        name=f"machine-{name}",
        programs={f"micropython-{name}": ""},
        packages=(),
        probe=("--version",),
        version=r"MicroPython v([\d.]+)",
        at_least=(1, 25),
        machine=name,
        needs="qemu-system",
    )


PARTS = (
    _micropython(
        NATIVE,
        on_path=("micropython",),
        hint="on macOS: brew install micropython; on Ubuntu: build ports/unix of MicroPython 1.25 or newer"
        " and put `micropython` on PATH",
    ),
    _micropython("i386"),
    Part(
        name="qemu-arm",
        programs={"qemu-arm-static": "usr/bin/qemu-arm"},
        packages=("qemu-user",),
        probe=("--version",),
        version=r"qemu-arm\S* version ([\d.]+)",
        on_path=("qemu-arm-static",),
        only="usr/bin/qemu-arm",
        hint="on Ubuntu: apt install qemu-user-static",
    ),
    _micropython("armhf", needs="qemu-arm"),
    _libcoap("openssl", ""),
    _libcoap("gnutls", "-gnutls"),
    Part(
        name="tshark",
        programs={"tshark": "usr/bin/tshark"},
        packages=("tshark",),
        probe=("--version",),
        version=r"TShark \(Wireshark\) ([\d.]+)",
        at_least=(4, 0),
        on_path=("tshark",),
        hint="on Ubuntu: apt install tshark; on macOS: brew install wireshark",
    ),
    Part(
        name="openssl",
        programs={"openssl": "usr/bin/openssl"},
        packages=("openssl",),
        probe=("version",),
        version=r"OpenSSL ([\d.]+)",
        at_least=(3, 0),
        on_path=("openssl",),
        hint="on macOS: brew install openssl",
    ),
    Part(
        name="qemu-system",
        programs={name: f"usr/bin/{name}" for name in ("qemu-system-arm", "qemu-system-riscv32")},
        packages=("qemu-system-arm", "qemu-system-riscv"),
        probe=("--version",),
        version=r"QEMU emulator version ([\d.]+)",
        on_path=("qemu-system-arm", "qemu-system-riscv32"),
        without=("./etc", "./usr/share", "./usr/sbin", "./usr/libexec", "*/gconv", "*/qemu-system-aarch64", "*64be*"),
        hint="on Ubuntu: apt install qemu-system-arm qemu-system-misc; on macOS: brew install qemu",
    ),
    _machine("cortex-m3"),
    _machine("rv32"),
)

_apts: dict[str, Apt] = {}


def get(part: Part) -> Entry:
    """Get one part; raise Unavailable with the reason if that cannot be done."""
    BIN.mkdir(parents=True, exist_ok=True)
    found = _on_path(part)
    if found:
        try:
            for launcher, path in zip(part.programs, found, strict=True):
                _write(BIN / launcher, f'#!/bin/sh\nexec "{path}" "$@"\n')
            return {"origin": found[0], "version": _probe(part)}
        except Unavailable as reason:
            say(f"{part.name}: {found[0]} is not used: {reason}")
    if part.machine:
        return _build(part)
    if not shutil.which("dpkg-deb"):
        raise Unavailable(f"not on PATH, or too old; {part.hint}" if part.on_path else "there is only a Debian package")
    _unpack(part)
    return {"origin": f"Debian {SUITE}", "version": _probe(part)}


def asked(part: Part) -> str:
    """Name what decides how the part is got: its description, what PATH has, and the launchers."""
    files = [(path, os.stat(path).st_mtime) for path in _on_path(part)]
    return digest(part, files, *(_launcher(part, file) for file in part.programs.values()), _image(part))


def _on_path(part: Part) -> list[str]:
    found = [path for name in part.on_path if (path := shutil.which(name))]
    return found if len(found) == len(part.on_path) else []


def _image(part: Part) -> str:
    """Name what a machine's image is made from."""
    if not part.machine:
        return ""
    from coaplet_tools.firmware.machines import MACHINES  # which imports this module

    return MACHINES[part.machine].asked()


def _build(part: Part) -> Entry:
    say(f"{part.name}: MicroPython's image, the first time for a minute")
    try:
        run([VENV / "bin/python", "-m", "coaplet_tools.firmware.qemu", part.machine])
    except Unavailable as reason:
        raise Unavailable(str(reason).partition(" failed: ")[2] or str(reason)) from reason
    for launcher, file in part.programs.items():
        _write(BIN / launcher, _launcher(part, file))
    return {"origin": f"built from Debian {SUITE}", "version": _probe(part)}


def _unpack(part: Part) -> None:
    root = BUILD / "programs" / part.name
    apt = _apts.setdefault(part.arch, Apt(part.arch))
    with replacing(root) as draft:
        try:
            apt.unpack(part.packages, draft, part.only, without=part.without)
        except Unavailable as reason:
            raise Unavailable(f"{reason}; {part.hint}" if part.hint else str(reason)) from reason
        if not (draft / "lib").exists():
            (draft / "lib").symlink_to("usr/lib")  # where an emulated program looks for its loader
    for launcher, file in part.programs.items():
        _write(BIN / launcher, _launcher(part, file))


def _launcher(part: Part, file: str) -> str:
    if part.machine:
        python = '"${0%/*}/../../.venv/bin/python"'
        return f'#!/bin/sh\nexec {python} -m coaplet_tools.firmware.bare {part.machine} "$@"\n'
    loader = LOADERS.get(part.arch)
    if part.needs == "qemu-arm":
        start = '"$here/qemu-arm-static" -L "$root" '
    elif part.only or not loader:
        start = ""
    else:
        start = f'"$root/{loader}" --library-path "$root/{Path(loader).parent}" '
    return f'#!/bin/sh\nhere=${{0%/*}}\nroot="$here/../programs/{part.name}"\nexec {start}"$root/{file}" "$@"\n'


def _write(path: Path, script: str) -> None:
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(script)
    draft.chmod(0o755)
    draft.replace(path)


def _probe(part: Part) -> str:
    launcher = BIN / next(iter(part.programs))
    try:
        done = subprocess.run(
            [launcher, *part.probe], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{launcher.name} does not start: {error}") from error
    output = done.stdout + done.stderr
    match = re.search(part.version, output)
    if not match:
        said = " ".join(output.split())[-200:] or f"exit {done.returncode}"
        raise Unavailable(f"{launcher.name} does not run here: {said}")
    version = match[1].strip(".")
    if tuple(map(int, version.split("."))) < part.at_least:
        raise Unavailable(f"version {version} is older than {'.'.join(map(str, part.at_least))}")
    return version


if sys.platform not in ("linux", "darwin"):
    raise Unavailable(f"coaplet's tests need Linux or macOS, this is {sys.platform}")
