"""The ports of a development stack on loopback, all shifted by the environment variable `port_offset`.

Core: 8088, ops 9088. OptOut: 8081, control 8082, ops 9081.
Operator n, from 0: 8080 + 10 n, ops 9080 + 10 n and 9091 + 10 n.
"""

import socket
from collections.abc import Iterable
from typing import Final

from uid2.devstack.demo_programs import MOST_OPERATORS
from uid2.protocol.errors import ConfigurationError

HOST: Final = "127.0.0.1"
CORE_PORT: Final = 8088
CORE_OPS_PORT: Final = 9088
OPTOUT_PORT: Final = 8081
OPTOUT_CONTROL_PORT: Final = 8082
OPTOUT_OPS_PORT: Final = 9081
OPERATOR_PORT: Final = 8080
OPERATOR_OPS_PORTS: Final = (9080, 9091)
PORT_STEP: Final = 10


def port_offset(text: str) -> int:
    """The value of the environment variable `port_offset`."""
    try:
        offset = int(text)
    except ValueError:
        offset = -1
    if not 0 <= offset <= 65_535 - max(OPERATOR_OPS_PORTS) - PORT_STEP * MOST_OPERATORS:
        raise ConfigurationError(
            "the environment variable port_offset is not a port distance",
            next_step="set it to a number from 0 to 50000",
        )
    return offset


def ports_of(offset: int, operators: int) -> list[int]:
    """Every port of a stack, the service ports of the operators first."""
    shifts = [offset + PORT_STEP * n for n in range(operators)]
    return [
        *(OPERATOR_PORT + shift for shift in shifts),
        *(port + shift for shift in shifts for port in OPERATOR_OPS_PORTS),
        *(port + offset for port in (CORE_PORT, CORE_OPS_PORT, OPTOUT_PORT, OPTOUT_CONTROL_PORT, OPTOUT_OPS_PORT)),
    ]


def require_free_ports(ports: Iterable[int]) -> None:
    """ConfigurationError when one of the ports on loopback is taken."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                raise ConfigurationError(
                    f"port {port} is already in use",
                    next_step=f"stop the program that holds it (`ss -ltnp 'sport = :{port}'` names it), "
                    "or shift every port: `port_offset=1000 uid2 up`",
                ) from None
