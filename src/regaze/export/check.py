"""Written graphs against PyTorch, on pairs of faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from regaze.diffusion.noise import image_noise
from regaze.export.graphs import PICTURES, SOURCE, TARGET, Verbs
from regaze.faces import FacesReader
from regaze.images import reduce_patches

PAIRS = 10
"""Pairs of faces that both are asked for."""
FULL, HALF = 1e-4, 0.05
"""Largest difference, of pictures in [-1, 1], that is no error: of weights in single precision,
whose sums are rounded in another order, and in half precision. A grey level is 0.008."""


@dataclass(frozen=True)
class Pairs:
    """Sources and targets that graphs are compared on.

    Attributes:
        source: columns :data:`regaze.export.graphs.SOURCE` of :data:`PAIRS` faces.
        target: columns :data:`regaze.export.graphs.TARGET`.
        origin: where the faces are from, for the record.
    """

    source: Mapping[str, Tensor]
    target: Mapping[str, Tensor]
    origin: str

    def rows(self, first: int, last: int) -> Pairs:
        """Some of the pairs."""
        cut = [{k: v[first:last] for k, v in one.items()} for one in (self.source, self.target)]
        return Pairs(*cut, self.origin)


def face_pairs(files: Sequence[str | Path], size_px: int) -> Pairs:
    """Pairs of faces of a data set, spread over its rows: each is to look as the next one does.

    Args:
        files: shards of faces; none: smooth random pictures and angles up to 15 degrees.
        size_px: side of the model's pictures.

    Raises:
        ValueError: pictures smaller than the model's, or files of something else.
    """
    if not files:
        draw = torch.Generator().manual_seed(0)
        coarse = torch.rand(PAIRS, 3, 8, 8, generator=draw) * 1.6 - 0.8
        pictures = F.interpolate(coarse, (size_px, size_px), mode="bicubic").clamp(-1, 1)
        angles = (torch.rand(PAIRS, 4, generator=draw) - 0.5) * np.radians(30)
        told = "drawn pictures"
    else:
        reader = FacesReader([str(one) for one in files])
        rows = np.linspace(0, len(reader) - 1, PAIRS).round().astype(np.int64)
        if not len(reader) or min(reader.patch_size) < size_px:
            raise ValueError(
                f"{files[0]}: expected faces of at least {size_px} pixels, found {len(reader)} of "
                f"{reader.patch_size[0]} x {reader.patch_size[1]}"
            )
        pictures = torch.cat([reduce_patches(reader.pixels([row]), size_px) for row in rows])
        angles = torch.from_numpy(np.nan_to_num(reader.labels[rows, :4].astype(np.float32)))
        told = f"faces of {Path(files[0]).parent.parent.name}"
    source = dict(zip(SOURCE, (pictures, angles[:, :2], angles[:, 2:]), strict=True))
    turned = angles.roll(-1, 0)
    return Pairs(source, dict(zip(TARGET, (turned[:, :2], turned[:, 2:]), strict=True)), told)


def by_torch(verbs: Verbs, pairs: Pairs) -> np.ndarray:
    """Pictures (N, 3, S, S) of pairs as the method makes them itself, noise drawn as ever."""
    count = len(pairs.source["source"])
    nobody, numbers = torch.full((count,), -1), torch.arange(count)
    source = {**pairs.source, "source_row": nobody}
    target = {**pairs.target, "target_row": nobody, "pair": numbers}
    with torch.no_grad():
        return verbs.redirector.redirect({**source, **target}, seed=0).float().numpy()


def by_graphs(sessions: Mapping[str, object], verbs: Verbs, pairs: Pairs, batch: int) -> np.ndarray:
    """The same by onnxruntime, ``batch`` pairs at a time; the last ones again to fill a batch.

    Args:
        sessions: ``edit``, and ``invert`` where there is one.
        verbs: what they were made of.
        pairs: at least ``batch`` of them.
        batch: pairs at a time.
    """
    count, made = len(pairs.source["source"]), []
    for start in range(0, count, batch):
        first = max(0, min(start, count - batch))
        some = pairs.rows(first, first + batch)
        told = {name: value.numpy() for name, value in {**some.source, **some.target}.items()}
        numbers = range(first, first + len(some.source["source"]))
        told |= {
            name: image_noise(0, numbers, shape).numpy() for name, shape in verbs.noise.items()
        }
        for name in sessions:
            told |= run(sessions[name], told)
        made.append(told[PICTURES][start - first :])
    return np.concatenate(made)


def run(session, told: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of a session by name, given what it reads of ``told``."""
    names = [one.name for one in session.get_inputs()]
    found = session.run(None, {name: told[name] for name in names})
    return dict(zip([one.name for one in session.get_outputs()], found, strict=True))


def session(model: bytes | str, threads: int = 1):
    """An onnxruntime session on the CPU of a file's bytes, or a path."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
