"""make bench BOARD=RPI_PICO: what it measures is the same twice, and only a ceiling that is exceeded fails."""

from collections.abc import Callable

import pytest

from coaplet_tools.bench import board


def test_a_get_on_the_board_allocates_nothing_and_takes_the_same_time_twice(peer: Callable[[str], str]):
    peer("micropython-rp2040")
    figures = board.twice(lambda: board.ask("get()"))
    assert figures["get_alloc_bytes"] == figures["get_3_alloc_bytes"] == 0
    assert 0 < figures["get_take_us"] < figures["get_us"] < figures["get_sent_us"] < figures["get_3_sent_us"]


def test_a_record_on_the_board_allocates_nothing_and_keeps_to_its_time(peer: Callable[[str], str]):
    peer("micropython-rp2040")
    figures = board.ask("crypto()")
    assert figures["aead_alloc_bytes"] == 0 and figures["prf_master_us"] > 0
    for name, (_, ceiling) in board._BUDGETS.items():
        if name.startswith("ccm8"):
            assert 0 < figures[name] <= ceiling, figures


def test_what_fails_on_the_board_is_told(peer: Callable[[str], str]):
    peer("micropython-rp2040")
    with pytest.raises(board.FaultError, match="no_such_figure"):
        board.ask("no_such_figure()")


def test_two_runs_that_differ_are_a_fault_of_the_measurement():
    runs = iter(({"get_us": 1.0}, {"get_us": 1.2}))
    with pytest.raises(board.FaultError, match="two runs differ"):
        board.twice(lambda: next(runs))


def test_a_figure_is_shown_beside_the_one_committed_last_and_its_budget():
    lines = list(board.table({"get_us": 154, "boot_ms": 242.0, "parse_us": 28.4}, {"get_us": 140, "boot_ms": 242.0}))
    assert lines[1].split() == ["get_us", "154", "140", "+10.0%", "140", "140", "OVER", "ITS", "CEILING"]
    assert lines[2].split() == ["boot_ms", "242.0", "242.0"]
    assert lines[3].split() == ["parse_us", "28.4"]


@pytest.mark.parametrize(("heap", "status"), [(71_500, 0), (71_501, 1)])
def test_only_a_ceiling_that_is_exceeded_fails(heap, status, monkeypatch, tmp_path, capsys):
    figures = {**dict.fromkeys(board._BUDGETS, 0), "get_us": 139.5, "heap_frozen_total": heap}
    monkeypatch.setattr(board, "measure", lambda: figures)
    monkeypatch.setattr(board, "_WRITTEN", board.ROOT / "build/bench-test.json")
    monkeypatch.setattr(board, "_IMAGE", tmp_path)
    try:
        assert board.main(["RPI_PICO"]) == status
    finally:
        (board.ROOT / "build/bench-test.json").unlink()
    said = capsys.readouterr().out
    assert ("FAILED: over the ceiling: heap_frozen_total" in said) == bool(status)
