import json
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import ClientInputError, InternalTokenError
from uid2.protocol.identity import (
    DAY_MS,
    bucket_index,
    first_level_hash,
    previous_raw_uid,
    raw_uid,
    raw_uid_version,
    refresh_from,
    scope_of,
    type_of,
    v4_metadata,
)
from uid2.protocol.ids import (
    Environment,
    EpochMillis,
    FirstLevelHash,
    IdentityHash,
    IdentityScope,
    IdentityType,
    RawUid,
    RawUidVersion,
)
from uid2.protocol.normalize import InputKind, identity_hash_from
from uid2.protocol.salts import KeyMaterial, SaltBucket, parse_salt_line

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/tokens.json").read_text())
SALT_FILE = VECTORS["salt_file"]
FLH = FirstLevelHash(bytes(range(32)))
UID2, EMAIL, TEST = IdentityScope.UID2, IdentityType.EMAIL, Environment.TEST


def _bucket(
    salt: str | None = None,
    key: KeyMaterial | None = None,
    previous_salt: str | None = None,
    previous_key: KeyMaterial | None = None,
    last_updated: int = 0,
    refresh: int = 0,
) -> SaltBucket:
    return SaltBucket(1, EpochMillis(last_updated), salt, EpochMillis(refresh), previous_salt, key, previous_key)


@pytest.mark.parametrize("vector", VECTORS["raw_uid"]["vectors"], ids=lambda vector: vector["normalized"])
def test_raw_uid_vector(vector: dict[str, Any]) -> None:
    identity_type = IdentityType[vector["type"].upper()]
    identity_hash = identity_hash_from(InputKind(vector["type"]), vector["normalized"])
    assert identity_hash is not None
    assert encode_base64(identity_hash) == vector["identity_hash_b64"]
    flh = first_level_hash(identity_hash, vector["first_level_salt"])
    assert flh.hex() == vector["first_level_hash_hex"]
    for size in (1_048_576, 5, 8):
        assert bucket_index(flh, size) == vector[f"salt_index_{size}"]
    for uid in vector["uids"]:
        scope = IdentityScope[uid.get("scope", "UID2")]
        environment = Environment[uid.get("environment", "test").upper()]
        material = None
        if uid["version"] == "V4":
            material = KeyMaterial(**uid["key_material"])
        bucket = _bucket(uid.get("rotating_salt"), material)
        found = raw_uid(flh, bucket, scope, identity_type, environment, uid["version"] == "V3")
        assert encode_base64(found) == uid["raw_uid_b64"]
        assert raw_uid_version(found) is RawUidVersion[uid["version"]]


@pytest.mark.parametrize("vector", VECTORS["v4_metadata_bits"]["vectors"], ids=lambda vector: vector["hex"])
def test_v4_metadata_vector(vector: dict[str, Any]) -> None:
    scope, identity_type = IdentityScope[vector["scope"]], IdentityType[vector["type"].upper()]
    byte = v4_metadata(scope, identity_type, Environment[vector["environment"].upper()])
    assert byte == vector["byte"]
    assert (scope_of(byte), type_of(byte)) == (scope, identity_type)


@pytest.mark.parametrize(
    "vector", VECTORS["salt_index"]["vectors"], ids=lambda vector: vector["first_level_hash_prefix_hex"]
)
def test_salt_index_vector(vector: dict[str, Any]) -> None:
    flh = FirstLevelHash(bytes.fromhex(vector["first_level_hash_prefix_hex"]).ljust(32, b"\xa5"))
    assert bucket_index(flh, 1_048_576) == vector["index_1048576"]
    for size, index in vector["index_mod"].items():
        assert bucket_index(flh, int(size)) == index


@pytest.mark.parametrize(
    "mapping", SALT_FILE["mappings"], ids=lambda mapping: f"{mapping['normalized']}-{mapping['scope']}"
)
@pytest.mark.parametrize("identity_v3", [False, True])
def test_salt_file_vector(mapping: dict[str, Any], identity_v3: bool) -> None:
    buckets = [parse_salt_line(entry["line"], number) for number, entry in enumerate(SALT_FILE["entries"])]
    identity_hash = identity_hash_from(InputKind(mapping["type"]), mapping["normalized"])
    assert identity_hash is not None
    flh = first_level_hash(identity_hash, SALT_FILE["metadata"]["first_level"])
    index = bucket_index(flh, len(buckets))
    assert index == mapping["index"]
    bucket = buckets[index]
    how = (
        IdentityScope[mapping["scope"]],
        IdentityType[mapping["type"].upper()],
        Environment[mapping["environment"].upper()],
        identity_v3,
    )
    expected = mapping[f"identity_v3_{str(identity_v3).lower()}"]
    assert encode_base64(raw_uid(flh, bucket, *how)) == expected["current"]
    previous = previous_raw_uid(flh, bucket, *how, EpochMillis(bucket.last_updated + 90 * DAY_MS - 1))
    assert (None if previous is None else encode_base64(previous)) == expected["previous_if_age_under_90_days"]
    assert previous_raw_uid(flh, bucket, *how, EpochMillis(bucket.last_updated + 90 * DAY_MS)) is None


