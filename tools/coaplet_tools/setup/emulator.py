"""The emulated Pico for tests: its image, its launcher, and the emulator compiled for this machine.

rp2040py comes from PyPI as machine code for any Python from 3.11 on (the limited API), in which each instruction of the
board makes objects of Python. Its C sources, made by Cython, come along. Where there are a C compiler and Python's
headers they are compiled for this Python, which takes half a minute once, with short cuts in front of functions that
each instruction calls, and with a fast lane for plain instructions (thumb.c): the same board and the same cycles, five
to eight times as fast for the first, and three to five times as fast again for the other. Elsewhere it stays as it is.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from coaplet_tools.setup.places import BIN, BUILD, ROOT, VENV, Unavailable, digest, replacing, run, say
from coaplet_tools.setup.state import Entry

NAME = "micropython-rp2040"  # the setup's part, and the launcher in build/bin
NATIVE = BUILD / "programs/rp2040py"  # has a copy of the package; put in front of sys.path
_BOARD = "RPI_PICO"
_IMAGE = BUILD / "firmware" / _BOARD / "firmware.uf2"
# What is written at the beginning of functions of the C sources: memory without the detour over Python's memoryviews,
# the chip's divider (RP2040 datasheet 2.3.1.5; MicroPython's hash tables divide) and conditions of branches without
# calls of Python. And no look whether a subclass in Python overrides the function: there is none.
_ADDRESS = "unsigned a = (unsigned)__pyx_v_address, f = a - 0x10000000u, r = a - 0x20000000u;"
_FLASH, _RAM = "__pyx_v_self->_flash.data + f", "__pyx_v_self->_sram.data + r"
_IN_FLASH, _IN_RAM = "if (f < __pyx_v_self->flash_byte_size)", "if (r < __pyx_v_self->ram_byte_size)"


def _read(kind: str) -> str:
    take = "{ memcpy(&v, %s, sizeof v); return v; }"
    divider = _DIVIDER_READ if kind == "uint32_t" else ""
    return f"{_ADDRESS} {kind} v; {_IN_FLASH} {take % _FLASH} {_IN_RAM} {take % _RAM} {divider}"


def _write(kind: str) -> str:
    store = f"{{ {kind} v = ({kind})__pyx_v_value; memcpy({_RAM}, &v, sizeof v); Py_RETURN_NONE; }}"
    divider = _DIVIDER_WRITE if kind == "uint32_t" else ""
    return f"unsigned r = (unsigned)__pyx_v_address - 0x20000000u; {_IN_RAM} {store} {divider}"


_DIVIDER_READ = """
    if (a >= 0xD0000060u && a <= 0xD0000078u) {
        switch (a & 0x1F) {
        case 0: case 8: return divider.dividend;
        case 4: case 12: return divider.divisor;
        case 0x10: divider.dirty = 0; return divider.quotient;
        case 0x14: return divider.remainder;
        case 0x18: return 1 | divider.dirty << 1;
        }
    }
"""
_DIVIDER_WRITE = """
    if (r >= 0xB0000060u && r < 0xB0000078u) {
        uint32_t v = (uint32_t)__pyx_v_value;
        int is_signed = (r & 8) != 0;
        divider.dirty = 1;
        if ((r & 0x1F) == 0x10) { divider.quotient = v; Py_RETURN_NONE; }
        if ((r & 0x1F) == 0x14) { divider.remainder = v; Py_RETURN_NONE; }
        if (r & 4) divider.divisor = v; else divider.dividend = v;
        if (divider.divisor == 0) {
            divider.quotient = is_signed && (int32_t)divider.dividend < 0 ? 1 : 0xFFFFFFFFu;
            divider.remainder = divider.dividend;
        } else if (!is_signed) {
            divider.quotient = divider.dividend / divider.divisor;
            divider.remainder = divider.dividend % divider.divisor;
        } else {
            int64_t n = (int32_t)divider.dividend, d = (int32_t)divider.divisor;
            divider.quotient = (uint32_t)(n / d);
            divider.remainder = (uint32_t)(n % d);
        }
        Py_RETURN_NONE;
    }
"""
_GLOBALS = """
#include <stdint.h>
#include <string.h>
static struct { uint32_t dividend, divisor, quotient, remainder, dirty; } divider;
"""
# The loop looks each instruction whether it was stopped, at an attribute in Python: now each sixteenth, unless it waits
# or thumb.c, which the loop asks first to go on, has executed many
_STOPPED = re.compile(
    r"( +__pyx_t_1 = __Pyx_PyObject_GetAttrStr\(__pyx_v_simulator, \S+__pyx_n_u_stopped\);"
    r".*?__pyx_t_10 = \(!__pyx_t_9\);)",
    re.DOTALL,
)
_CONDITION = """
    const struct __pyx_obj_8rp2040py_6native_15_cortex_m0_core_CortexM0Core *s = __pyx_v_core;
    int t[8] = {s->z, s->c, s->n, s->v, s->c && !s->z, s->n == s->v, s->n == s->v && !s->z, 1};
    int yes = t[__pyx_v_cond >> 1 & 7] != 0;
    return (__pyx_v_cond & 1) && __pyx_v_cond != 15 ? !yes : yes;
