"""The reasons why a board does not run device tests are true, as far as that can be shown in seconds."""

import ast
import re
from pathlib import Path

import pytest

from coaplet_tools.setup.places import Unavailable
from left_out import (
    ASYNCIO,
    BYTECODE,
    CIPHER,
    FILES,
    LEFT_OUT,
    MEMORY,
    NETWORK,
    OTHER_BOARD,
    SLOW,
    SOURCE,
    networked,
    reason,
)
from runtimes import MACHINES, ModuleRun

_ROOT = Path(__file__).parent.parent
_DEVICE = _ROOT / "host_tests/device"
_RP2040 = MACHINES[0]
_BARE = [machine.name for machine in MACHINES[1:]]
# What a test says on the board, by the reason; and a test of each module that is left out whole
_SAYS = {
    NETWORK: "no network",
    MEMORY: "MemoryError",
    SOURCE: "ENOENT",
    OTHER_BOARD: "Error",
    FILES: "",  # it says SKIP
}
# What the source of a module has that is left out on the bare machines
_HAS = {
    ASYNCIO: r"\bimport asyncio\b|^async def test_|^from cloud_net import",  # which imports the node's sender
    NETWORK: r"\b(?:RawPeer|free_uri|coaplet\.udp|test_uri)\b",
    SLOW: r"\b70000\b",
    CIPHER: r"^from (coaplet\.dtls\.aead import Ccm|dtls_net import)\b",
}
_OF_A_MODULE = {
    "test_many": "test_5000_peers_are_asked_and_answered",
    "test_boards": "test_each_board_is_itself_and_names_its_state_folder",
    "test_names": "test_resolve_puts_the_address_that_did_not_answer_last",
}
_TOO_LONG = ("asks_many_peers_at_once", "frame_longer_than_mtu")
_BEHIND_OTHERS = ("fill_the_largest",)  # what has room when it is alone


def _tests(module: str) -> list[str]:
    tree = ast.parse((_DEVICE / f"{module}.py").read_text())
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [node.name for node in functions if node.name.startswith("test_")]


def _short() -> dict[str, dict[str, str]]:
    """Return what fails on the board soon: by module, tests and their reasons."""
    found: dict[str, dict[str, str]] = {}
    for entry, why in LEFT_OUT["rp2040"].items():
        module, _, test = entry.partition("::")
        test = test or _OF_A_MODULE.get(module, "")
        if test and why != SLOW and not any(part in test for part in (*_TOO_LONG, *_BEHIND_OTHERS)):
            found.setdefault(module, {})[test] = why
    return found


def test_each_entry_is_of_a_test_that_there_is_and_has_a_known_reason():
    for table in LEFT_OUT.values():
        for entry, why in table.items():
            module, _, test = entry.partition("::")
            assert not test or test in _tests(module), entry
            assert _tests(module) and why in (*_SAYS, ASYNCIO, BYTECODE, CIPHER, SLOW), entry


def test_a_use_of_sockets_is_seen_through_helpers_and_modules():
    assert {"free_port", "free_uri", "raw_socket", "RawPeer"} <= networked("helpers")
    assert not {"message", "read", "raises", "vectors"} & networked("helpers")
    assert set(_tests("test_udp")) <= networked("test_udp")
    assert "Bench" in networked("test_node_app")
    assert not networked("test_wire") & set(_tests("test_wire"))


def test_only_boards_leave_tests_out_but_for_their_time():
    assert set(LEFT_OUT) == {machine.name for machine in MACHINES} | {"unix-armhf"}
    assert set(LEFT_OUT["unix-armhf"].values()) == {SLOW}
    assert reason("unix-armhf", _DEVICE / "test_udp.py", _tests("test_udp")[0]) == ""
    assert reason("cpython", _DEVICE / "test_udp.py", _tests("test_udp")[0]) == ""
    assert reason("rp2040", _DEVICE / "test_udp.py", _tests("test_udp")[0]) == NETWORK


def test_most_device_tests_run_on_the_board():
    modules = [path.stem for path in _DEVICE.glob("test_*.py")]
    tests = [(module, test) for module in modules for test in _tests(module)]
    run = [test for module, test in tests if not reason("rp2040", _DEVICE / f"{module}.py", test)]
    assert len(run) > 0.6 * len(tests), f"{len(run)} of {len(tests)}"
    for module in ("test_heap", "test_node_config", "test_node_queue", "test_node_records", "test_node_sender"):
        assert not [test for test in _tests(module) if reason("rp2040", _DEVICE / f"{module}.py", test)]


@pytest.mark.parametrize("module", sorted(_short()))
def test_what_is_left_out_cannot_run_there(module: str):
    wanted = _short()[module]
    try:
        # In the module's order, behind its first test: what a heap has room for depends on what went before
        tests = [
            test for i, test in enumerate(_tests(module)) if test in wanted or (i == 0 and module not in _OF_A_MODULE)
        ]
        outcomes = ModuleRun(_RP2040, _DEVICE / f"{module}.py", tests).execute()
    except Unavailable as unavailable:
        pytest.skip(str(unavailable))
    for test, why in wanted.items():
        assert outcomes[test].verdict == ("SKIP" if why == FILES else "FAIL"), test
        text = outcomes[test].text
        assert _SAYS[why] in text or (why == NETWORK and "AF_INET" in text), (test, text)


@pytest.mark.parametrize("module", LEFT_OUT["rv32"])
def test_a_module_is_left_out_on_bare_machines_for_a_true_reason(module: str):
    why = LEFT_OUT["rv32"][module]
    text = (_DEVICE / f"{module}.py").read_text()
    if why in _HAS:
        assert re.search(_HAS[why], text, re.MULTILINE)
        return
    assert why == BYTECODE
    tested = re.findall(r"^from (coaplet|node)\.(\w+) import", text, re.MULTILINE)
    assert tested
    for package, name in tested:
        folder = {"coaplet": "lib/coaplet", "node": "firmware/node"}[package]
        source = _ROOT / folder / f"{name}.py"
        if not source.exists():  # a package
            source = _ROOT / folder / name / "__init__.py"
        assert not re.search(r"@micropython\.(?:viper|native)", source.read_text()), name


@pytest.mark.parametrize("machine", _BARE)
def test_modules_whose_machine_code_matters_run_on_bare_machines(machine: str):
    assert not LEFT_OUT[machine].keys() & {"test_wire", "test_encode", "test_message", "test_endpoint", "test_serial"}
