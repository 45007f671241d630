"""Published files of fields: HeadNeRF's, its gaze branch's, and GazeNeRF's pickled "json".

All are dictionaries with the weights under ``net``. Nothing in them is executed: options that
training scripts stored as objects become plain namespaces.
"""

from __future__ import annotations

import codecs
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regaze.weights import state_dict_of, torch_content

OPTIONS = "configs.gazenerf_options.BaseOptions"
"""The class of GazeNeRF's options, as its files name it."""


class Options(Namespace):
    """What stands in for that class: values and no more."""


_RECONSTRUCT = np.zeros(1).__reduce__()[0]
_NUMPY = [
    *((_RECONSTRUCT, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    np.ndarray,
    np.dtype,
    type(np.dtype(np.uint32)),
    codecs.encode,
]
"""What the state of NumPy's generator consists of, which training scripts store."""


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The weights of a field from a file of any of the three kinds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, is cut off or has no weights; the message says which file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint with net, found no such file")
    known = [(Options, OPTIONS), Namespace, *_NUMPY]
    with torch.serialization.safe_globals(known):
        content = torch_content(path)
    if not isinstance(content, Mapping) or "net" not in content:
        found = (
            sorted(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        )
        raise ValueError(f"{path}: expected a checkpoint with net, found {found}")
    return state_dict_of(content["net"], f"{path}: net")
