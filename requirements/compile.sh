#!/usr/bin/env bash
# Write the hash-locked requirement files anew from pyproject.toml; no addresses go into them.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=(.venv/bin/uv --no-python-downloads --system-certs pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links
    --python-version 3.11 --custom-compile-command requirements/compile.sh)
echo uv | "${uv[@]}" --no-header -o requirements/uv.txt -
"${uv[@]}" --extra build pyproject.toml -o requirements/run.txt
"${uv[@]}" --extra build --extra dev --extra parquet --extra sqs pyproject.toml -o requirements/dev.txt
"${uv[@]}" --extra build --extra package -c requirements/run.txt pyproject.toml -o requirements/package.txt
# What goes into the enclave: the versions that run everywhere else, and nothing that only the command line needs.
"${uv[@]}" -c requirements/run.txt requirements/enclave.in -o requirements/enclave.txt
