"""One thread per process: tiny networks lose more to waiting threads than they gain."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
