"""Collateral kept between attestations (enclave chapter, 2.7)."""

import asyncio
from typing import Final, NamedTuple, final

from uid2.attestation.collateral import Collateral, CollateralSource
from uid2.attestation.pck import CertificateAuthority
from uid2.attestation.reasons import CollateralUnavailable
from uid2.protocol.ids import EpochSeconds

LONGEST_KEPT_SECONDS: Final = 24 * 3600
# Platform models are few; quotes that only claim one must not fill the memory.
LARGEST_COUNT: Final = 64


class _Kept(NamedTuple):
    collateral: Collateral
    fetched: EpochSeconds

    def refresh_due(self, now: EpochSeconds) -> bool:
        window = max(0, self.collateral.valid_until - self.fetched)
        return now - self.fetched >= min(LONGEST_KEPT_SECONDS, window // 2)


@final
class CachedCollateral:
    """Asks `source` again after a day or half of the window, and keeps the last good set until it ends."""

    def __init__(self, source: CollateralSource) -> None:
        self._source = source
        self._kept: dict[tuple[str, CertificateAuthority], _Kept] = {}
        self._one_at_a_time = asyncio.Lock()

    async def collateral_for(self, fmspc: str, authority: CertificateAuthority, now: EpochSeconds) -> Collateral:
        """Raises CollateralUnavailable: none to be had, and none kept that is still valid."""
        key = (fmspc, authority)
        async with self._one_at_a_time:
            kept = self._kept.get(key)
            if kept is not None and not kept.refresh_due(now):
                return kept.collateral
            try:
                fresh = await self._source.collateral_for(fmspc, authority, now)
            except CollateralUnavailable:
                if kept is None or now > kept.collateral.valid_until:
                    raise
                return kept.collateral
            if key not in self._kept and len(self._kept) >= LARGEST_COUNT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = _Kept(fresh, now)
            return fresh
