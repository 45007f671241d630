#!/usr/bin/env bash
# Guess:   `pytest -n 2 --dist loadgroup` runs all tests marked `xdist_group("one")` in one process,
#          so that what a session fixture makes for them at some cost is made once.
# Happens: with pytest 9.2.0 and pytest-xdist 3.8.0 the mark does nothing and nobody is told: tests
#          of one group run in both processes and the session fixture runs twice. xdist writes the
#          group behind an "@" into the private attribute `_nodeid` of each test; pytest 9.2 makes
#          `nodeid` of another attribute. With pytest 8.4.2 the same xdist keeps the group together.
#          `--dist loadfile`, which goes by the file's name, works with both.
# Seen:    pytest 9.2.0 and 8.4.2, pytest-xdist 3.8.0, execnet 2.1.2, Python 3.11, Linux x86-64,
#          2026-11-30
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > test_group.py <<'PY'
import os, time
import pytest

@pytest.fixture(scope="session")
def costly():
    with open("made.txt", "a") as stream:
        stream.write(os.environ["PYTEST_XDIST_WORKER"] + "\n")

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(20))
def test_one(number, costly):
    time.sleep(0.05)
PY
fail=0
for version in 8.4.2 9.2.0; do
  python3 -m venv "$version"
  "$version/bin/pip" install --quiet --disable-pip-version-check \
    "pytest==$version" pytest-xdist==3.8.0 execnet==2.1.2
  for dist in loadgroup loadfile; do
    rm -f made.txt
    "$version/bin/python" -m pytest -q -p no:cacheprovider -n 2 --dist "$dist" > log.txt || { cat log.txt; exit 1; }
    times=$(wc -l < made.txt)
    echo "pytest $version --dist $dist: the session fixture of one group ran $times time(s)"
    case "$version $dist" in
      "9.2.0 loadgroup") expected=2 ;;
      *) expected=1 ;;
    esac
    [ "$times" = "$expected" ] || fail=1
  done
done
[ "$fail" = 0 ] || { echo "this is not what was seen before"; exit 1; }
