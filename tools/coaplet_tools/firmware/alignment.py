"""Machine code that is frozen must lie at a multiple of 4: checked in each image that is built.

MicroPython's emitter for ARMv6-M (the RP2040) writes constants above 255 as literals beside the code, loaded relative
to the program counter rounded down to 4: right only where the function begins at a multiple of 4. mpy-tool.py asks the
linker for 2 (MicroPython 1.25). What lands on an odd multiple of 2 then computes with half of one literal and half of
the next, or writes to an address made of them; which function that is changes with every build.
"""

import re
import struct
from pathlib import Path

from coaplet_tools.setup.places import Unavailable

# As mpy-tool.py writes it: bytecode has no section of its own, and may lie anywhere
_NATIVE = re.compile(r"^static const byte (fun_data_\w+)\[\d+\] __attribute__\(\(section\(", re.MULTILINE)
_RISCV = 243  # e_machine; it has no such literals
_SYMTAB = 2


def check(elf: Path, frozen: Path) -> int:
    """Check the frozen functions of an image; return how many are machine code.

    frozen: the frozen_content.c that it was linked from. Raises Unavailable where one is misplaced or not found.
    """
    native = set(_NATIVE.findall(frozen.read_text()))
    machine, symbols = read_symbols(elf)
    found = {name: address for name, address in symbols.items() if name in native}
    # A function that nothing refers to is not linked, but of none something was: then the names have changed
    if native and not found:
        raise Unavailable(f"{elf.name} has none of the functions of {frozen.name}: their alignment cannot be checked")
    wrong = sorted(name for name, address in found.items() if address % 4 and machine != _RISCV)
    if wrong:
        name = wrong[0].removeprefix("fun_data_")
        others = f", and {len(wrong) - 1} others," if wrong[1:] else ""
        raise Unavailable(f"{name}{others} lies at an address that is no multiple of 4, and would compute nonsense")
    return len(found)


def read_symbols(elf: Path) -> tuple[int, dict[str, int]]:
    """Read the machine and the symbols (name: address) of a 32-bit little-endian ELF file."""
    data = elf.read_bytes()
    if data[:6] != b"\x7fELF\x01\x01":
        raise Unavailable(f"{elf.name} is no ELF file of a 32-bit board")
    (machine,) = struct.unpack_from("<H", data, 18)
    (sections_at,) = struct.unpack_from("<I", data, 32)
    size, count = struct.unpack_from("<HH", data, 46)
    # name, type, flags, address, offset, size, link, info, align, entry size
    sections = [struct.unpack_from("<10I", data, sections_at + i * size) for i in range(count)]
    symbols: dict[str, int] = {}
    for section in sections:
        if section[1] != _SYMTAB:
            continue
        names = sections[section[6]][4]
        for name, address, _, _, _, _ in struct.iter_unpack("<IIIBBH", data[section[4] : section[4] + section[5]]):
            start = names + name
            symbols[data[start : data.index(0, start)].decode("ascii", "replace")] = address
    return machine, symbols
