"""Which device tests a runtime is not asked to run, and why: no item is made of them, as a skip fails in CI.

A module that is not named here runs everywhere. test_not_run.py asserts that each reason is true.
"""

ASYNCIO = "needs asyncio"
SOCKETS = "needs sockets"
BYTECODE = "tests what has no machine code, and is the same bytecode on each machine"
LONG = "tries 70,000 message IDs, which takes long in an emulator"

_ON_A_BARE_MACHINE = {
    **dict.fromkeys(("test_aio", "test_client", "test_conditional", "test_crowd", "test_faults"), ASYNCIO),
    **dict.fromkeys(("test_incumbents", "test_many", "test_names", "test_probing", "test_serial_nodes"), ASYNCIO),
    **dict.fromkeys(("test_rfc7252_groups", "test_rfc7252_options", "test_rfc7252_requests", "test_turns"), ASYNCIO),
    **dict.fromkeys(("test_node_app", "test_node_sender", "test_node_sensors"), ASYNCIO),
    **dict.fromkeys(("test_compose", "test_poll", "test_sync", "test_udp", "test_uri"), SOCKETS),
    **dict.fromkeys(("test_node_config", "test_node_queue", "test_node_records", "test_node_store"), BYTECODE),
    "test_linkfilter": BYTECODE,
    "test_mids": LONG,
}

# runtime: module: reason
NOT_RUN: dict[str, dict[str, str]] = {"cortex-m3": _ON_A_BARE_MACHINE, "rv32": _ON_A_BARE_MACHINE}
