"""The SDK's own suite (tests/sdk), every test of UID2 scope, against the sandboxed operator."""

import pytest
from tests.sdk.test_identity_map import (  # noqa: F401 - collected here
    test_bucket_ids_of_the_map_are_known_to_buckets,
    test_buckets_since,
    test_v2_and_v3_give_the_same_raw_uids,
    test_v2_maps_5000_emails,
    test_v3_maps_5000_emails_and_phones,
)
from tests.sdk.test_keys import (  # noqa: F401
    test_a_changed_token_does_not_decrypt,
    test_bidstream_decrypts_a_generated_token,
    test_bidstream_decrypts_a_refreshed_token,
    test_sharing_client_reads_a_publishers_token,
    test_sharing_encrypts_and_decrypts,
)
from tests.sdk.test_publisher import (  # noqa: F401
    test_a_token_refreshes_again_and_again,
    test_a_wrong_secret_is_told_apart_from_a_wrong_key,
    test_an_opted_out_person_gets_no_token,
    test_generated_token_has_every_field,
    test_opting_out_shows_at_the_refresh,
)

from .conftest import SandboxedOperator


@pytest.fixture
def stack(sandboxed: SandboxedOperator) -> SandboxedOperator:
    return sandboxed


@pytest.fixture
def uid2_stack(sandboxed: SandboxedOperator) -> SandboxedOperator:
    return sandboxed
