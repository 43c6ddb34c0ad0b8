from itertools import count

from uid2.core.nonces import LIFETIME_SECONDS, OPERATORS, PER_OPERATOR, NonceStore
from uid2.service.clock import FixedClock


def store(clock: FixedClock | None = None) -> NonceStore:
    numbers = count()
    return NonceStore((clock or FixedClock()).monotonic, lambda n: next(numbers).to_bytes(n))


def test_a_nonce_is_its_holders_and_is_spent_once() -> None:
    nonces = store()
    nonce = nonces.issue("a")
    assert not nonces.spend("b", nonce)
    assert nonces.spend("a", nonce)
    assert not nonces.spend("a", nonce)
    assert len(nonces) == 0


def test_a_late_nonce_is_spent_too() -> None:
    clock = FixedClock()
    nonces = store(clock)
    nonce = nonces.issue("a")
    clock.advance(LIFETIME_SECONDS * 1000)
    assert not nonces.spend("a", nonce)
    assert len(nonces) == 0


def test_memory_is_bounded_and_one_operator_never_drives_out_another() -> None:
    nonces = store()
    kept = nonces.issue("quiet")
    asked = [nonces.issue("loud") for _ in range(3 * PER_OPERATOR)]
    assert len(nonces) == PER_OPERATOR + 1
    assert not nonces.spend("loud", asked[0])
    assert nonces.spend("loud", asked[-1])
    assert nonces.spend("quiet", kept)
    for number in range(OPERATORS + 5):
        nonces.issue(str(number))
    assert len(nonces) == OPERATORS
