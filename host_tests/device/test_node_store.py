# The boot counter: counts, survives power cuts, and never stops the node.

from node.store import count_boot
from node_fakes import Files, PowerCut

WALL = 1700000000000
MINUTES = WALL // 60000


def count(files, wall=WALL, urandom=lambda n: b"\1\2\3"):
    return count_boot(files.store(), wall, urandom)


def test_the_first_boot_is_1_and_each_start_counts():
    files = Files()
    assert [count(files) for _ in range(3)] == [(1, None), (2, None), (3, None)]
    assert files.files == {"state/boot.json": '{"boot": 3}\n'}


def test_a_damaged_counter_says_so_and_jumps_ahead_of_any_count():
    for text in (
        "",
        "junk",
        "12",
        "[1]",
        "{}",
        '{"boot": -1}',
        '{"boot": "7"}',
        '{"boot": true}',
        '{"boot": 1e9}',
        '{"boot": 99999999999}',
        "\0\0\0",
        OSError(5),
        ValueError(),
    ):
        files = Files({"state/boot.json": text})
        boot, line = count(files)
        assert boot == MINUTES, text
        assert line.startswith("boot.json: ") and "\n" not in line and line.endswith("boot %d" % boot), line
        assert count(files) == (boot + 1, None)


def test_without_a_clock_it_jumps_at_random():
    boot, line = count(Files({"state/boot.json": "junk"}), None)
    assert boot == 0x10000 + 0x010203 and line


def test_a_medium_that_cannot_be_written_does_not_stop_the_node():
    files = Files({"state/boot.json": '{"boot": 6}'})
    files.broken = True
    boot, line = count(files)
    assert boot == 7 and "cannot be written" in line and "\n" not in line


def test_a_power_cut_at_any_step_leaves_the_old_or_the_new_count():
    for fat in (False, True):
        for old in (None, 7):
            cut = 0
            while True:
                cut += 1
                files = Files({} if old is None else {"state/boot.json": '{"boot": 7}\n'}, fat)
                files.cut_at = cut
                whole = False
                try:
                    count(files)
                    whole = True
                except PowerCut:
                    pass
                files.cut_at = 0
                boot, line = count(files)
                first = (old or 0) + 1
                assert line is None and boot in (first, first + 1), (fat, old, cut, boot, line)
                assert count(files) == (boot + 1, None)
                if whole:
                    assert boot == first + 1
                    break
                assert cut < 20
