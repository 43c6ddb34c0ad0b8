"""Metadata through Core's refresh endpoints (core chapter, 7.4); content lies at the addresses they name."""

from typing import final

from uid2.corelink.attestation import Attestation
from uid2.corelink.client import CoreClient, CoreUnreachableError
from uid2.corelink.exchange import REFUSALS
from uid2.protocol.errors import DependencyError, StoreUnavailableError
from uid2.stores.sources.base import LARGEST_FILE
from uid2.stores.sources.presigned import shown_address


@final
class CoreSource:
    """`read(address)` with the headers of an attested program; a 401 attests anew and asks once more."""

    def __init__(self, client: CoreClient, attestation: Attestation, *, encrypted: bool) -> None:
        self._client = client
        self._attestation = attestation
        self._encrypted = encrypted

    def read(self, path: str, limit: int = LARGEST_FILE) -> bytes:
        shown = shown_address(path)
        try:
            credentials = self._attestation.credentials()
            answer = self._client.get(path, self._attestation.headers(credentials, encrypted=self._encrypted), limit)
            if answer.status == 401 and self._attestation.rejected(credentials):
                credentials = self._attestation.credentials()
                headers = self._attestation.headers(credentials, encrypted=self._encrypted)
                answer = self._client.get(path, headers, limit)
        except CoreUnreachableError as error:
            self._attestation.core_failed()
            raise StoreUnavailableError(
                f"E12: Data Download Failure - {error.message} at {shown}", next_step=error.next_step
            ) from None
        except DependencyError as error:
            raise StoreUnavailableError(error.message, next_step=error.next_step) from None
        if answer.status != 200:
            self._attestation.core_failed()
            raise StoreUnavailableError(
                f"E12: Data Download Failure - HTTP response code {answer.status} from {shown}",
                next_step="check the roles of the key in core_api_token, and Core's log; the next refresh asks again"
                if answer.status in REFUSALS
                else "look into Core's log; the next refresh asks again",
            )
        self._attestation.core_answered(answer.skew_ms)
        return answer.body

    def list(self, prefix: str) -> list[str]:
        raise StoreUnavailableError(
            f"{shown_address(prefix)} cannot be listed", next_step="name the endpoint of one store"
        )
