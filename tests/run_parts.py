"""Run the parts of `make test` one after another and print the time of each."""

import subprocess
import sys
import time


def main(parts: list[str]) -> int:
    """Run `make PART` for each part; stop at the first that fails and return its status."""
    times: list[tuple[str, float]] = []
    status = 0
    for part in parts:
        print(f"== {part}", flush=True)
        begin = time.monotonic()
        status = subprocess.run(["make", "--no-print-directory", part], check=False).returncode
        times.append((part, time.monotonic() - begin))
        if status:
            break
    print("== time per part")
    for part, seconds in times:
        print(f"   {part:<8} {seconds:7.1f} s")
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
