"""Every error of the product.

    Uid2Error                      code, message, cause, next_step
    ├── ClientInputError           the caller sent something invalid (tokens chapter, section 15, kind "client")
    │   └── EnvelopeError          a request envelope or wrapped refresh token that cannot be opened
    ├── InternalTokenError         malformed or unauthentic token data (kind "internal")
    ├── NoActiveKeyError           no active master, refresh or site key
    ├── MultipleDefaultKeysetsError two enabled default keysets for one site
    ├── StoreFormatError           a store file is wrong: names file, record and field
    ├── StoreUnavailableError      a store file cannot be fetched
    ├── ConfigurationError         bad configuration or arguments (exit 2)
    ├── DependencyError            a service we call is unreachable or answered wrongly (exit 4 at start)
    ├── BusyError                  the bulk queue is full or too slow (429)
    └── DurabilityError            an opt-out could not be made durable

The text of an error never holds an identity, hash, token, key or secret.
"""


class Uid2Error(Exception):
    """Root of the tree. `message` says what is wrong and where, `next_step` what to do about it."""

    code = "error"

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def diagnosis(self) -> str:
        """The message with the next step, for people."""
        return f"{self.message}\n  next step: {self.next_step}" if self.next_step else self.message


class ClientInputError(Uid2Error):
    code = "client_error"


class EnvelopeError(ClientInputError):
    pass


class InternalTokenError(Uid2Error):
    code = "internal_token"


class NoActiveKeyError(Uid2Error):
    code = "no_active_key"


class MultipleDefaultKeysetsError(Uid2Error):
    code = "multiple_default_keysets"


class StoreFormatError(Uid2Error):
    """`file`, `record` (index or line, counted from 0) and `field` say where; any of them may be empty."""

    code = "store_format"

    def __init__(self, message: str, *, file: str = "", record: str = "", field: str = "", next_step: str = "") -> None:
        where = ", ".join(
            f"{name} {value}" for name, value in (("file", file), ("record", record), ("field", field)) if value
        )
        super().__init__(f"{message} ({where})" if where else message, next_step=next_step)
        self.file, self.record, self.field, self.bare_message = file, record, field, message

    def in_file(self, file: str) -> "StoreFormatError":
        """The same finding with the name of the file filled in."""
        return StoreFormatError(
            self.bare_message, file=file, record=self.record, field=self.field, next_step=self.next_step
        )


class StoreUnavailableError(Uid2Error):
    code = "store_unavailable"


class ConfigurationError(Uid2Error):
    code = "configuration"


class DependencyError(Uid2Error):
    code = "dependency"


class BusyError(Uid2Error):
    code = "too_many_requests"


class DurabilityError(Uid2Error):
    code = "durability"
