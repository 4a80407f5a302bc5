"""What the board "RPI_PICO" has: a Raspberry Pi Pico, an RP2040 with 264 KB of RAM and no radio.

The contract of a board.py is in boards/UNIX/README.md. This is the only file of the node that knows the Pico's pins.
Proven in the emulator (rp2040py); on a real board nobody has run it yet.
"""

import machine

from node import chip

name = "RPI_PICO"
runtime = chip.runtime
storage = "state"  # below the root of the flash's littlefs
limits = {}  # the library's defaults: a node of 10 KB, of the 235 KB of heap that are free at boot


def sensors(config):
    """Return the rows of the contract's table. config: not asked for anything."""
    return chip.analog(machine) + chip.sensors()


# --- the actuator ---

led_title = "LED"
_led = machine.Pin(25, machine.Pin.OUT)


def led_get():
    """Return True while the LED is on."""
    return bool(_led.value())


def led_set(on):
    """Switch the LED."""
    _led.value(1 if on else 0)


# --- power, radio, and the wire ---

battery = None
signal = None


def uart(baudrate=115200):
    """Return the serial line: UART 0, out at GP0 (pin 1), in at GP1 (pin 2), with room for a datagram each way."""
    return machine.UART(0, baudrate, tx=machine.Pin(0), rx=machine.Pin(1), txbuf=1280, rxbuf=1280)


def transports(config):
    """Return what the node serves on in place of UDP: CoAP in slipmux frames on uart()."""
    # Imported here: who uses the board for something else needs no CoAP
    from coaplet.serial import Serial

    # 70 bytes above the endpoint's mtu are for what DTLS adds
    return (Serial(uart(), 1222, "serial.dev.alt"),)


# --- time ---

clock = chip.clock
ticks_ms = chip.ticks_ms
ticks_diff = chip.ticks_diff

# --- the board itself ---


async def connect(config):
    """Bring the network up; there is none."""


def reset_cause():
    """Return why the board started, as a word, or None when it cannot tell."""
    return chip.reset_cause(machine)


def reset():
    """Start the board again."""
    chip.reset(machine)
