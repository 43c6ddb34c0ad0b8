"""Exit codes, and how a program ends: the last log line names the cause and the next step."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from enum import IntEnum
from typing import Any

from uid2.protocol.errors import ConfigurationError, DependencyError, StoreUnavailableError, Uid2Error

_log = logging.getLogger(__name__)


class ExitCode(IntEnum):
    NORMAL = 0
    FAILURE = 1
    CONFIGURATION = 2
    ATTESTATION_REFUSED = 3
    DEPENDENCY = 4


def exit_code_of(error: BaseException, *, started: bool = False) -> ExitCode:
    """The code for an error that ends the program; after the start an unreachable dependency is a plain failure."""
    if isinstance(error, ConfigurationError):
        return ExitCode.CONFIGURATION
    if isinstance(error, Uid2Error) and error.code == "attestation_refused":
        return ExitCode.ATTESTATION_REFUSED
    if isinstance(error, DependencyError | StoreUnavailableError) and not started:
        return ExitCode.DEPENDENCY
    return ExitCode.FAILURE


def run_main(
    main: Coroutine[Any, Any, int | None],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    has_started: Callable[[], bool] = lambda: False,
) -> int:
    """Runs a program and gives its exit code. An unforeseen error is logged with its traceback."""
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return int(runner.run(main) or ExitCode.NORMAL)
    except KeyboardInterrupt:
        return ExitCode.NORMAL
    except Uid2Error as error:
        code = exit_code_of(error, started=has_started())
        _log.critical(error.message, extra={"cause": error.code, "next_step": error.next_step, "exit_code": int(code)})
        return code
    except Exception as error:  # noqa: BLE001 - the last resort of the whole program
        _log.critical(
            "the program failed",
            exc_info=error,
            extra={"cause": type(error).__name__, "next_step": "report this", "exit_code": int(ExitCode.FAILURE)},
        )
        return ExitCode.FAILURE
