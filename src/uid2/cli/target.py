"""Which operator a command talks to: the options, else the environment, else the running development stack."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from uid2.client.operator import OperatorClient

UrlOption = Annotated[
    str | None, typer.Option("--url", envvar="UID2_URL", help="Address of the operator.", show_default=False)
]
KeyOption = Annotated[
    str | None, typer.Option("--key", envvar="UID2_CLIENT_KEY", help="Client key.", show_default=False)
]
SecretOption = Annotated[
    str | None,
    typer.Option("--secret", envvar="UID2_CLIENT_SECRET", help="Client secret, base64.", show_default=False),
]
StateOption = Annotated[
    Path, typer.Option("--state", help="State folder of `uid2 up`: where address, key and secret come from otherwise.")
]
DEFAULT_STATE = Path(".uid2")


def operator_client(url: str | None, key: str | None, secret: str | None, state: Path) -> "OperatorClient":
    """A client from whatever is given; ConfigurationError when a part is missing everywhere.

    A key without its secret, or the other way round, is refused: mixing with the stack's own would only confuse.
    """
    from uid2.client.operator import OperatorClient
    from uid2.devstack.state import read_credentials, read_running
    from uid2.protocol.errors import ConfigurationError

    if (key is None) != (secret is None):
        missing = "--secret" if secret is None else "--key"
        raise ConfigurationError("a client key and its secret belong together", next_step=f"give {missing} as well")
    if key is not None and secret is not None and url is not None:
        return OperatorClient(url, key, secret)
    running = read_running(state)
    if key is None or secret is None:
        credentials = read_credentials(state, running.identity_scope)
        key, secret = credentials.client_key, credentials.client_secret
    return OperatorClient(url or running.operators[0], key, secret)
