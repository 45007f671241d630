"""Finds redirection methods; see :mod:`regaze.redirectors.base` for their contract.

A method is a folder of ``regaze/redirectors``, or a package that another distribution names in its
entry-point group ``regaze.methods``::

    [project.entry-points."regaze.methods"]
    blend = "my_package.blend"

Importing this module is cheap: configurations are checked without torch.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

_HOME = "regaze.redirectors"
GROUP = "regaze.methods"
"""Entry points of methods from outside this package: a name, and the package of the method."""


def methods() -> dict[str, str]:
    """Packages of all methods by name, sorted; a folder here comes before others of its name."""
    found = {name: points[0].value for name, points in _outer().items()} | _inner()
    return dict(sorted(found.items()))


def _home() -> list[str]:
    return list(importlib.import_module(_HOME).__path__)


def _inner() -> dict[str, str]:
    return _below(*_home())


@cache
def _below(*roots: str) -> dict[str, str]:
    folders = [path.parent.name for root in roots for path in Path(root).glob("*/settings.py")]
    return {name: f"{_HOME}.{name}" for name in folders}


@cache
def _outer() -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for one in entry_points(group=GROUP):
        if one.value not in [other.value for other in found.setdefault(one.name, [])]:
            found[one.name].append(one)
    return found


def distribution_of(name: str) -> Distribution | None:
    """What a method from outside was installed with; None for those of this package."""
    return _outer()[name][0].dist if name in _outer() and name not in _inner() else None


def method_folder(name: str) -> Path:
    """Where the sources of a method lie.

    Raises:
        ValueError: no such method, or its package is not there.
    """
    if name not in (known := methods()):
        raise ValueError(f"unknown class of model {name!r}; expected one of {', '.join(known)}")
    roots, parts = _home(), [name]
    if name not in _inner():
        package, *parts = known[name].split(".")
        # The outermost package is found without importing it, which would import all around it.
        found = find_spec(package)
        roots = list((found and found.submodule_search_locations) or ())
    for folder in (Path(root, *parts) for root in roots):
        if (folder / "settings.py").is_file():
            return folder
    raise ValueError(f"method {name!r}: package {known[name]}: expected settings.py, found none")


def method_module(name: str, part: str) -> ModuleType:
    """The module ``settings`` or ``redirector`` of a method.

    Raises:
        ValueError: no such method, two from outside of this name, or one that cannot be imported
            or lacks what it has to define.
    """
    known = methods()
    if name not in known:
        raise ValueError(f"unknown class of model {name!r}; expected one of {', '.join(known)}")
    if name in _inner():
        return importlib.import_module(f"{known[name]}.{part}")
    if len(_outer()[name]) > 1:
        packages = ", ".join(one.value for one in _outer()[name])
        raise ValueError(f"method {name!r}: expected one package of this name, found {packages}")
    try:
        module = importlib.import_module(f"{known[name]}.{part}")
    except Exception as error:  # whatever a package from outside raises
        told = f"{type(error).__name__}: {error}"
        raise ValueError(f"method {name!r}: package {known[name]}: {told}") from error
    wanted = {"settings": "ModelSettings", "redirector": "build"}[part]
    if not hasattr(module, wanted):
        raise ValueError(f"method {name!r}: {module.__name__}: expected {wanted}, found none")
    return module
