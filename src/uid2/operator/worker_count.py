"""How many processes serve: `worker_processes`, else `service_instances` as far as there are cores (design, 5)."""

import logging

from uid2.operator.settings import OperatorSettings
from uid2.protocol.errors import ConfigurationError

_log = logging.getLogger(__name__)


def worker_count(settings: OperatorSettings, cores: int, *, libos: bool) -> int:
    """1: the operator itself serves. ConfigurationError: several are demanded where memory cannot be shared."""
    wanted = settings.worker_processes
    if libos:
        if wanted > 1:
            raise ConfigurationError(
                f"worker_processes is {wanted}, but inside an enclave processes share no memory",
                next_step="set worker_processes to 1 or leave it out; more operators do what more processes would",
            )
        return 1
    if wanted > cores:
        _log.warning("worker_processes is %d on a machine with %d cores", wanted, cores)
    return wanted or max(1, min(settings.service_instances, cores))


def libos_below() -> bool:
    """Whether this process runs in an enclave's LibOS."""
    from uid2.attestation.tee.probe import inside_libos

    return inside_libos()
