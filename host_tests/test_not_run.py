"""What not_run.py says of each module is so: nothing is left out for a reason that is no more."""

import re
from pathlib import Path

import pytest

from not_run import ASYNCIO, BYTECODE, LONG, NOT_RUN, SOCKETS
from runtimes import MACHINES

ROOT = Path(__file__).parent.parent
SAID_BY = {
    ASYNCIO: r"\bimport asyncio\b|^async def test_",
    SOCKETS: r"\b(?:RawPeer|free_uri|coaplet\.udp|test_uri)\b",
    LONG: r"\b70000\b",
}
ENTRIES = [(runtime, module) for runtime, modules in NOT_RUN.items() for module in modules]


@pytest.mark.parametrize(("runtime", "module"), ENTRIES)
def test_a_module_is_left_out_for_a_true_reason(runtime: str, module: str):
    assert runtime in [machine.name for machine in MACHINES]
    reason = NOT_RUN[runtime][module]
    text = (ROOT / f"host_tests/device/{module}.py").read_text()
    if reason in SAID_BY:
        assert re.search(SAID_BY[reason], text, re.MULTILINE)
        return
    assert reason == BYTECODE
    tested = re.findall(r"^from (coaplet|node)\.(\w+) import", text, re.MULTILINE)
    assert tested
    for package, name in tested:
        folder = {"coaplet": "lib/coaplet", "node": "firmware/node"}[package]
        assert not re.search(r"@micropython\.(?:viper|native)", (ROOT / folder / f"{name}.py").read_text()), name


@pytest.mark.parametrize("runtime", NOT_RUN)
def test_modules_whose_machine_code_matters_run_everywhere(runtime: str):
    assert not NOT_RUN[runtime].keys() & {"test_wire", "test_encode", "test_message", "test_endpoint", "test_serial"}
