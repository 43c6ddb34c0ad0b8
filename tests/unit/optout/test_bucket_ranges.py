"""Pieces of files, from a folder, from an object store, and under the names of old deployments."""

from pathlib import Path

import pytest

from uid2.optout.bucket import Bucket, CloudBucket, FolderBucket, RenamingBucket
from uid2.protocol.errors import StoreUnavailableError

PATH = "optout/delta/file.dat"
DATA = bytes(range(200))


@pytest.fixture(params=["folder", "objects", "old names"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    made: Bucket = CloudBucket("memory:///", {}) if request.param == "objects" else FolderBucket(tmp_path)
    made = RenamingBucket(made) if request.param == "old names" else made
    made.put(PATH, DATA)
    return made


@pytest.mark.parametrize(("start", "length"), [(0, 200), (0, 1), (72, 72), (199, 1), (150, 100), (200, 5), (300, 1)])
def test_a_piece_is_what_slicing_gives(bucket: Bucket, start: int, length: int) -> None:
    assert bucket.read_range(PATH, start, length) == DATA[start : start + length]
    assert bucket.size(PATH) == len(DATA)


def test_what_is_not_there_is_named(bucket: Bucket) -> None:
    for attempt in (lambda: bucket.size("optout/none.dat"), lambda: bucket.read_range("optout/none.dat", 0, 1)):
        with pytest.raises(StoreUnavailableError, match=r"none\.dat") as caught:
            attempt()
        assert caught.value.next_step
