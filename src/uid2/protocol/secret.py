"""A value that hides itself wherever text is made of it."""

from typing import Final, final

HIDDEN: Final = "<secret>"


@final
class Secret:
    """Bytes that appear as `<secret>` in repr, str, format and pickles; `reveal()` gives them."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return HIDDEN

    def __reduce__(self) -> tuple[type, tuple[bytes]]:
        raise TypeError("a Secret cannot be pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)
