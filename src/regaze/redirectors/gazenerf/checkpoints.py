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


OPTIONS_OF = {
    "featmap_size": ("network", "side"),
    "featmap_nc": ("network", "channels"),
    "pred_img_size": ("size_px",),
    "mlp_hidden_nchannels": ("network", "hidden"),
    "num_sample_coarse": ("network", "samples"),
    "iden_code_dims": ("network", "shape"),
    "expr_code_dims": ("network", "expression"),
    "text_code_dims": ("network", "texture"),
    "illu_code_dims": ("network", "light"),
}
"""Options in published files that say which network the weights are of, and ours."""


def read_checkpoint(path: str | Path, config: Mapping | None = None) -> dict[str, Tensor]:
    """The weights of a field from a file of any of the three kinds.

    Args:
        path: the file.
        config: what the options that the file holds are compared with; None compares nothing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, is cut off, has no weights, or is of a network of other
            sizes; the message says which file, and which option of ours has to be what.
    """
    state, options = read_published(path)
    if config is not None:
        _require_options(path, options, config)
    return state


def read_published(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The weights and the options of such a file.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_checkpoint`.
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
    return state_dict_of(content["net"], f"{path}: net"), options_of(content)


def options_of(content: Mapping) -> dict[str, int | float | str | bool]:
    """The plain options that a checkpoint holds as ``para``, a dictionary or an object."""
    para = content.get("para", {})
    given = vars(para) if isinstance(para, Namespace) else para
    if not isinstance(given, Mapping):
        return {}
    return {str(key): one for key, one in given.items() if isinstance(one, int | float | str)}


def _require_options(path: str | Path, options: Mapping, config: Mapping) -> None:
    for name, place in OPTIONS_OF.items():
        found: object = config
        for key in place:
            found = found[key]
        if name in options and options[name] != found:
            told = f"{name}: expected {found}, which {'.'.join(place)} is"
            raise ValueError(f"{path}: {told}, found {options[name]}")
