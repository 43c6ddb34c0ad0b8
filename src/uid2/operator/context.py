"""What every handler is given: settings, time, randomness and the data in force."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from uid2.bulk.engine import Engine, best_engine
from uid2.bulk.tables import OptOutView
from uid2.operator.lanes import Lanes
from uid2.operator.optout_lookups import TimedOptOuts
from uid2.operator.optout_rules import OptOuts, SpecialIdentities, special_identities
from uid2.operator.settings import OperatorSettings
from uid2.operator.token_service import TokenSources
from uid2.protocol.ids import EpochMillis, EpochSeconds, FirstLevelHash, RawUid
from uid2.service.clock import Clock, Entropy
from uid2.service.metrics import Metrics
from uid2.stores.snapshot import OperatorSnapshot, SaltSnapshot

# Timing costs as much as the look-up itself: of token calls one in so many is timed.
LOOKUPS_PER_SAMPLE: Final = 64
SALTS_REPORT_MS: Final = 600_000

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OptOutRequest:
    """One logout: what is recorded, and what travels with it to the opt-out service."""

    first_level_hash: FirstLevelHash = field(repr=False)
    raw_uid: RawUid = field(repr=False)
    at: EpochSeconds
    email: str | None = field(default=None, repr=False)
    phone: str | None = field(default=None, repr=False)
    client_ip: str | None = field(default=None, repr=False)
    trace_id: str | None = None


class OptOutSink(Protocol):
    """Where logouts are made to last."""

    async def record(self, optout: OptOutRequest) -> None:
        """Returns when the opt-out is durable; DependencyError or DurabilityError when it is not."""
        ...


Spread = Callable[[OptOutRequest], Awaitable[None]]
"""Makes an opt-out count in every worker of this operator; it is durable already."""


@dataclass(slots=True)
class SaltExpiry:
    """Since when requests have used expired salts, None while they use valid ones (operator chapter, 13.4).

    A log line says so at most every ten minutes, of one process of an operator: not where `reports` is False.
    """

    since: EpochMillis | None = None
    reports: bool = True
    reported: EpochMillis | None = None

    def used(self, salts: SaltSnapshot, now: EpochMillis) -> None:
        if salts.expires >= now:
            self.since = None
        else:
            self.used_expired(now, now)

    def used_expired(self, since: EpochMillis, now: EpochMillis) -> None:
        """Requests have used expired salts since then."""
        self.since = since if self.since is None else min(since, self.since)
        # A clock that was set back must not silence the line.
        if self.reports and (self.reported is None or not 0 <= now - self.reported < SALTS_REPORT_MS):
            self.reported = now
            _log.error("all salts are expired", extra={"next_step": "rotate the salts, or look why none arrive here"})


@dataclass(slots=True)
class OperatorContext:
    """One object for all handlers. `snapshot` and `optouts` are replaced whole; a request keeps what it began with."""

    settings: OperatorSettings
    clock: Clock
    entropy: Entropy
    snapshot: OperatorSnapshot
    optouts: OptOutView
    metrics: Metrics
    lanes: Lanes
    optout_sink: OptOutSink
    spread_optout: Spread
    salt_expiry: SaltExpiry = field(default_factory=SaltExpiry)
    engine: Engine = field(default_factory=best_engine)
    lookups: int = 0

    def optouts_of_call(self) -> OptOuts:
        """The opt-outs for one look-up of a token call, which is timed now and then."""
        self.lookups += 1
        return TimedOptOuts(self.optouts, self.metrics) if self.lookups % LOOKUPS_PER_SAMPLE == 1 else self.optouts

    def salts_in_use(self, snapshot: OperatorSnapshot, now: EpochMillis) -> SaltSnapshot:
        """The salts for a request of this moment; the use of expired ones is remembered."""
        salts = snapshot.salts.select(now)
        self.salt_expiry.used(salts, now)
        return salts

    def special_identities(self, snapshot: OperatorSnapshot) -> SpecialIdentities:
        """The test identities under the first-level salt in force."""
        return special_identities(self.settings.identity_scope, snapshot.salts.first_level)

    def token_sources(self, snapshot: OperatorSnapshot, now: EpochMillis) -> TokenSources:
        """What tokens of this moment are made from."""
        return TokenSources(
            keys=snapshot.key_ring,
            salts=self.salts_in_use(snapshot, now).table,
            runtime=snapshot.runtime_config,
            scope=self.settings.identity_scope,
            identity_v3=self.settings.identity_v3,
        )
