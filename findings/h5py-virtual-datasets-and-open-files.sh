#!/usr/bin/env bash
# Guess:   A virtual dataset over one HDF5 file per person reads like one dataset; where the process
#          may open no more files, reading fails, as h5py.File does then and as it does for a source
#          that is cut off.
# Happens: While the dataset is open it keeps every source open that it has read from, and where the
#          next one cannot be opened its rows are the fill value, 0: no error, no warning. With a
#          usual limit of 1,024 open files a set of 1,474 people is almost a third black pictures
#          with labels of 0, in the same process that reads the rest rightly. A source that is cut
#          off does raise an error. Reading each person through an h5py.File of its own is right.
# Seen:    h5py 3.16.0 (HDF5 2.0.0), numpy 2.4.6, Python 3.11, Linux x86-64, 2026-11-30
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check h5py==3.16.0 numpy==2.4.6
cat > look.py <<'PY'
import os
import resource
import sys

import h5py
import numpy as np

PEOPLE, ROWS, SPARE = 60, 4, 20

layout = h5py.VirtualLayout((PEOPLE * ROWS,), "float32")
for person in range(PEOPLE):
    with h5py.File(f"{person}.h5", "w") as file:
        file["gaze"] = np.full(ROWS, person + 1, np.float32)
    rows = slice(person * ROWS, (person + 1) * ROWS)
    layout[rows] = h5py.VirtualSource(f"{person}.h5", "gaze", (ROWS,))
with h5py.File("all.h5", "w", libver="latest") as file:
    file.create_virtual_dataset("gaze", layout)


def opened():
    return len(os.listdir("/proc/self/fd")) - 1


def black(spare):
    """People who read as zeros where so many further files may be opened, and files held then."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened() + spare, most))
    before = opened()
    with h5py.File("all.h5") as file:
        gaze = file["gaze"]
        lost = int((gaze[:] == 0).sum()) // ROWS
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        return lost, opened() - before


few, (many, held) = black(SPARE), black(PEOPLE + 20)
print(f"{SPARE} more files may be opened: {few[0]} of {PEOPLE} people are zeros, no error")
print(f"{PEOPLE + 20} more files may be opened: {many} of {PEOPLE}; {held} files are held open")

whole = open("3.h5", "rb").read()
open("3.h5", "wb").write(whole[: len(whole) // 2])
try:
    with h5py.File("all.h5") as file:
        file["gaze"][:]
    cut = "no error"
except OSError as error:
    cut = type(error).__name__
print(f"a source is cut off: {cut}")

sys.exit(not (few[0] >= PEOPLE - SPARE and many == 0 and held > PEOPLE and cut == "OSError"))
PY
venv/bin/python look.py
