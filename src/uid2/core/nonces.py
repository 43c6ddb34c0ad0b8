"""Nonces of /attest/challenge: each belongs to one operator key and is spent once (design, 11.2)."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, final

from uid2.protocol.attest_messages import NONCE_LENGTH

LIFETIME_SECONDS: Final = 60
# Bounds on memory: an operator that asks and never attests drives out its own oldest nonces, nobody else's.
PER_OPERATOR: Final = 32
OPERATORS: Final = 10_000


@final
class NonceStore:
    """`monotonic` gives seconds. The holder of a nonce is the hash of an operator key."""

    def __init__(self, monotonic: Callable[[], float], entropy: Callable[[int], bytes]) -> None:
        self._monotonic = monotonic
        self._entropy = entropy
        self._expiry: OrderedDict[str, OrderedDict[bytes, float]] = OrderedDict()

    def issue(self, holder: str) -> bytes:
        nonce = self._entropy(NONCE_LENGTH)
        held = self._expiry.setdefault(holder, OrderedDict())
        held[nonce] = self._monotonic() + LIFETIME_SECONDS
        self._expiry.move_to_end(holder)
        if len(held) > PER_OPERATOR:
            held.popitem(last=False)
        if len(self._expiry) > OPERATORS:
            self._expiry.popitem(last=False)
        return nonce

    def spend(self, holder: str, nonce: bytes) -> bool:
        """Whether the nonce was this holder's, unspent and in time. It is spent either way."""
        held = self._expiry.get(holder)
        if held is None:
            return False
        expires = held.pop(nonce, None)
        if not held:
            del self._expiry[holder]
        return expires is not None and self._monotonic() < expires

    def __len__(self) -> int:
        return sum(map(len, self._expiry.values()))
