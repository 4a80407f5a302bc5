"""Device tests that a runtime is not asked to run, each with the reason. They are no skips: a run counts them.

That a test needs a network is read from its source: it, or what it calls, in its module or in others of device/, uses
`socket` or coaplet.udp. Everything else is in a table. SLOW=1 runs what is left out for its time alone.
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
SOURCE = "no source of the library"
OTHER_BOARD = "of the board UNIX"
ASYNCIO = "no asyncio"
BYTECODE = "no machine code: the same on each machine"
FILES = "no files of boards"
CIPHER = "no cryptolib"

_ON_A_BARE_MACHINE = {
    **dict.fromkeys(("test_aio", "test_client", "test_conditional", "test_crowd", "test_faults"), ASYNCIO),
    **dict.fromkeys(("test_incumbents", "test_many", "test_names", "test_probing", "test_serial_nodes"), ASYNCIO),
    **dict.fromkeys(("test_rfc7252_groups", "test_rfc7252_options", "test_rfc7252_requests", "test_turns"), ASYNCIO),
    **dict.fromkeys(("test_node_app", "test_node_coaps", "test_node_sender", "test_node_sensors"), ASYNCIO),
    **dict.fromkeys(("test_node_observe", "test_node_rpc", "test_node_watch"), ASYNCIO),
    **dict.fromkeys(("test_cloud_any", "test_cloud_coaps", "test_cloud_emqx"), ASYNCIO),
    **dict.fromkeys(("test_cloud_thingsboard", "test_cloud_weather"), ASYNCIO),
    **dict.fromkeys(("test_compose", "test_poll", "test_sync", "test_udp", "test_uri"), NETWORK),
    **dict.fromkeys(("test_node_config", "test_node_queue", "test_node_records", "test_node_store"), BYTECODE),
    **dict.fromkeys(("test_node_cbor", "test_node_settings", "test_node_state", "test_cloud_golioth"), BYTECODE),
    "test_linkfilter": BYTECODE,
    **dict.fromkeys(
        ("test_aead", "test_dtls_acceptor", "test_dtls_cid", "test_dtls_flights", "test_dtls_handshake"), CIPHER
    ),
    **dict.fromkeys(("test_dtls_heap", "test_dtls_hostile", "test_dtls_lossy", "test_dtls_records"), CIPHER),
    **dict.fromkeys(("test_dtls_malformed", "test_dtls_sessions", "test_dtls_sleep", "test_dtls_vectors"), CIPHER),
    "test_dtls_node": ASYNCIO,
    "test_node_wifi": ASYNCIO,
    "test_boards": ASYNCIO,
    "test_mids": SLOW,
    "test_transfer_layers": CIPHER,
}

# Rules that no machine code is about, and that take their time on an emulated processor; MicroPython's 64 and 32 bits
# and CPython run them
_RULES = dict.fromkeys(("test_compose", "test_conditional", "test_linkfilter"), SLOW)

# On the emulated RP2040, what takes more than about 3 s of a processor; the whole is to fit in two minutes
LEFT_OUT: dict[str, dict[str, str]] = {
    "cortex-m3": _ON_A_BARE_MACHINE,
    "rv32": _ON_A_BARE_MACHINE,
    "unix-armhf": {**_RULES, **dict.fromkeys(("test_many", "test_crowd", "test_mids", "test_turns"), SLOW)},
    "rp2040": {
        # for machines with thousands of peers, and with much memory
        "test_many": MEMORY,
        "test_crowd::test_an_endpoint_with_tables_asks_many_peers_at_once": MEMORY,
        "test_encode::test_every_boundary_of_delta_and_length_is_encoded": MEMORY,
        **_RULES,
        "test_serial::test_a_frame_longer_than_mtu_is_dropped_and_counted": MEMORY,
        # 65 KB in one piece: right after the start there may be, behind other tests not
        "test_wire::test_a_value_may_fill_the_largest_datagram": MEMORY,
        "test_wire::test_what_should_be_machine_code_is": SOURCE,
        "test_aead_code::test_what_should_be_machine_code_is": SOURCE,
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
        "test_transfer": SLOW,
        **dict.fromkeys(("test_cloud_emqx", "test_cloud_thingsboard", "test_cloud_weather"), SLOW),
        "test_block::test_large_payloads_go_both_ways": SLOW,
        "test_block::test_ends_with_little_room_understand_each_other": SLOW,
        "test_block::test_what_is_written_bit_by_bit_is_the_same": SLOW,
        "test_block::test_files_and_iterators_are_streamed": SLOW,
        "test_block::test_ten_thousand_spoofed_peers_leave_memory_at_its_limits_and_an_honest_one_served": SLOW,
        "test_transfer_layers": SLOW,
        "test_observe::test_once_in_a_day_a_con_is_sent": SLOW,
        "test_dtls_flights": SLOW,
        "test_dtls_malformed": SLOW,
        "test_dtls_hostile": SLOW,
        "test_dtls_lossy": SLOW,
        "test_dtls_cid::test_connection_ids_of_every_length_are_used_each_way": SLOW,
        "test_dtls_cid::test_without_both_there_is_none": SLOW,
        "test_dtls_cid::test_every_session_has_a_connection_id_of_its_own_and_gives_it_back": SLOW,
        "test_dtls_cid::test_connection_ids_of_failed_handshakes_are_given_back": SLOW,
        "test_dtls_cid::test_a_record_with_a_connection_id_nobody_asked_for_is_dropped": SLOW,
        "test_dtls_cid::test_an_address_does_not_move_for_what_is_old_or_forged": SLOW,
        "test_dtls_cid::test_what_somebody_else_sends_on_first_moves_nothing": SLOW,
        "test_dtls_cid::test_without_a_connection_id_another_address_is_another_peer": SLOW,
        "test_dtls_cid::test_a_client_follows_no_server_that_moves": SLOW,
        "test_dtls_cid::test_hellos_and_records_may_share_a_datagram": SLOW,
        "test_dtls_acceptor::test_a_hundred_thousand_spoofed_hellos_leave_nothing": SLOW,
        "test_dtls_acceptor::test_every_bit_of_a_cookie_counts": SLOW,
        "test_dtls_acceptor::test_a_hello_that_comes_again_is_answered_by_the_timer_alone": SLOW,
        "test_dtls_acceptor::test_handshakes_a_second_are_limited_and_counted": SLOW,
        "test_dtls_acceptor::test_a_client_without_the_key_replaces_nobody": SLOW,
        "test_dtls_acceptor::test_a_session_goes_on_while_somebody_begins_anew_at_its_address": SLOW,
        "test_dtls_acceptor::test_the_session_that_was_idle_longest_makes_room": SLOW,
        "test_dtls_acceptor::test_an_idle_session_ends_when_its_time_is_over": SLOW,
        "test_dtls_handshake::test_a_session_that_the_server_has_forgotten_is_made_in_full": SLOW,
        "test_dtls_handshake::test_a_server_that_keeps_none_gives_no_session_id": SLOW,
        "test_dtls_handshake::test_a_session_is_not_resumed_without_its_master_secret": SLOW,
        "test_dtls_handshake::test_a_hint_is_sent_and_passed_over": SLOW,
        "test_dtls_handshake::test_a_server_without_extended_master_secret_is_talked_to": SLOW,
        "test_dtls_handshake::test_a_wrong_key_and_an_unknown_identity_look_the_same": SLOW,
        "test_dtls_handshake::test_keys_and_identities_of_every_length_are_taken": SLOW,
        "test_dtls_handshake::test_cookies_of_every_length_are_sent_back": SLOW,
        "test_dtls_handshake::test_an_empty_cookie_and_a_cut_one_are_no_cookies": SLOW,
        "test_dtls_handshake::test_a_server_may_ask_for_its_cookie_again": SLOW,
        "test_dtls_handshake::test_record_versions_of_dtls_1_0_are_taken_in_a_handshake": SLOW,
        "test_dtls_handshake::test_renegotiation_is_answered_as_secure_and_never_done": SLOW,
        "test_dtls_sleep::test_what_was_received_before_the_sleep_is_not_taken_again": SLOW,
        "test_dtls_sleep::test_damaged_bytes_are_no_session": SLOW,
        "test_dtls_sleep::test_what_was_kept_for_another_configuration_is_no_session": SLOW,
        "test_dtls_sleep::test_a_store_that_fails_gives_no_session": SLOW,
        "test_dtls_sleep::test_a_life_without_cuts_has_one_handshake": SLOW,
        "test_dtls_sleep::test_a_crash_while_awake_costs_a_handshake_and_nothing_else": SLOW,
        "test_dtls_sleep::test_the_power_may_be_cut_at_every_write": SLOW,
        "test_dtls_sleep::test_the_power_may_be_cut_at_every_byte_of_a_write": SLOW,
        "test_dtls_sleep::test_two_cuts_one_after_the_other_repeat_nothing": SLOW,
        "test_dtls_records::test_a_number_is_used_once": SLOW,
        "test_dtls_records::test_nobody_without_the_key_ends_a_session": SLOW,
        "test_dtls_records::test_close_notify_is_answered_and_ends_both": SLOW,
        "test_dtls_records::test_content_of_every_length_comes_through_with_every_suite": SLOW,
        "test_dtls_records::test_a_fatal_alert_of_the_peer_ends_the_session": SLOW,
        "test_dtls_records::test_a_shortened_record_is_noticed": SLOW,
        "test_dtls_records::test_a_record_longer_than_any_is_dropped": SLOW,
        "test_dtls_records::test_several_records_of_a_datagram_are_all_taken": SLOW,
        "test_dtls_records::test_a_warning_and_what_is_no_alert_end_nothing": SLOW,
        "test_dtls_records::test_a_layer_that_is_closed_says_goodbye_to_all": SLOW,
        "test_dtls_heap::test_every_suite_allocates_nothing": SLOW,
        "test_dtls_heap::test_two_sessions_of_one_layer_allocate_nothing_without_connection_ids": SLOW,
        "test_dtls_handshake::test_what_was_altered_on_the_way_gives_no_session": SLOW,
        "test_dtls_sleep::test_memory_is_a_store": SLOW,
        "test_dtls_cid::test_another_answer_or_one_from_elsewhere_moves_nothing": SLOW,
        "test_mids::test_70000_mids_are_not_used_twice_within_exchange_lifetime": SLOW,
        "test_mids::test_at_a_slow_pace_nobody_waits": SLOW,
        "test_turns::test_a_storm_with_cancellations_leaves_every_slot_free": SLOW,
        "test_node_sensors::test_the_simulated_climate_varies_slowly_within_bounds": SLOW,
        "test_serial::test_a_flipped_bit_anywhere_costs_its_frame_and_no_other": SLOW,
        "test_serial::test_bytes_missing_anywhere_cost_their_frame_and_no_other": SLOW,
        "test_serial::test_streams_of_anything_come_to_what_the_oracle_says": SLOW,
        "test_probing::test_an_hour_of_asking_keeps_to_the_rate": SLOW,
        "test_rfc7252_messages::test_message_ids_are_free_again_however_long_it_runs": SLOW,
        "test_rfc7252_requests::test_a_repeat_of_a_request_at_work_is_known_though_its_slot_was_taken": SLOW,
        "test_message::test_many_options_leave_the_payload_all_of_the_rest": SLOW,
        "test_rfc7252_options::test_a_response_with_an_option_of_requests_is_rejected": SLOW,
        "test_rules_endpoint::test_every_code_is_a_request_a_response_or_reserved": SLOW,
    },
}

_BOARDS = ("cortex-m3", "rv32", "rp2040")

counts: Counter[tuple[str, str]] = Counter()  # (runtime, reason): tests that were not collected


def reason(runtime: str, module: Path, test: str) -> str:
    """Return why a runtime does not run a test, or "" where it does."""
    if runtime not in LEFT_OUT or module.parent != _DEVICE:
        return ""
    table = LEFT_OUT[runtime]
    why = table.get(f"{module.stem}::{test}") or table.get(module.stem, "")
    if why == SLOW and os.environ.get("SLOW") == "1":
        why = ""
    return why or (NETWORK if runtime in _BOARDS and test in networked(module.stem) else "")


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
