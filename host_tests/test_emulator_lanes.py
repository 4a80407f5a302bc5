"""The emulated Pico's fast lane, setup/thumb.c, beside rp2040py's own: the same registers, flags, cycles and memory.

An instruction runs once in each lane from the same random state. What it may come to is WFI, at which the chip waits
for an alarm that ends the run. Opcodes that thumb.c leaves to rp2040py for what they do besides are not tried: SVC,
breakpoints, hints, CPS, and all of 32 bits but BL.
"""

import random
from array import array
from collections.abc import Callable
from typing import Any

import pytest

from coaplet_tools.emulate.chip import Chip
from coaplet_tools.setup.places import BUILD
from coaplet_tools.setup.state import load

IMAGE = BUILD / "firmware/RPI_PICO/firmware.uf2"
FLASH, RAM, CPUID = 0x10000000, 0x20000000, 0xD0000000
SIZE = 264 * 1024
DATA, CODE, STACK = 0x10000, 0x8000, 0x20000  # in RAM
WFI = b"\x30\xbf"
AN_ALARM = 8000.0  # nanoseconds: a thousand cycles
FLAGS = ("n", "z", "c", "v")
EDGES = (0, 1, 31, 32, 33, 255, 256, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
NOT_TRIED = {0xB6, 0xBE, 0xBF, 0xDE, 0xDF}  # the upper bytes of opcodes

State = tuple["array[int]", list[bool], int]  # registers, flags, whether a handler runs


class Lanes:
    """A chip that never boots, and one instruction of it at a time."""

    def __init__(self) -> None:
        self.chip = Chip(IMAGE, seed=1)
        self.mcu: Any = self.chip.mcu
        self.mcu.logger = _Silence()
        self.mcu.flash[:0x10000] = WFI * 0x8000
        data = random.Random(2).randbytes(0x10000)
        words = b"".join(WFI + data[i : i + 2] for i in range(0, len(data), 4))
        self.ram = bytearray(WFI * (SIZE // 2))
        self.ram[DATA : DATA + len(words)] = words
        # Where a POP goes to: on, or out of an exception
        targets = [0xFFFFFFF9 if i % 5 == 4 else RAM + 0x9001 + 8 * i for i in range(32)]
        self.ram[STACK : STACK + 128] = b"".join(target.to_bytes(4, "little") for target in targets)

    def run(self, fast: bool, code: bytes, state: State) -> tuple[object, ...] | None:
        """Return all that the instruction may have changed; None where it led to where no WFI is."""
        core = self.mcu.core
        self.ram[CODE : CODE + 4] = (code + WFI)[:4]
        self.mcu.sram[:] = self.ram
        registers, flags, core.current_mode = state
        core.registers[:] = memoryview(registers)
        for name, value in zip(FLAGS, flags, strict=True):
            setattr(core, name, value)
        core.cycles, core.ipsr, core.waiting, core.interrupts_updated = 0, 0, False, False
        core.sp_sel, core.banked_sp = 0, RAM + STACK + 0x1000
        started = self.chip.nanos
        # With something in the list the loop leaves all to rp2040py
        self.mcu.pio = () if fast else (_Stopped(),)
        self.chip.run_for(AN_ALARM)
        if not core.waiting:
            return None
        after = [getattr(core, name) for name in (*FLAGS, "cycles", "current_mode")]
        return list(core.registers), after, self.chip.nanos - started, bytes(self.mcu.sram)


class _Silence:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class _Stopped:
    stopped = True


@pytest.fixture(scope="module")
def lanes() -> Lanes:
    entry = load().get("micropython-rp2040", {})
    if not entry.get("version", "").endswith("compiled"):
        pytest.skip(entry.get("missing", "the emulator is as it comes, without a fast lane: no C compiler"))
    return Lanes()


def a_state(rng: random.Random) -> State:
    def value() -> int:
        kind = rng.randrange(8)
        if kind < 4:
            return RAM + DATA + 4 * rng.randrange(0x2000, 0x3000)
        return (
            FLASH + 4 * rng.randrange(0x1000),
            rng.choice(EDGES),
            rng.randrange(64),
            rng.choice((CPUID, rng.getrandbits(32) | 0x60000000)),
        )[kind - 4]

    registers = array("I", [*(value() for _ in range(13)), RAM + STACK, RAM + 0x9001, RAM + CODE + rng.randrange(2)])
    return registers, [rng.random() < 0.5 for _ in FLAGS], rng.randrange(2)


@pytest.mark.parametrize("upper", [upper for upper in range(0xE8) if upper not in NOT_TRIED])
def test_each_opcode_does_in_the_fast_lane_what_it_does_in_the_other(lanes: Lanes, upper: int):
    rng = random.Random(upper)
    went_well = 0
    for lower in range(256):
        code, state = bytes((lower, upper)), a_state(rng)
        after = lanes.run(True, code, state)
        assert after == lanes.run(False, code, state), (code.hex(), state)
        went_well += after is not None
    assert went_well > 80


def test_calls_near_and_far_do_in_the_fast_lane_what_they_do_in_the_other(lanes: Lanes):
    rng = random.Random(3)
    for _ in range(200):
        offset = rng.choice((rng.randrange(-CODE, CODE), rng.randrange(-(2**24), 2**24))) & ~1
        s, high, low = offset >> 24 & 1, offset >> 12 & 0x3FF, offset >> 1 & 0x7FF
        j1, j2 = 1 ^ s ^ offset >> 23 & 1, 1 ^ s ^ offset >> 22 & 1
        words = (0xF000 | s << 10 | high, 0xD000 | j1 << 13 | j2 << 11 | low)
        code, state = b"".join(word.to_bytes(2, "little") for word in words), a_state(rng)
        assert lanes.run(True, code, state) == lanes.run(False, code, state), (code.hex(), state)


def test_there_are_two_lanes(lanes: Lanes):
    """rp2040py tells bl_taken of each call, the fast lane nobody."""
    called: list[bool] = []
    lanes.mcu.core.bl_taken = lambda core, blx: called.append(blx)
    call = bytes.fromhex("00f000f8")
    state = a_state(random.Random(4))
    assert lanes.run(True, call, state) == lanes.run(False, call, state)
    assert called == [False]  # BL, not BLX
