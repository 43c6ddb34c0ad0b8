"""Metrics of several processes, of which some have ended: what they had counted stays in the sum."""

from collections.abc import Collection, Iterable
from typing import final

from uid2.service.metrics import MetricState, join_states, lasting_part


@final
class GatheredMetrics:
    """Keeps the last state of every process, by a number that is never given twice at a time."""

    def __init__(self) -> None:
        self._latest: dict[int, MetricState] = {}
        self._ended: MetricState = []

    def update(self, answers: Iterable[tuple[int, MetricState]], living: Collection[int]) -> None:
        """`living` are the processes there are now; one that did not answer in time keeps its last state."""
        self._latest.update(answers)
        for process in [known for known in self._latest if known not in living]:
            self._ended = join_states([self._ended, lasting_part(self._latest.pop(process))])

    def states(self) -> list[MetricState]:
        return [self._ended, *self._latest.values()]
