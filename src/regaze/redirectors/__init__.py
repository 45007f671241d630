"""Redirection methods; see :mod:`regaze.redirectors.base` for their contract.

A method is a folder of this package, or a package that another distribution names in its
entry-point group ``regaze.methods``::

    [project.entry-points."regaze.methods"]
    blend = "my_package.blend"

Importing this package is cheap: configurations are checked without torch.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

GROUP = "regaze.methods"
"""Entry points of methods from outside this package: a name, and the package of the method."""


def methods() -> dict[str, str]:
    """Packages of all methods by name, sorted; a folder here comes before others of its name."""
    found = {one.name: one.value for one in _outer()}
    found |= {
        path.parent.name: f"{__name__}.{path.parent.name}"
        for root in __path__
        for path in Path(root).glob("*/settings.py")
    }
    return dict(sorted(found.items()))


@cache
def _outer() -> tuple:
    return tuple(entry_points(group=GROUP))


def method_module(name: str, part: str) -> ModuleType:
    """The module ``settings`` or ``redirector`` of a method.

    Raises:
        ValueError: no such method, or one from outside that cannot be imported.
    """
    known = methods()
    if name not in known:
        raise ValueError(f"unknown class of model {name!r}; expected one of {', '.join(known)}")
    try:
        return importlib.import_module(f"{known[name]}.{part}")
    except ImportError as error:
        if known[name].startswith(__name__):
            raise
        raise ValueError(f"method {name!r} of package {known[name]}: {error}") from error
