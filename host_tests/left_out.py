"""Device tests that a board is not asked to run, each with the reason. They are no skips: the end of a run counts them.

That a test needs a network is read from its source: it, or what it calls, in its module or in others of device/, uses
`socket` or coaplet.udp. Everything else is in a table. RP2040_SLOW=1 runs what is left out for its time alone.
"""

import ast
import os
from collections import Counter
from functools import cache
from pathlib import Path

_DEVICE = Path(__file__).parent / "device"
NETWORK = "no network"
_SOURCE_OF_NETWORK = {"socket", "coaplet.udp", "coaplet.sync"}
MEMORY = "more memory than it has"
SLOW = "takes long"
ADDRESSES = "no inet_pton"
SOURCE = "no source of the library"
OTHER_BOARD = "of the board UNIX"
ASYNCIO = "no asyncio"
BYTECODE = "no machine code: the same on each machine"
FILES = "no files of boards"

_ON_A_BARE_MACHINE = {
    **dict.fromkeys(("test_aio", "test_client", "test_conditional", "test_crowd", "test_faults"), ASYNCIO),
    **dict.fromkeys(("test_incumbents", "test_many", "test_names", "test_probing", "test_serial_nodes"), ASYNCIO),
    **dict.fromkeys(("test_rfc7252_groups", "test_rfc7252_options", "test_rfc7252_requests", "test_turns"), ASYNCIO),
    **dict.fromkeys(("test_node_app", "test_node_sender", "test_node_sensors"), ASYNCIO),
    **dict.fromkeys(("test_compose", "test_poll", "test_sync", "test_udp", "test_uri"), NETWORK),
    **dict.fromkeys(("test_node_config", "test_node_queue", "test_node_records", "test_node_store"), BYTECODE),
    "test_linkfilter": BYTECODE,
    "test_node_wifi": ASYNCIO,
    "test_boards": ASYNCIO,
    "test_mids": SLOW,
}

# On the emulated RP2040, what takes more than about 3 s of a processor; the whole is to fit in two minutes
LEFT_OUT: dict[str, dict[str, str]] = {
    "cortex-m3": _ON_A_BARE_MACHINE,
    "rv32": _ON_A_BARE_MACHINE,
    "rp2040": {
        # for machines with thousands of peers, and with much memory
        "test_many": MEMORY,
        "test_crowd::test_an_endpoint_with_tables_asks_many_peers_at_once": MEMORY,
        "test_encode::test_every_boundary_of_delta_and_length_is_encoded": MEMORY,
        "test_compose::test_ipv6_addresses_are_in_the_recommended_form": ADDRESSES,
        "test_compose::test_a_host_that_a_uri_cannot_have_is_refused": ADDRESSES,
        "test_compose::test_each_byte_is_encoded_where_it_must_be": ADDRESSES,
        "test_serial::test_a_frame_longer_than_mtu_is_dropped_and_counted": MEMORY,
        "test_wire::test_a_value_may_fill_the_largest_datagram": MEMORY,
        "test_wire::test_what_should_be_machine_code_is": SOURCE,
        "test_node_sensors::test_the_unix_board_has_its_own_sensors": OTHER_BOARD,
        "test_node_sensors::test_the_unix_board_keeps_to_the_contract": OTHER_BOARD,
        "test_boards": FILES,
        "test_names": NETWORK,  # imports AF_INET
        "test_rfc7252_requests::test_a_get_or_delete_is_not_sent_with_a_payload": NETWORK,
        "test_rfc7252_groups::test_a_group_cannot_be_connected_to": NETWORK,
        "test_rfc7252_options::test_what_no_request_can_say_is_refused_before_it_is_sent": NETWORK,
        "test_fuzz": SLOW,
        "test_lossy": SLOW,
        "test_network": SLOW,
        "test_crowd": SLOW,
        "test_mids::test_70000_mids_are_not_used_twice_within_exchange_lifetime": SLOW,
        "test_mids::test_at_a_slow_pace_nobody_waits": SLOW,
        "test_node_sensors::test_the_simulated_climate_varies_slowly_within_bounds": SLOW,
        "test_probing::test_an_hour_of_asking_keeps_to_the_rate": SLOW,
        "test_rfc7252_messages::test_message_ids_are_free_again_however_long_it_runs": SLOW,
        "test_rfc7252_requests::test_a_repeat_of_a_request_at_work_is_known_though_its_slot_was_taken": SLOW,
        "test_linkfilter::test_a_quoted_value_is_compared_as_what_it_stands_for": SLOW,
        "test_turns::test_a_storm_with_cancellations_leaves_every_slot_free": SLOW,
        "test_linkfilter::test_what_is_asked_for_leaves_nothing_behind": SLOW,
        "test_message::test_many_options_leave_the_payload_all_of_the_rest": SLOW,
        "test_rfc7252_options::test_a_response_with_an_option_of_requests_is_rejected": SLOW,
        "test_rules_endpoint::test_every_code_is_a_request_a_response_or_reserved": SLOW,
        "test_conditional::test_if_match_needs_one_of_its_values_or_existence": SLOW,
        "test_conditional::test_a_hook_that_fails_is_an_internal_error_with_one_line": SLOW,
    },
}

