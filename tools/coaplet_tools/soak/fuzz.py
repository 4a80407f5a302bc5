"""The fuzz of host_tests/device at length, on CPython: processes of 100,000 datagrams, each with its seed.

As many go to the endpoint (test_fuzz.py) as to DTLS (test_dtls_hostile.py).

The seeds count up from the first one, so a run is repeated by its command, and a failure by the line that it prints.
"""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from coaplet_tools.soak.trial import DEVICE, PATHS

DATAGRAMS = 10_000_000

MODULES = ("test_fuzz", "test_dtls_hostile")

_A_PROCESS = 100_000
_LIMIT_S = 3600
_PROGRESS_S = 5


def _tests(module: str) -> list[str]:
    return re.findall(r"^def (test_\w+)", (DEVICE / f"{module}.py").read_text(), re.MULTILINE)


def _counts() -> bool:
    """Tell whether the tests read the number they are given, so that no run claims more than it did."""
    return any("FUZZ_DATAGRAMS" in path.read_text() for path in DEVICE.glob("*.py"))


def run(seed: int, datagrams: int) -> str:
    """Run all tests of each module once, with so many datagrams each. Returns what it printed where one failed."""
    output = ""
    for module in MODULES:
        tests = _tests(module)
        done = subprocess.run(
            [sys.executable, DEVICE / "run.py", ":".join(map(str, PATHS)), module, *tests],
            env={**os.environ, "FUZZ_SEED": str(seed), "FUZZ_DATAGRAMS": str(datagrams)},
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
        )
        if len(re.findall(r"^PASS ", done.stdout, re.MULTILINE)) != len(tests) or done.returncode:
            output += done.stdout + done.stderr
    return output


def main(datagrams: int, first_seed: int, jobs: int) -> int:
    if not _counts():
        print("soak: fuzz FAILED: no device test reads FUZZ_DATAGRAMS")
        return 1
    counts = [min(_A_PROCESS, datagrams - done) for done in range(0, datagrams, _A_PROCESS)]
    began = said = time.monotonic()
    sent = failed = 0
    with ThreadPoolExecutor(jobs) as pool:
        for i, output in enumerate(pool.map(run, range(first_seed, first_seed + len(counts)), counts)):
            sent += counts[i]
            if output:
                failed += 1
                print(f"{output}\nfuzz: again with: FUZZ_SEED={first_seed + i} FUZZ_DATAGRAMS={counts[i]}", flush=True)
            if time.monotonic() - said > _PROGRESS_S:
                said = time.monotonic()
                print(f"fuzz: {sent:,} of {datagrams:,} datagrams, {failed} failures", flush=True)
    verdict = f"FAILED: {failed} of {len(counts)} processes" if failed else "passed"
    print(f"soak: fuzz {verdict}: {sent:,} datagrams in {time.monotonic() - began:,.0f} s")
    return bool(failed)
