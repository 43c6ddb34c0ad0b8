import pytest

from uid2.service.clock import FixedClock, SequenceEntropy, SystemClock, SystemEntropy


def test_advancing_moves_both_clocks_and_setting_only_the_wall_clock() -> None:
    clock = FixedClock(1_000)
    clock.advance(2_500)
    clock.set(10)
    assert (clock.now_ms(), clock.monotonic()) == (10, 2.5)


def test_a_clock_does_not_advance_backwards() -> None:
    with pytest.raises(ValueError, match="set"):
        FixedClock().advance(-1)


def test_system_sources() -> None:
    assert SystemClock().now_ms() > 1_600_000_000_000
    assert len({SystemEntropy().bytes(16) for _ in range(4)}) == 4


def test_a_sequence_gives_its_values_in_order_and_no_others() -> None:
    entropy = SequenceEntropy([b"ab", b"cde"])
    assert entropy.bytes(2) == b"ab"
    with pytest.raises(ValueError, match="2 bytes"):
        entropy.bytes(2)
    with pytest.raises(ValueError, match="used up"):
        entropy.bytes(1)