counts: Counter[tuple[str, str]] = Counter()  # (runtime, reason): tests that were not collected


def reason(runtime: str, module: Path, test: str) -> str:
    """Return why a runtime does not run a test, or "" where it does."""
    if runtime not in LEFT_OUT or module.parent != _DEVICE:
        return ""
    table = LEFT_OUT[runtime]
    why = table.get(f"{module.stem}::{test}") or table.get(module.stem, "")
    if why == SLOW and os.environ.get("RP2040_SLOW") == "1":
        why = ""
    return why or (NETWORK if test in networked(module.stem) else "")


@cache
def networked(module: str) -> frozenset[str]:
    """Return the names of a module of device/ that need a network: imported, defined, or both."""
    path = _DEVICE / f"{module}.py"
    if not path.exists():
        return frozenset()
    uses: dict[str, set[str]] = {}  # a name of the module: the names in its definition
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    if any(isinstance(node, ast.Import) and node.names[0].name == "socket" for node in tree.body):
        return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    for node in tree.body:
        for statement in node.body if isinstance(node, ast.Try) else (node,):
            if isinstance(statement, ast.Import):
                found |= {name.asname or name.name for name in statement.names if name.name in _SOURCE_OF_NETWORK}
            elif isinstance(statement, ast.ImportFrom):
                source = statement.module or ""
                names = {alias.name: alias.asname or alias.name for alias in statement.names}
                if source in _SOURCE_OF_NETWORK:
                    found |= set(names.values())
                else:
                    found |= {names[name] for name in names if name in networked(source)}
            elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                uses[statement.name] = _names(statement)
            elif isinstance(statement, ast.Assign):
                for target in statement.targets:
                    for name in _names(target):
                        uses[name] = _names(statement.value)
    while more := {name for name, used in uses.items() if name not in found and used & found}:
        found |= more
    return frozenset(found)


def _names(node: ast.AST) -> set[str]:
    """Return the names that a definition speaks of, and what it imports within."""
    found: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            found.add(inner.id)
        elif isinstance(inner, ast.Import):
            found |= {alias.name for alias in inner.names}
        elif isinstance(inner, ast.ImportFrom) and inner.module in _SOURCE_OF_NETWORK:
            found.add("socket")
    return found


def summary() -> list[str]:
    """Return a line for each runtime that left something out in this run."""
    lines = []
    for runtime in sorted({runtime for runtime, _ in counts}):
        reasons = {why: n for (name, why), n in counts.items() if name == runtime}
        parts = [f"{n} {why}" for why, n in sorted(reasons.items(), key=lambda item: -item[1])]
        lines.append(f"not on {runtime}: {sum(reasons.values())} tests: {', '.join(parts)}")
    return lines
