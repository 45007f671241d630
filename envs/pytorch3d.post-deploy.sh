#!/usr/bin/env bash
# As main.post-deploy.sh, but torch and what belongs to it stay those that came with pytorch3d.
set -euo pipefail
root="${REGAZE_ROOT:-$PWD}"
if [ ! -f "$root/requirements/base.txt" ]; then
    echo "$root/requirements/base.txt: no such file; set REGAZE_ROOT to the repository" >&2
    exit 1
fi
lock="$(mktemp)"
trap 'rm -f "$lock"' EXIT
# An entry is a line with the name and the indented lines that follow it.
awk '/^[^ #]/ { kept = !/^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==/ } kept' \
    "$root/requirements/base.txt" > "$lock"
python -m pip install --disable-pip-version-check --no-deps --require-hashes -r "$lock"
python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e "$root"
