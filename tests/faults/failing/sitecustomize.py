"""In jobs of the kill harness: SIGUSR1 lets a job fail, as a fault in its code does."""

import signal


def fail(*_):
    raise RuntimeError("the kill harness lets this job fail")


signal.signal(signal.SIGUSR1, fail)
