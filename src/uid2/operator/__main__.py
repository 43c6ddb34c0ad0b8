"""`python -I -B -m uid2.operator FILE`: the operator as the enclave image starts it, without the command line."""

import sys

from uid2.operator.main import serve


def main(arguments: list[str]) -> int:
    """Exit code of the operator; 2 for wrong arguments."""
    if len(arguments) != 1:
        print("error: expected one configuration file", file=sys.stderr)  # noqa: T201 - no log yet
        print("  next step: python -I -B -m uid2.operator /app/conf/config.json", file=sys.stderr)  # noqa: T201
        return 2
    return serve(arguments[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
