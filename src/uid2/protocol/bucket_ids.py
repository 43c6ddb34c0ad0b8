"""Bucket ids: a prefix and a Hashids text of the bucket's number (tokens chapter, 5.5)."""

from typing import Final, final

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ1234567890"
_SEPARATORS: Final = frozenset("cfhistuCFHISTU")
_GUARDS: Final = 4
_LENGTH: Final = 9


@final
class BucketIds:
    """Encoder for one prefix and secret. The alphabet depends on the number only by its lottery character, so the
    44 alphabets are made once."""

    __slots__ = ("_alphabets", "_guards", "_lottery", "_prefix")

    def __init__(self, id_prefix: str, id_secret: str) -> None:
        shuffled = _shuffle("".join(c for c in _ALPHABET if c not in _SEPARATORS), id_secret)
        self._prefix = id_prefix
        self._guards = shuffled[:_GUARDS]
        self._lottery = shuffled[_GUARDS:]
        size = len(self._lottery)
        self._alphabets = tuple(
            _shuffle(self._lottery, (first + id_secret + self._lottery)[:size]) for first in self._lottery
        )

    def encode(self, number: int) -> str:
        """The bucket id; ValueError for a negative number."""
        if number < 0:
            raise ValueError("a bucket number is not negative")
        size = len(self._lottery)
        checksum = number % 100
        alphabet = self._alphabets[checksum % size]
        text = self._lottery[checksum % size] + _digits(number, alphabet)
        if len(text) < _LENGTH:
            text = self._guards[(checksum + ord(text[0])) % _GUARDS] + text
        if len(text) < _LENGTH:
            text += self._guards[(checksum + ord(text[2])) % _GUARDS]
        half = size // 2
        while len(text) < _LENGTH:
            alphabet = _shuffle(alphabet, alphabet)
            text = alphabet[half:] + text + alphabet[:half]
            excess = len(text) - _LENGTH
            if excess > 0:
                text = text[excess // 2 : excess // 2 + _LENGTH]
        return self._prefix + text


def _digits(number: int, alphabet: str) -> str:
    digits = []
    while True:
        number, digit = divmod(number, len(alphabet))
        digits.append(alphabet[digit])
        if not number:
            return "".join(reversed(digits))


def _shuffle(alphabet: str, salt: str) -> str:
    """The fixed permutation of the alphabet that the salt selects."""
    if not salt:
        return alphabet
    characters = list(alphabet)
    at, total = 0, 0
    for last in range(len(characters) - 1, 0, -1):
        at %= len(salt)
        code = ord(salt[at])
        total += code
        other = (code + at + total) % last
        characters[last], characters[other] = characters[other], characters[last]
        at += 1
    return "".join(characters)
