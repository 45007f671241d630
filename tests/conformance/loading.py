"""Read one conformance case: a folder with ``manifest.json`` and, usually, ``golden.npz``.

Weights and large inputs are not stored. A case names them and both sides draw the same numbers
from the name: the generator is NumPy's PCG64 seeded with ``[crc32(name), seed]``, so a number
depends on nothing but its own array's name, its shape and the case's seed.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch


@dataclass(frozen=True)
class Case:
    """One loaded case.

    ``state`` holds torch tensors by state-dict key, ``inputs`` and ``golden`` NumPy arrays by
    name. Inputs that a manifest only describes in words are left to the adapter.
    """

    name: str
    folder: Path
    manifest: dict = field(repr=False)
    state: dict = field(repr=False)
    inputs: dict = field(repr=False)
    golden: dict = field(repr=False)

    @property
    def seed(self) -> int:
        return int(self.manifest.get("seed", 0))

    @property
    def config(self) -> dict:
        return self.manifest.get("config", {})

    def tolerance(self, name: str | None = None, default: float = 1e-5) -> float:
        """Return the first number of the manifest's tolerance (for ``name``, if it is a table)."""
        text = self.manifest.get("tolerance", default)
        if isinstance(text, dict):
            text = text.get(name, default) if name else next(iter(text.values()), default)
        found = re.search(r"\d+(?:\.\d*)?(?:[eE][-+]?\d+)?", str(text))
        return float(found.group()) if found else default


def _generator(name: str, seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([zlib.crc32(name.encode("utf-8")), seed]))


def fill_array(key: str, shape, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    """Return the numbers of one state-dict entry.

    By kind of entry: integers are zero; running variances are uniform in [0.5, 1.5); weights of
    two or more axes are normal with variance 1/fan_in; norm gains are 1 + 0.1 normal; everything
    else is 0.1 normal. Numbers are drawn in float64 and rounded once, at the end.
    """
    shape = tuple(map(int, shape))
    if not np.issubdtype(np.dtype(dtype), np.floating):
        return np.zeros(shape, dtype)
    generator = _generator(key, seed)
    if key.endswith("running_var"):
        numbers = generator.random(shape) + 0.5
    elif len(shape) > 1:
        fan_in = max(1, math.prod(shape[1:]))
        numbers = generator.standard_normal(shape) / np.sqrt(fan_in)
    else:
        numbers = 0.1 * generator.standard_normal(shape)
        if key.endswith(".weight"):
            numbers = 1.0 + numbers
    return numbers.astype(dtype)


def fill_input(name: str, shape, seed: int = 0, low: float = -1.0, high: float = 1.0):
    """Return a float32 input named ``name``, uniform in [low, high)."""
    generator = _generator(f"input:{name}", seed)
    return (low + (high - low) * generator.random(tuple(shape))).astype(np.float32)


def fill_state(table: dict, seed: int = 0, constants=()) -> dict:
    """Return ``{key: tensor}`` for a manifest's state table, without the keys in ``constants``."""
    left_out = set(constants)
    return {
        key: torch.from_numpy(fill_array(key, entry["shape"], entry.get("dtype", "float32"), seed))
        for key, entry in table.items()
        if key not in left_out
    }


def adjusted(state: dict, manifest: dict) -> dict:
    """Apply the manifest's ``scale``, then ``offset``, then ``overrides`` to a filled state.

    ``scale`` is either a factor per key or a rule: ``prefix`` and ``factor`` for every entry of
    two or more axes below the prefix.
    """
    scale, offset = manifest.get("scale", {}), manifest.get("offset", {})
    overrides = manifest.get("overrides", {})
    result = {}
    for key, tensor in state.items():
        if "rule" in scale and key.startswith(scale["prefix"]) and tensor.ndim >= 2:
            factor = scale["factor"]
        else:
            factor = scale.get(key, 1.0)
        if factor != 1.0:
            tensor = tensor * factor
        if key in offset:
            tensor = tensor + offset[key]
        if key in overrides:
            tensor = torch.full_like(tensor, overrides[key])
        result[key] = tensor
    return result


def read_inputs(manifest: dict, golden: dict) -> dict:
    """Return the inputs that the manifest gives by ``fill``, ``value`` or ``golden``."""
    seed = manifest.get("seed", 0)
    table = manifest.get("inputs")
    inputs = {}
    for name, entry in (table if isinstance(table, dict) else {}).items():
        if not isinstance(entry, dict):
            continue
        if "fill" in entry:
            fill = entry["fill"]
            inputs[name] = fill_input(
                fill["name"], entry["shape"], fill.get("seed", seed), fill["low"], fill["high"]
            )
        elif "value" in entry:
            inputs[name] = np.asarray(entry["value"])
        elif "golden" in entry:
            inputs[name] = golden[entry["golden"]]
    return inputs


def load_case(folder: str | Path) -> Case:
    """Load the case in ``folder``; raises ValueError naming the file when it cannot be read."""
    folder = Path(folder)
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a readable JSON manifest ({error})") from error
    stored = folder / "golden.npz"
    golden = {}
    if stored.exists():
        with np.load(stored) as archive:
            golden = {name: archive[name] for name in archive.files}
    table = manifest.get("state") or {}
    state = fill_state(table, manifest.get("seed", 0), manifest.get("constants", ()))
    return Case(
        name=f"{folder.parent.name}/{folder.name}",
        folder=folder,
        manifest=manifest,
        state=adjusted(state, manifest),
        inputs=read_inputs(manifest, golden),
        golden=golden,
    )
