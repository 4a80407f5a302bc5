"""tshark, given the pre-shared key or the keys of each session, reads all that went through taps between our DTLS and
programs that nobody here wrote: every record decrypted, nothing malformed."""

from collections.abc import Hashable
from pathlib import Path

import pytest

from interop.conftest import NODES, name_of
from interop.dtls_peers import KEY, mbedtls_client, mbedtls_server
from interop.dtls_runs import Run, Talk, ask, run_secure
from interop.dtls_tap import Sent, read_records


def read(tshark: str, folder: Path, runs: list[Run], **keys) -> list[tuple[Run, dict]]:
    """Let tshark read all runs at once, each handshake's client at a port of its own."""
    if not any(run.datagrams for run in runs):
        return []
    ports: dict[Hashable, int] = {}
    datagrams: list[Sent] = []
    owners: list[Run] = []
    for number, run in enumerate(runs):
        for from_client, data, client in run.datagrams:
            datagrams.append((from_client, data, ports.setdefault((number, client), 10000 + len(ports))))
            owners.append(run)
    return [
        (owners[record["datagram"]], record)
        for record in read_records(tshark, folder, datagrams, keys.pop("key", None), **keys)
    ]


def check(found: list[tuple[Run, dict]]) -> None:
    for run, record in found:
        assert record["readable"], f"{run.name}: not decrypted: {record}"
        assert not record["remarks"], f"{run.name}: {record['remarks']}: {record}"


@pytest.fixture
def traffic(secured, tap, peer, tmp_path) -> None:
    """What is there even when these tests run alone: our ends with Mbed TLS's, with Connection IDs."""
    link = tap(secured.address)
    with mbedtls_client(peer, tmp_path, link.port, cid="c0ffee") as client:
        client.wait_for_event("handshake")
        talk = Talk(client, link, client=True)
        ask(talk, False)
        talk.close()
    with mbedtls_server(peer, tmp_path, cid="01", answer="coap") as server:
        run_secure(secured.runtime, "node", tap(server.address), [{"method": "GET", "path": "x"}], dtls={"cid": 2})
        server.wait_for_event("close")


@pytest.mark.parametrize("secured", NODES[2:3], ids=name_of, indirect=True)
def test_tshark_reads_all_that_our_ends_and_others_sent(secured, tshark, tmp_path, keylog, secure_runs, traffic):
    """With nothing but the key where handshakes are in full and nothing was repeated, else with the master secrets."""
    judged = [run for run in secure_runs if run.judged]
    with_key = [run for run in judged if run.opens_with_key()]
    assert len(with_key) >= 2
    check(read(tshark, tmp_path, with_key, key=KEY))
    check(read(tshark, tmp_path, [run for run in judged if run not in with_key], keylog=keylog))
    malformed = read(tshark, tmp_path, [run for run in secure_runs if not run.judged], keylog=keylog)
    assert [(run.name, record) for run, record in malformed if record["remarks"]] == []