@pytest.mark.parametrize("vector", VECTORS["previous_uid_rule"]["vectors"], ids=lambda vector: str(vector["as_of"]))
def test_previous_uid_rule_vector(vector: dict[str, Any]) -> None:
    bucket = _bucket("salt", previous_salt="before", last_updated=vector["last_updated"])
    found = previous_raw_uid(FLH, bucket, UID2, EMAIL, TEST, False, EpochMillis(vector["as_of"]))
    assert (found is not None) == vector["previous_uid_considered"]


@pytest.mark.parametrize("vector", VECTORS["refresh_from_rule"]["vectors"], ids=lambda vector: str(vector["as_of"]))
def test_refresh_from_rule_vector(vector: dict[str, Any]) -> None:
    found = refresh_from(_bucket("salt", refresh=vector["refresh_from"]), EpochMillis(vector["as_of"]))
    assert found == vector["returned_ms"]
    assert found // 1000 == vector["returned_r_seconds"]


def test_a_salt_wins_over_key_material() -> None:
    material = KeyMaterial(1, "k" * 32, "s")
    found = raw_uid(FLH, _bucket("salt", material), UID2, EMAIL, TEST, False)
    assert found == raw_uid(FLH, _bucket("salt"), UID2, EMAIL, TEST, False)
    now = EpochMillis(0)
    both = previous_raw_uid(FLH, _bucket("x", None, "salt", material), UID2, EMAIL, TEST, False, now)
    assert both == found


@pytest.mark.parametrize(
    "bucket", [_bucket(), _bucket(key=KeyMaterial(1, "k" * 32, None)), _bucket(key=KeyMaterial(1, "k" * 31, "s"))]
)
def test_unusable_buckets_are_internal_errors(bucket: SaltBucket) -> None:
    with pytest.raises(InternalTokenError, match="salt bucket"):
        raw_uid(FLH, bucket, UID2, EMAIL, TEST, False)


def test_incomplete_previous_key_material_gives_none() -> None:
    for material in (None, KeyMaterial(1, "k" * 32, None), KeyMaterial(1, "", "s")):
        bucket = _bucket("salt", previous_key=material)
        assert previous_raw_uid(FLH, bucket, UID2, EMAIL, TEST, False, EpochMillis(0)) is None


@given(
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**24 - 1),
    st.sampled_from(IdentityScope),
    st.sampled_from(IdentityType),
    st.sampled_from(Environment),
)
def test_keyed_uid_layout(
    flh: bytes, key_id: int, scope: IdentityScope, identity_type: IdentityType, environment: Environment
) -> None:
    bucket = _bucket(key=KeyMaterial(key_id, "k" * 32, "salt"))
    uid = raw_uid(FirstLevelHash(flh), bucket, scope, identity_type, environment, True)
    assert len(uid) == 33
    assert uid[0] == v4_metadata(scope, identity_type, environment)
    assert int.from_bytes(uid[1:4], "big") == key_id
    assert reduce(xor, uid) == 0


def test_unknown_type_bits() -> None:
    for value in (2, 3):
        with pytest.raises(ClientInputError, match=f"^Invalid valid for IdentityType: {value}$"):
            type_of(value << 2)


@pytest.mark.parametrize("size", [0, 31, 34])
def test_length_of_no_version(size: int) -> None:
    with pytest.raises(ClientInputError, match="32 or 33 bytes"):
        raw_uid_version(RawUid(bytes(size)))


def test_short_and_long_supplied_hashes_are_hashed_as_they_are() -> None:
    for text in ("A" * 43 + "=", "A" * 44, "A" * 42 + "=="):
        flh = first_level_hash(IdentityHash(decode_base64(text)), "salt")
        assert len(flh) == 32
