#!/usr/bin/env bash
# Refresh requirements/*.txt: exact versions with hashes, for every platform and every Python from 3.11 on.
# Needs uv. Extra arguments go to it: `tools/lock.sh --upgrade`, `tools/lock.sh --upgrade-package duckdb`.
# Settings of this machine (mirrors, local folders) are kept out of the files: no address of any kind stands in them.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
    env -u UV_INDEX -u UV_INDEX_URL -u UV_DEFAULT_INDEX -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
        UV_CUSTOM_COMPILE_COMMAND=tools/lock.sh \
        "${UV:-uv}" pip compile --no-config --quiet --universal --python-version 3.11 --fork-strategy fewest \
        --generate-hashes --no-emit-index-url --no-emit-find-links --constraint requirements/bounds.in pyproject.toml "$@"
}

compile --group build --output-file requirements/run.txt "$@"
compile --group build --group dev --constraint requirements/run.txt --output-file requirements/dev.txt "$@"