"""
_SHORT_CUTS = {
    "_rp2040": {
        **{f"RP2040_read_uint{n}": _read(f"uint{n}_t") for n in (8, 16, 32)},
        **{f"RP2040_write_uint{n}": _write(f"uint{n}_t") for n in (8, 16, 32)},
    },
    "_cortex_m0_core": {"CortexM0Core_execute_instruction": "", "_cortex_m0_core_check_condition": _CONDITION},
    "_simulation_clock": {"SimulationClock_tick": ""},
    "_simulator": {},
}
_LOOK = r"if ((__pyx_v_i & 15) && !thumb_ran && !__pyx_v_core->waiting) __pyx_t_10 = 1; else {\n\1\n}"
_LOOP = re.compile(r"^static PyObject \*__pyx_pf_\w+_execute_batch\([^;\n]*\) {$", re.MULTILINE)
_STEP = "if (__pyx_v_core->waiting) {"
_THUMB = Path(__file__).with_name("thumb.c").read_text()
# Where no PIO block is asked (emulate/chip.py) and each instruction is told to the clock
_RUN = """
    thumb_ran = 0;
    if (__pyx_v_tick_batch == __pyx_mstate_global->__pyx_int_1 && PyObject_Size(__pyx_v_pios) == 0) {
        double cycle_nanos = __pyx_v_8rp2040py_6native_10_simulator_CYCLE_NANOS;
        __pyx_v_i += thumb_run(__pyx_v_core, __pyx_v_rp2040, __pyx_v_clock, cycle_nanos);
    }
    __pyx_v_ticks_since_check += thumb_ran >> 4;
"""
_MODULES = ("_bit", "_cortex_m0_core", "_rp2040", "_simulation_clock", "_simulator")
_LAUNCHER = """\
#!/bin/sh
here=${0%/*}
exec "$here/../../.venv/bin/python" -m coaplet_tools.emulate.launch "$@"
"""
# image.build() knows itself whether there is something to do; without the lock, which the setup holds
_BUILD_IMAGE = f"""
import sys
from coaplet_tools.firmware import image
from coaplet_tools.setup.places import Unavailable
try:
    image.build({_BOARD!r})
except Unavailable as reason:
    sys.exit(str(reason))
"""


def get() -> Entry:
    """Build the image unless it is up to date, and all that runs it; raise Unavailable with the reason."""
    python = VENV / "bin/python"
    if not python.exists():
        raise Unavailable("there is no .venv: run `make setup`")
    done = subprocess.run([python, "-c", _BUILD_IMAGE], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise Unavailable(done.stderr.strip().rpartition("\n")[2] or f"exit {done.returncode}")
    BIN.mkdir(parents=True, exist_ok=True)
    launcher = BIN / NAME
    if not launcher.exists() or launcher.read_text() != _LAUNCHER:
        launcher.write_text(_LAUNCHER)
        launcher.chmod(0o755)
    how = _compile()
    return {"origin": str(_IMAGE.relative_to(ROOT)), "version": f"rp2040py{how}"}


def compile_ahead() -> None:
    """Do the part of get() that needs neither Debian's packages nor the image."""
    _compile()


def _compile() -> str:
    """Compile the emulator, where that can be done; return how it is had."""
    (package,) = VENV.glob("lib/python3*/site-packages/rp2040py")
    stamp = NATIVE / "stamp"
    compiler = shutil.which(os.environ.get("CC", "cc"))
    include = Path(sysconfig.get_path("include"))
    if not compiler or not (include / "Python.h").exists() or not (package / "native/_simulator.c").exists():
        shutil.rmtree(NATIVE, ignore_errors=True)
        return ", as it comes (a C compiler and Python's headers would make it twenty times faster)"
    metadata = [path.name for path in package.parent.glob("rp2040py-*.dist-info")]
    written = (_SHORT_CUTS, _GLOBALS, _STOPPED.pattern, _LOOK, _LOOP.pattern, _THUMB, _RUN)
    asked = digest(metadata, sys.version, compiler, written, str(include))
    if stamp.exists() and stamp.read_text() == asked:
        return ", compiled"
    say("compiling the emulator, once, half a minute")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    try:
        with replacing(NATIVE) as draft:
            shutil.copytree(package, draft / "rp2040py")
            folder = draft / "rp2040py/native"
            shared = ["-dynamiclib", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]

            def compile_one(name: str) -> None:
                source = folder / f"{name}.c"
                source.write_text(_with_short_cuts(source.read_text(), _SHORT_CUTS.get(name, {})))
                words = [compiler, "-O2", "-w", "-fPIC", *shared, f"-I{include}", f"{name}.c", "-o", f"{name}{suffix}"]
                run(words, cwd=folder)

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(compile_one, _MODULES))
            (draft / "stamp").write_text(asked)
    except Unavailable as reason:
        shutil.rmtree(NATIVE, ignore_errors=True)
        return f", as it comes ({reason})"
    return ", compiled"


def _with_short_cuts(text: str, cuts: dict[str, str]) -> str:
    """Write the short cuts into a C source. Raises Unavailable where a function is not found: another version."""
    if sys.byteorder != "little":
        return text
    for name, code in cuts.items():
        pattern = re.compile(rf"^(static [^;\n]*?__pyx_f_\w*{name}\(([^;\n]*)\) {{)$", re.MULTILINE)
        found = pattern.findall(text)
        if len(found) != 1:
            raise Unavailable(f"rp2040py has changed: {name} is not found in its C sources")
        direct = "__pyx_skip_dispatch = 1;" if "__pyx_skip_dispatch" in found[0][1] else ""
        text = pattern.sub(lambda match, code=f"{{ {code} }} {direct}": f"{match[1]} {code}", text)
    if cuts is _SHORT_CUTS["_simulator"]:
        text = _STOPPED.sub(_LOOK, text)
        text = _LOOP.sub(lambda match: f"{_THUMB}\n{match[0]}", text).replace(_STEP, f"{_RUN}\n{_STEP}")
        if not all(code in text for code in (_LOOK[:40], _THUMB, _RUN)):
            raise Unavailable("rp2040py has changed: its loop is not found in its C sources")
    return text.replace('#include "Python.h"', f'#include "Python.h"{_GLOBALS}', 1)
