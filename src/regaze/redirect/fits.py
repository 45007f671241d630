"""Fits of faces as files: what a model found to draw a face, kept and used again.

``.safetensors`` with the tensors of the state, ``codes`` (1, D) among them, and ``steps``, their
number; in its metadata is the fingerprint of the model's weights, since codes mean nothing to any
other. A fit of more steps than are asked for is used as it is, one of fewer is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from regaze.outputs import replacing

log = logging.getLogger("regaze.redirect")

Told = Callable[[int, float], None]
"""Given every step's number and its loss."""
_MODEL, _STEPS = "fingerprint", "steps"


class Fits:
    """Fits of one model in a folder, by all that decides them.

    Args:
        folder: where they are; made when it is needed.
        fingerprint: of the model's weights.
        options: what else decides a fit besides the face: ``steps`` and others.
    """

    def __init__(self, folder: str | os.PathLike, fingerprint: str, options: Mapping):
        self.folder, self.fingerprint, self.options = Path(folder), fingerprint, dict(options)
        self.steps = int(self.options.pop(_STEPS, 0))

    def path(self, source: Mapping[str, Tensor]) -> Path:
        """The file of the fit of a source, a batch of one."""
        told = hashlib.sha256(json.dumps(self.options, sort_keys=True).encode())
        for name in sorted(source):
            value = source[name].detach().cpu().contiguous()
            told.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            told.update(value.numpy().tobytes())
        return self.folder / f"{self.fingerprint}-{told.hexdigest()[:32]}.safetensors"

    def of(
        self, source: Mapping[str, Tensor], make: Callable[[], dict[str, Tensor]]
    ) -> tuple[dict[str, Tensor], str]:
        """The fit of a source, and where it is from: ``kept`` or ``made``.

        A file that cannot be read is made again; a folder that cannot be written to is told of.
        """
        path = self.path(source)
        if path.is_file():
            try:
                state, steps = read_fit(path, self.fingerprint)
                if steps >= self.steps:
                    return {n: v.to(source["source"].device) for n, v in state.items()}, "kept"
            except ValueError as error:
                log.warning("%s; it is made again", error)
        state = make()
        try:
            write_fit(path, state, self.fingerprint, self.steps)
        except OSError as error:
            log.warning("fits are not kept: %s", error)
        return state, "made"


def write_fit(
    path: str | os.PathLike, state: Mapping[str, Tensor], fingerprint: str, steps: int
) -> None:
    """Write the state of one face as :mod:`regaze.redirect.fits` says."""
    held = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    held[_STEPS] = torch.tensor(steps)
    with replacing(path) as part:
        # Of two entries of metadata the order would be another each time.
        part.write_bytes(save(held, {_MODEL: fingerprint}))


def read_fit(path: str | os.PathLike, fingerprint: str) -> tuple[dict[str, Tensor], int]:
    """The state of a face, by name, and the steps of its fit.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is something else, of another model, or not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a fit, found no such file")
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a fit as .safetensors, found {error}") from None
    told, steps = said.get(_MODEL, ""), state.pop(_STEPS, torch.tensor(0))
    if told != fingerprint:
        raise ValueError(
            f"{path}: expected a fit by the model {fingerprint:.12}, found one by "
            f"{told or 'another':.12}"
        )
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{path}: {name}: expected finite numbers, found others")
    if "codes" not in state:
        raise ValueError(f"{path}: expected codes, found {', '.join(state) or 'none'}")
    if steps.shape or steps.dtype != torch.int64:
        raise ValueError(
            f"{path}: {_STEPS}: expected a whole number, found {steps.dtype} of shape "
            f"{tuple(steps.shape)}"
        )
    return state, int(steps)
