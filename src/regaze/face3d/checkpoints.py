"""Published weights of DECA and EMOCA: their containers, read without running anything in them.

Layouts: ``yfeng95/DECA`` (``deca_model.tar``, a dictionary of state dicts) and ``radekd91/emoca``
(run folders of PyTorch Lightning). Users bring the files; their terms are Max Planck's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from regaze.weights import torch_content

NETWORKS = ("E_flame", "E_detail", "D_detail")
"""State dicts of a DECA checkpoint."""

HEAD_ARRAYS = ("v_template", "shapedirs")
"""Arrays of its head model that an EMOCA checkpoint holds."""

_LIGHTNING_PREFIX = "deca."
_SCORE = re.compile(r"=(-?\d+(?:\.\d+)?)(?:-v\d+)?\.ckpt$")


def read_deca(path: str | Path) -> dict[str, dict[str, Tensor]]:
    """Return the state dicts ``E_flame``, ``E_detail`` and ``D_detail`` of a ``deca_model.tar``.

    What a training checkpoint holds beside them is ignored.

    Raises:
        ValueError: the file is missing or no such checkpoint.
    """
    content = _load(path)
    states = {}
    for name in NETWORKS:
        if not isinstance(content.get(name), Mapping):
            raise ValueError(
                f"{path}: {name}: expected a state dict, found "
                f"{type(content.get(name)).__name__}; top level: {', '.join(map(str, content))}"
            )
        states[name] = _tensors(path, name, content[name])
    return states


def read_emoca(path: str | Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Return the state dicts of EMOCA, and the head model that they were trained with.

    Args:
        path: a Lightning ``.ckpt``; of a run folder :func:`best_checkpoint` names it.

    Returns:
        DECA's three state dicts and ``E_expression``; and ``v_template`` (V, 3) and ``shapedirs``
        (V, 3, 150), identity before expression, where the checkpoint has both, as those of
        ``radekd91/emoca`` do (``gdl/models/DecaFLAME.py``).

    Raises:
        ValueError: the file is missing, or a network has no weights in it.
    """
    path = Path(path)
    content = _load(path).get("state_dict")
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: state_dict: expected a dictionary, found none")
    states = {}
    for name in (*NETWORKS, "E_expression"):
        prefix = f"{_LIGHTNING_PREFIX}{name}."
        part = {
            key.removeprefix(prefix): value
            for key, value in content.items()
            if isinstance(key, str) and key.startswith(prefix)
        }
        if not part:
            raise ValueError(
                f"{path}: expected keys {prefix}*, found none among {len(content)} keys"
            )
        states[name] = _tensors(path, name, part)
    arrays = {name: content.get(f"{_LIGHTNING_PREFIX}flame.{name}") for name in HEAD_ARRAYS}
    if not all(isinstance(value, Tensor) for value in arrays.values()):
        arrays = {}
    return states, arrays


def best_checkpoint(folder: str | Path) -> Path:
    """Return the checkpoint below ``folder`` with the smallest number after the last ``=``.

    Names such as ``deca-epoch=09-val_loss/dataloader_idx_0=3.25.ckpt`` hold a slash, hence the
    search in sub-folders; ``last.ckpt`` is passed over.

    Raises:
        ValueError: there is none.
    """
    scored = []
    for file in sorted(Path(folder).rglob("*.ckpt")):
        if found := _SCORE.search(file.name):
            scored.append((float(found.group(1)), file))
    if not scored:
        raise ValueError(f"{folder}: expected checkpoints named ...=<score>.ckpt, found none")
    return min(scored)[1]


class _Inert:
    """Stands for every class of a checkpoint that is no tensor: it can be made and filled."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def _load(path: str | Path) -> dict:
    """Return the top level of a torch file, everything but tensors and plain values inert."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint")
    content = _weights_only(path)
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{path}: expected a dictionary of state dicts, found {type(content).__name__}"
        )
    return dict(content)


def _weights_only(path: Path):
    clause = "expected a torch checkpoint"
    try:
        return torch_content(path, clause)
    except ValueError as error:
        # Lightning saves callbacks and hyper-parameters beside the weights. Their classes are
        # replaced by an inert one, so that nothing of them is imported, let alone run.
        try:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        except Exception:  # torch raises many kinds of what is no zip archive of its own
            names = []
        if not names:
            raise error from None
    stand_ins = [(type("Inert", (_Inert,), {}), name) for name in names]
    with torch.serialization.safe_globals(stand_ins):
        return torch_content(path, clause)


def _tensors(path: str | Path, name: str, state: Mapping) -> dict[str, Tensor]:
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{path}: {name}.{key}: expected a tensor, found {type(value).__name__}"
            )
    return dict(state)
