"""What an adapter module needs: registration, closeness and the loader's helpers.

An adapter module is any ``tests/conformance/adapters/*.py``; it is imported by itself::

    from kit import adapter, assert_close

    @adapter("topic/name*")
    def check(case):                       # or any of: manifest, state, inputs, golden, folder
        assert_close(function(case.inputs["x"]), case.golden["y"], case.tolerance())

The longest matching pattern wins. Everything a check needs comes from the case.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import inspect
import sys
from pathlib import Path

import numpy as np
from loading import Case, fill_array, fill_input, fill_state, load_case

import regaze
from regaze.methods import methods
from regaze.normalise.geometry import VARIANTS

__all__ = [
    "Case",
    "NotCovered",
    "adapter",
    "assert_close",
    "assert_relative",
    "fill_array",
    "fill_input",
    "fill_state",
    "find_adapter",
    "is_built",
    "load_adapters",
    "load_case",
    "not_covered",
    "run_adapter",
]

_ADAPTERS: dict[str, object] = {}
_ARGUMENTS = ("case", "manifest", "state", "inputs", "golden", "folder")


def adapter(*patterns: str):
    """Register the decorated function for the cases matching any ``topic/name`` pattern."""

    def register(function):
        unknown = set(inspect.signature(function).parameters) - set(_ARGUMENTS)
        if unknown:
            raise TypeError(f"adapter {function.__name__}: unknown arguments {sorted(unknown)}")
        for pattern in patterns:
            if pattern in _ADAPTERS:
                raise ValueError(f"two adapters for the pattern {pattern!r}")
            _ADAPTERS[pattern] = function
        return function

    return register


def load_adapters(folder: Path) -> None:
    """Import every module of ``folder`` once."""
    for path in sorted(folder.glob("*.py")):
        name = f"conformance_adapter_{path.stem}"
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)


def find_adapter(name: str):
    """Return the adapter of the case ``topic/name``, or None."""
    matching = [pattern for pattern in _ADAPTERS if fnmatch.fnmatchcase(name, pattern)]
    return _ADAPTERS[max(matching, key=len)] if matching else None


def run_adapter(function, case: Case) -> None:
    """Call an adapter with the parts of the case that its signature asks for."""
    parts = {part: getattr(case, part) for part in _ARGUMENTS if part != "case"} | {"case": case}
    function(**{name: parts[name] for name in inspect.signature(function).parameters})


class NotCovered(Exception):
    """The running case cannot be checked, for a reason."""


def not_covered(reason: str = "no adapter") -> None:
    """Report the running case as not covered: a failure where its system is built."""
    raise NotCovered(reason)


def is_built(topic: str) -> bool:
    """Whether the system of a topic is here: a method, a package or a way to normalise faces.

    It goes by the first word of the topic, as in ``xunet-diffusion``.
    """
    packages = {path.parent.name for path in Path(regaze.__file__).parent.glob("*/__init__.py")}
    return topic.partition("-")[0] in {*methods(), *packages, *VARIANTS}


def _array(value) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def assert_close(found, expected, atol: float = 0.0, rtol: float = 0.0, name: str = "") -> None:
    """Assert equal shapes and ``|found - expected| <= atol + rtol |expected|`` everywhere."""
    found, expected = _array(found), _array(expected)
    assert found.shape == expected.shape, f"{name}: shape {found.shape}, expected {expected.shape}"
    np.testing.assert_allclose(
        found.astype(np.float64), expected.astype(np.float64), atol=atol, rtol=rtol, err_msg=name
    )


def assert_relative(found, expected, tolerance: float, name: str = "") -> None:
    """Assert that the largest error is at most ``tolerance`` times the largest expected value."""
    peak = float(np.abs(_array(expected)).max(initial=0.0))
    assert_close(found, expected, atol=tolerance * peak, name=name)
