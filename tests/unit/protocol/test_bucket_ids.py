import json
from pathlib import Path
from typing import Any

import pytest

from uid2.protocol.bucket_ids import BucketIds

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/tokens.json").read_text())["bucket_ids"]["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['id']}-{vector['bucket_id']}")
def test_vector(vector: dict[str, Any]) -> None:
    assert BucketIds(vector["id_prefix"], vector["id_secret"]).encode(vector["id"]) == vector["bucket_id"]


def test_ids_are_distinct_and_long_enough() -> None:
    ids = BucketIds("b", "some secret")
    texts = {ids.encode(number) for number in (*range(3000), 2**31 - 1)}
    assert len(texts) == 3001
    assert {len(text) for text in texts} == {10}


def test_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        BucketIds("b", "secret").encode(-1)
