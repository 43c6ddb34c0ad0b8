"""docs/from-java.md names each configuration key once, where it belongs."""

import re
from pathlib import Path

from uid2.operator.settings import ACCEPTED, config_keys

GUIDE = (Path(__file__).parents[3] / "docs" / "from-java.md").read_text()


def names(heading: str) -> list[str]:
    section = re.search(rf"^### {heading}$(.*?)(?=^##|\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    assert section is not None
    return [name for name in re.findall(r"`(\w+)`", section[1]) if name != "sealed"]


def test_every_key_is_named_once() -> None:
    kept, accepted, new = names("Kept"), names("Accepted without effect"), names("New")
    assert sorted(kept + new) == sorted(key.name for key in config_keys())
    assert sorted(accepted) == sorted(ACCEPTED)
    assert len({*kept, *accepted, *new}) == len(kept) + len(accepted) + len(new)
