"""Builds the image of a bare machine, as image.py does that of a board: python -m coaplet_tools.firmware.qemu MACHINE

Exit status: 0 built or already there, 1 it cannot be (a line says why). Holds no lock: the setup does.
"""

import os
import shutil
import sys

from coaplet_tools.firmware import image, source, toolchain
from coaplet_tools.firmware.machines import MACHINES, Machine
from coaplet_tools.setup.places import Unavailable


def build(machine: Machine) -> None:
    """Build the image unless it is there and nothing has changed. Raises Unavailable with one line."""
    stamp = machine.home / "stamp"
    if machine.image.exists() and stamp.exists() and stamp.read_text() == machine.asked():
        return
    tools = toolchain.get()
    micropython = source.get()
    machine.home.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    shutil.rmtree(machine.home / "build", ignore_errors=True)
    environment = image.hermetic(machine.home, tools, micropython) | dict(machine.environment)
    words = [f"BOARD={machine.board}", f"BUILD={machine.home / 'build'}", "FROZEN_MANIFEST=", *machine.words]
    command = ["make", "-C", str(micropython / "ports/qemu"), f"-j{os.cpu_count() or 1}", *words]
    image.run_logged([*command, f"PYTHON={sys.executable}"], environment, machine.home / "make.log")
    (machine.home / "build/firmware.elf").replace(machine.image)
    shutil.rmtree(machine.home / "build")  # when it is built anew, all of it is
    stamp.write_text(machine.asked())


if __name__ == "__main__":
    try:
        build(MACHINES[sys.argv[1]])
    except Unavailable as reason:
        sys.exit(str(reason))
