"""Benchmarks as modules, for tests that compare with the plain order of work that they have."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def benchmark(name: str) -> ModuleType:
    """``benchmarks/<name>.py``, run as a module of its own."""
    path = Path(__file__).parents[1] / f"benchmarks/{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # As for a script, whose neighbours can be imported.
        patch.syspath_prepend(path.parent)
        spec.loader.exec_module(module)
    return module
