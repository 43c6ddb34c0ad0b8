"""The official SDK as an advertiser: identity map v2 and v3, buckets."""

import datetime as dt

import pytest
from uid2_client import (
    IdentityMapClient,
    IdentityMapInput,
    IdentityMapV3Client,
    IdentityMapV3Input,
    UnmappedIdentityReason,
)

from running_stack import Stack

COUNT = 5000
EMAILS = [f"person{i}@example.com" for i in range(COUNT - 1)] + ["optout@example.com"]


def test_v2_maps_5000_emails(stack: Stack) -> None:
    client = IdentityMapClient(stack.url, stack.key, stack.secret)

    answer = client.generate_identity_map(IdentityMapInput.from_emails(EMAILS))

    assert answer.is_success()
    assert set(answer.mapped_identities) == set(EMAILS[:-1])
    assert len({mapped.get_raw_uid() for mapped in answer.mapped_identities.values()}) == COUNT - 1
    assert answer.unmapped_identities["optout@example.com"].get_reason() == "optout"


def test_v3_maps_5000_emails_and_phones(stack: Stack) -> None:
    client = IdentityMapV3Client(stack.url, stack.key, stack.secret)
    phones = [f"+1415555{i:04d}" for i in range(1000)]

    answer = client.generate_identity_map(IdentityMapV3Input().with_emails(EMAILS[1000:]).with_phones(phones))

    assert answer.is_success()
    assert set(answer.mapped_identities) == set(EMAILS[1000:-1]) | set(phones)
    assert answer.unmapped_identities["optout@example.com"].reason == UnmappedIdentityReason.OPTOUT
    now = dt.datetime.now(tz=dt.UTC)
    assert all(mapped.refresh_from > now - dt.timedelta(minutes=1) for mapped in answer.mapped_identities.values())
    previous = [m.previous_raw_uid for m in answer.mapped_identities.values() if m.previous_raw_uid]
    assert 0 < len(previous) < COUNT


def test_v2_and_v3_give_the_same_raw_uids(stack: Stack) -> None:
    emails = EMAILS[:200]
    v2 = IdentityMapClient(stack.url, stack.key, stack.secret).generate_identity_map(
        IdentityMapInput.from_emails(emails)
    )
    v3 = IdentityMapV3Client(stack.url, stack.key, stack.secret).generate_identity_map(
        IdentityMapV3Input.from_emails(emails)
    )

    assert {e: m.get_raw_uid() for e, m in v2.mapped_identities.items()} == {
        e: m.current_raw_uid for e, m in v3.mapped_identities.items()
    }


@pytest.mark.parametrize(("days", "some"), [(400, True), (0, False)])
def test_buckets_since(stack: Stack, days: int, some: bool) -> None:
    since = dt.datetime.now(tz=dt.UTC) + dt.timedelta(days=1 if days == 0 else -days)

    answer = IdentityMapClient(stack.url, stack.key, stack.secret).get_identity_buckets(since)

    assert len(answer.buckets) == (1000 if some else 0)


def test_bucket_ids_of_the_map_are_known_to_buckets(stack: Stack) -> None:
    client = IdentityMapClient(stack.url, stack.key, stack.secret)
    mapped = client.generate_identity_map(IdentityMapInput.from_emails(EMAILS[:50])).mapped_identities
    buckets = client.get_identity_buckets(dt.datetime(2000, 1, 1, tzinfo=dt.UTC)).buckets

    assert {m.get_bucket_id() for m in mapped.values()} <= {bucket.get_bucket_id() for bucket in buckets}
