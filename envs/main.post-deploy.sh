#!/usr/bin/env bash
# Runs in the new environment, from the working directory of the workflow. When that is not the
# repository, REGAZE_ROOT says where the repository is.
set -euo pipefail
root="${REGAZE_ROOT:-$PWD}"
if [ ! -f "$root/requirements/base.txt" ]; then
    echo "$root/requirements/base.txt: no such file; set REGAZE_ROOT to the repository" >&2
    exit 1
fi
python -m pip install --disable-pip-version-check --no-deps --require-hashes -r "$root/requirements/base.txt"
python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e "$root"
