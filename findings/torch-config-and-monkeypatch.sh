#!/usr/bin/env bash
# Guess:   pytest's `monkeypatch.setattr(torch._inductor.config, "freezing", True)` changes an option
#          for one test and puts the old value back after it, as it does for any module.
# Happens: with torch 2.15.0 and pytest 9.2.0 the change works, but taking it back removes the option:
#          every later read in the same process fails with an AttributeError that says the option does
#          not exist, in whatever test compiles or exports next. Since pytest 9.2 the value to go back
#          to is looked up in the object's __dict__ where its class has no data descriptor of that name;
#          torch's config modules keep options elsewhere, so pytest takes the option for one that was
#          not there. With pytest 8.4.2 it is put back. `config.patch(...)`, torch's own way, puts it
#          back with both.
# Seen:    torch 2.15.0, pytest 9.2.0 and 8.4.2, Python 3.11, Linux x86-64, 2026-12-01
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > options.py <<'PY'
import sys

import pytest
from torch._inductor import config

before = config.fallback_random
with config.patch(fallback_random=not before):
    changed = config.fallback_random != before
own = changed and config.fallback_random == before
before = config.freezing
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(config, "freezing", not before)
    assert config.freezing != before
try:
    restored = str(config.freezing == before)
except AttributeError as error:
    restored = str(error)
print(f"pytest {pytest.__version__}: config.patch restores: {own}; setattr restores: {restored}")
lost = restored == "torch._inductor.config.freezing does not exist"
kept = restored == "True"
sys.exit(0 if own and (lost if pytest.__version__ == "9.2.0" else kept) else 1)
PY
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6
for version in 8.4.2 9.2.0; do
  venv/bin/pip install --quiet --disable-pip-version-check "pytest==$version"
  venv/bin/python options.py || { echo "this is not what was seen before"; exit 1; }
done
