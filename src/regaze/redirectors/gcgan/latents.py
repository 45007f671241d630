"""Codes in files, as the reference's scripts write and read them, and ways between codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from regaze.outputs import replacing
from regaze.redirectors.gcgan.layout import Layout


def read_latent(path: str | Path, layout: Layout, style_dim: int) -> Tensor:
    """The code of a file: (1,D), (1,rows,D) or spread, as it is there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no array of numbers without pickles, or of another shape.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a code (.npy), found no such file")
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: expected an .npy of numbers ({error})") from None
    rows = (layout.rows, layout.spread_rows)
    shapes = [(1, style_dim), *((1, count, style_dim) for count in rows)]
    if found.shape not in shapes or found.dtype.kind != "f" or not np.isfinite(found).all():
        told = " or ".join(map(str, shapes))
        raise ValueError(
            f"{path}: expected finite numbers of shape {told}, found {found.shape} {found.dtype}"
        )
    return torch.from_numpy(found.astype(np.float32))


def write_latent(path: str | Path, code: Tensor) -> None:
    """Write a code (D,) or (rows,D) as the reference's readers take it, (1,...) float32."""
    with replacing(path) as part, open(part, "wb") as stream:
        np.save(stream, code.detach().cpu().float().numpy()[None])


def replaced(code: Tensor, layout: Layout, component: str, other: Tensor) -> Tensor:
    """A code (1,D) or (1,rows,D) as (1,rows,D), one row of which is that of another.

    Args:
        code: to be changed.
        layout: of its rows.
        component: a name of :attr:`Layout.names`.
        other: (1,D).

    Raises:
        ValueError: no such component.
    """
    if component not in layout.names:
        raise ValueError(
            f"component: expected one of {', '.join(layout.names)}, found {component!r}"
        )
    made = layout.whole(code).clone()
    made[:, layout.names.index(component)] = other
    return made


def between(frames: Tensor, count: int) -> Tensor:
    """``count`` codes on a cubic spline through codes (K,...), evenly spread, ends included."""
    knots = np.linspace(0, 1, len(frames))
    spline = CubicSpline(knots, frames.double().numpy())
    return torch.from_numpy(spline(np.linspace(0, 1, count))).float()
