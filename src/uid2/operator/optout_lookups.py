"""How long look-ups of opt-outs take (operator chapter, 14.5).

The label `bloom_filter` keeps the reference's values. The packed index has no such filter and is exact: a look-up is a
`true_positive` or a `true_negative`, never a `false_positive`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from uid2.bulk.tables import OptOutView
from uid2.protocol.ids import FirstLevelHash
from uid2.service.metrics import Metrics


@dataclass(frozen=True, slots=True)
class TimedOptOuts:
    """The same answers, with an observation of each."""

    optouts: OptOutView
    metrics: Metrics

    def timestamp_of_hash(self, flh: FirstLevelHash, /) -> int:
        """Epoch seconds of the latest opt-out, 0 when there is none."""
        began = time.perf_counter()
        found = self.optouts.timestamp_of_hash(flh)
        seconds = time.perf_counter() - began
        outcome = "true_positive" if found else "true_negative"
        self.metrics.observe("uid2_optout_get_optout_timestamp_seconds", seconds, bloom_filter=outcome)
        return found

    def timestamps_of_ids(self, raw_uids: Sequence[str]) -> list[int | None]:
        """Epoch seconds of the earliest record of each, None where there is none; one observation, of their mean."""
        began = time.perf_counter()
        found = self.optouts.timestamps_of_ids(raw_uids)
        if raw_uids:
            mean = (time.perf_counter() - began) / len(raw_uids)
            self.metrics.observe("uid2_optout_get_ad_id_optout_timestamp_seconds", mean)
        return found
