"""Occlum.json for Occlum 0.31, made from the amount of data and the configuration (enclave chapter, 6.1, 6.8).

Every page of the enclave is added and hashed when it starts, and only 168 MiB of a Standard_DC8_v2 are fast: the sizes
are as small as the data allow, and each says why.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from uid2.protocol.errors import ConfigurationError

MIB: Final = 1 << 20
PRODUCT_ID: Final = 770
SVN: Final = 2
CORES: Final = 8
ENTRY_POINTS: Final = ("/bin/launcher", "/bin/sgx_quote")
ALLOWED_ENVIRONMENT: Final = ("core_api_token", "optout_api_token")
ENVIRONMENT: Final = (
    "OCCLUM=yes",
    "HOME=/root",
    "MALLOC_ARENA_MAX=2",
    "PYTHONDONTWRITEBYTECODE=1",
    "PYTHONHOME=/opt/python",
    "PYTHONNOUSERSITE=1",
    "PYTHONSAFEPATH=1",
    "PYTHONUNBUFFERED=1",
)
MOST_SALTS: Final = 1 << 20
MOST_OPTOUTS: Final = 200_000_000
LARGEST_USER_SPACE: Final = 26 * 1024 * MIB

_PROGRAM: Final = 192 * MIB  # interpreter, libraries and what 256 connections hold
_SALT_ROW: Final = 136  # packed row with key material
_SALT_LINE: Final = 220  # longest usual line of a salt file
_OPTOUT_ROW: Final = 44  # row of the packed index
_OPTOUT_ENTRY: Final = 72  # entry of a delta or partition file
_STACK: Final = 4 * MIB
_HEAP: Final = 64 * MIB
_KERNEL_STACK: Final = MIB
_KERNEL_HEAP: Final = 256 * MIB
_MARGIN: Final = (3, 2)
_STEP: Final = 64 * MIB
_QUEUE_BYTES: Final = 256 * MIB
_LIBOS_THREADS: Final = 8
_EXECUTOR_THREADS: Final = 12
_REFRESH_THREADS: Final = 12
_LOGOUT_THREADS: Final = 16


@dataclass(frozen=True, slots=True)
class Size:
    """One setting: bytes, or a count for threads, and why it is that large."""

    name: str
    value: int
    reason: str

    @property
    def text(self) -> str:
        return f"{self.value // MIB}MB" if self.value >= MIB else str(self.value)


@dataclass(frozen=True, slots=True)
class EnclaveSizes:
    kernel_heap: Size
    kernel_stack: Size
    user_space: Size
    threads: Size
    stack: Size
    heap: Size

    def lines(self) -> tuple[str, ...]:
        """One line a size, for the output of a build."""
        sizes = (self.kernel_heap, self.kernel_stack, self.user_space, self.threads, self.stack, self.heap)
        return tuple(f"{size.name:<24} {size.text:>8}  {size.reason}" for size in sizes)


def enclave_sizes(salts: int, optouts: int, members: Mapping[str, Any]) -> EnclaveSizes:
    """Sizes for so many salt buckets and opt-outs. `members` are those of the configuration file.

    ConfigurationError: counts outside the format's range, or more memory than a Standard_DC8_v2 has.
    """
    _check_count("salts", salts, MOST_SALTS)
    _check_count("opt-outs", optouts, MOST_OPTOUTS)
    lanes = _whole(members, "bulk_threads", 0) or CORES
    queue = _whole(members, "bulk_queue_bytes", _QUEUE_BYTES)
    needed = 1 + lanes + _EXECUTOR_THREADS + _REFRESH_THREADS + _LOGOUT_THREADS + _LIBOS_THREADS
    threads = -(-needed // 16) * 16
    parts = (
        ("program", _PROGRAM),
        (f"{salts:,} salts, kept and loading", salts * (2 * _SALT_ROW + _SALT_LINE)),
        (f"{optouts:,} opt-outs, kept and loading", optouts * (2 * _OPTOUT_ROW + _OPTOUT_ENTRY)),
        ("bulk bodies and their answers", 2 * queue),
        (f"stacks of {threads} threads", threads * _STACK),
    )
    total = sum(size for _, size in parts) * _MARGIN[0] // _MARGIN[1]
    user_space = -(-total // _STEP) * _STEP
    reason = "half as much again as " + " + ".join(f"{-(-size // MIB)} MB {name}" for name, size in parts)
    if user_space > LARGEST_USER_SPACE:
        raise ConfigurationError(
            f"{salts:,} salts and {optouts:,} opt-outs would need {user_space // MIB} MB inside the enclave; "
            f"the tested node holds {LARGEST_USER_SPACE // MIB} MB",
            next_step="lower bulk_queue_bytes, or check the counts",
        )
    return EnclaveSizes(
        kernel_heap=Size("kernel_space_heap_size", _KERNEL_HEAP, "the LibOS: socket buffers and its file cache"),
        kernel_stack=Size("kernel_space_stack_size", _KERNEL_STACK, "a thread inside the LibOS; larger ones fail"),
        user_space=Size("user_space_size", user_space, reason),
        threads=Size(
            "max_num_of_threads",
            threads,
            f"1 main + {lanes} bulk + {_EXECUTOR_THREADS} executor + {_REFRESH_THREADS} refresh"
            f" + {_LOGOUT_THREADS} logout"
            f" + {_LIBOS_THREADS} LibOS, in sixteens",
        ),
        stack=Size("default_stack_size", _STACK, "Python's recursion limit with room to spare"),
        heap=Size("default_heap_size", _HEAP, "brk; larger blocks are mapped"),
    )


def occlum_config(sizes: EnclaveSizes, *, debuggable: bool = False, environment: str | None = None) -> dict[str, Any]:
    """The members of Occlum.json. ConfigurationError: a debuggable enclave for integ or prod."""
    if debuggable and environment in ("integ", "prod"):
        raise ConfigurationError(
            f"a debuggable enclave shows its memory to the host: it is refused for {environment}",
            next_step="leave out --debug, or build the configuration local or sim",
        )
    zero = {"high": "0x0", "low": "0x0"}
    return {
        "resource_limits": {
            "kernel_space_heap_size": sizes.kernel_heap.text,
            "kernel_space_stack_size": sizes.kernel_stack.text,
            "user_space_size": sizes.user_space.text,
            "max_num_of_threads": sizes.threads.value,
        },
        "process": {
            "default_stack_size": sizes.stack.text,
            "default_heap_size": sizes.heap.text,
            # Required, and without effect in this version.
            "default_mmap_size": f"{(sizes.user_space.value - sizes.heap.value - sizes.stack.value) // MIB}MB",
        },
        "entry_points": list(ENTRY_POINTS),
        "env": {"default": list(ENVIRONMENT), "untrusted": list(ALLOWED_ENVIRONMENT)},
        "metadata": {
            "product_id": PRODUCT_ID,
            "version_number": SVN,
            "debuggable": debuggable,
            "disable_log": not debuggable,
            "enable_kss": False,
            "family_id": zero,
            "ext_prod_id": dict(zero),
        },
        "feature": {"amx": 0, "pkru": 0, "io_uring": 0, "enable_edmm": False, "enable_posix_shm": False},
        "mount": [
            {
                "target": "/",
                "type": "unionfs",
                "options": {
                    "layers": [
                        {"target": "/", "type": "sefs", "source": "./build/mount/__ROOT", "options": {"MAC": ""}},
                        {"target": "/", "type": "sefs", "source": "./run/mount/__ROOT"},
                    ]
                },
            },
            {"target": "/tmp", "type": "sefs", "source": "./run/mount/tmp", "options": {"temporary": True}},  # noqa: S108 - inside
            {"target": "/proc", "type": "procfs"},
            {"target": "/dev", "type": "devfs"},
        ],
    }


def encode_occlum_config(config: Mapping[str, Any]) -> bytes:
    """The file: the same bytes for the same settings."""
    return msgspec.json.format(msgspec.json.encode(config, order="sorted"), indent=2) + b"\n"


def weaknesses(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What in an Occlum.json lets the host in: debugging, variables, host files, entry points, shared rings."""
    found: list[str] = []
    metadata, env, feature = (_object(config, name) for name in ("metadata", "env", "feature"))
    if metadata.get("debuggable") is not False:
        found.append("metadata.debuggable is not false: the host may read the enclave's memory")
    passed = env.get("untrusted")
    extra = sorted(set(map(str, passed)) - set(ALLOWED_ENVIRONMENT)) if isinstance(passed, list) else ["(not a list)"]
    if extra:
        found.append(f"env.untrusted lets the host set {', '.join(extra)}")
    mounts = config.get("mount")
    for mount in mounts if isinstance(mounts, list) else []:
        if isinstance(mount, dict) and mount.get("type") in ("hostfs", "async_sfs", "ext2"):
            found.append(f"mount {mount.get('target')} is {mount['type']}: files of the host")
    if config.get("entry_points") != list(ENTRY_POINTS):
        found.append(f"entry_points are not exactly {' and '.join(ENTRY_POINTS)}")
    if feature.get("io_uring"):
        found.append("feature.io_uring shares request rings with the host")
    return tuple(found)


def _object(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def _check_count(name: str, count: int, most: int) -> None:
    if not 0 <= count <= most:
        raise ConfigurationError(f"{count:,} {name}: expected 0 to {most:,}", next_step="correct the count")


def _whole(members: Mapping[str, Any], name: str, default: int) -> int:
    value = members.get(name, default)
    if type(value) is not int or value < 0:
        raise ConfigurationError(
            f"configuration key {name} must be a whole number, 0 or more", next_step=f"correct {name}"
        )
    return value
