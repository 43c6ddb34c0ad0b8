"""One measured figure."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Result:
    """`better` is `higher` or `lower`; `target` None means a figure without a bar."""

    name: str
    value: float
    unit: str
    better: str = "higher"
    target: float | None = None

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.better == "higher" else self.value <= self.target

    def members(self) -> dict[str, Any]:
        return asdict(self) | {"met": self.met}
