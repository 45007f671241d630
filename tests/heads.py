"""The procedural head in small, which many files of tests start from."""

import copy
import functools

from regaze.capture import HeadConfig, build_head


@functools.cache
def _made():
    return build_head(HeadConfig.tiny())


def tiny_head():
    """One that its caller may change; making it anew would take nearly a second."""
    return copy.deepcopy(_made())
