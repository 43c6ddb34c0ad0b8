"""The file with the key that signs the log of trusted enclaves."""

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from uid2.cli.admin_session import session_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

LOG_KEY_VARIABLE: Final = "UID2_LOG_KEY"
DEFAULT_LOG_KEY: Final = Path("uid2-enclave-log.pem")


def log_key_for(context: typer.Context, path: Path) -> "Ed25519PrivateKey":
    """The key in `path`; a new one, for its owner's eyes only, when there is no such file."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from uid2.admin.enclave_log import new_key_pem, read_key
    from uid2.protocol.errors import ConfigurationError

    if path.exists():
        return read_key(path)
    key = Ed25519PrivateKey.generate()
    if session_of(context).dry_run:
        return key
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(new_key_pem(key))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}", next_step="name another place: --log-key FILE"
        ) from None
    return key


def actor() -> str:
    """Who is at work, for the log."""
    return f"{getpass.getuser()}@{os.uname().nodename}"
