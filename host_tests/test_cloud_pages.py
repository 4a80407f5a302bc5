"""The pages on clouds (firmware/node/clouds/README.md): each configuration that they show is one that works."""

import json
import re
import sys
from pathlib import Path

import pytest

_FIRMWARE = Path(__file__).parent.parent / "firmware"
sys.path.append(str(_FIRMWARE))

from node.schema import CLOUDS, check, check_whole, defaults  # noqa: E402

_PAGE = (_FIRMWARE / "node/clouds/README.md").read_text()
_EXAMPLES = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)]


def test_there_is_an_example_for_each_cloud_and_each_cloud_is_a_file():
    assert {example["cloud"] for example in _EXAMPLES} == set(CLOUDS)
    files = {path.stem for path in (_FIRMWARE / "node/clouds").glob("*.py")} - {"__init__"}
    assert files == set(CLOUDS)
    assert len(_EXAMPLES) == 5


@pytest.mark.parametrize("example", _EXAMPLES, ids=[example["collector"] for example in _EXAMPLES])
def test_an_example_is_a_configuration_that_is_taken(example: dict[str, object]):
    check(example)
    check_whole({**defaults(), **example})
