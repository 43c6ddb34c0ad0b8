"""What an administrative operation can be refused for."""

from uid2.protocol.errors import ConfigurationError, Uid2Error


class RefusedError(ConfigurationError):
    """The inputs do not fit the store; nothing was written. `status` is the HTTP status of the reference for it."""

    code = "refused"

    def __init__(self, message: str, *, status: int = 400, next_step: str = "correct the arguments") -> None:
        super().__init__(message, next_step=next_step)
        self.status = status


class ConflictError(Uid2Error):
    """Somebody else has written the object since it was read."""

    code = "conflict"


def not_found(what: str, next_step: str) -> RefusedError:
    return RefusedError(f"{what} not found", status=404, next_step=next_step)
