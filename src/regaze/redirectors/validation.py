"""Validation of redirectors while they learn: few fixed pairs, redirected in few steps.

The pairs are of persons that no redirector learns from, and they are read by the training
estimator, never by the one that measures methods in the end.
"""

from __future__ import annotations

import numpy as np
import torch

from regaze.angles import angular_error
from regaze.estimators.base import GazeHeadEstimator
from regaze.estimators.evaluate import read_images
from regaze.images import to_uint8
from regaze.redirectors.base import Redirector
from regaze.redirectors.declaration import sampling_defaults
from regaze.redirectors.pairs import PairBatches


def few_steps(method: str, steps: int) -> dict:
    """How a method samples in validation: by its defaults, in ``steps`` and without guidance.

    Not as its entry says: how pictures are sampled in the end decides no weights.
    """
    options = sampling_defaults(method)
    told = {"steps": steps, "guidance": 0.0}
    return options | {name: value for name, value in told.items() if name in options}


_CHUNK = 16
"""Pairs redirected at a time; no influence on the result but rounding."""


class Redirections:
    """The same pairs at every call, with the same noise.

    Args:
        redirector: being trained; its ``network`` holds the weights that are looked at.
        pairs: batches of the validation persons; the first one is redirected.
        seed: of the sampler's noise.
        estimator: reads the pictures; needed by :meth:`errors` alone.
    """

    def __init__(
        self,
        redirector: Redirector,
        pairs: PairBatches,
        *,
        seed: int,
        estimator: GazeHeadEstimator | None = None,
    ):
        self.redirector, self.pairs, self.seed = redirector, pairs, seed
        self.estimator = estimator
        self._batch: dict[str, torch.Tensor] | None = None

    def errors(self) -> dict[str, float]:
        """Mean errors in degrees: ``gaze_deg``, ``head_deg``, and their sum as ``score``.

        What is read in the pictures is compared with the target's labels.
        """
        assert self.estimator is not None
        batch, count = self._given(), self.pairs.batch
        made = self._redirected(count)
        read = np.concatenate(
            [read_images(self.estimator, part) for part in made.float().split(_CHUNK)]
        )
        errors = {
            f"{what}_deg": float(
                angular_error(read[:, at], batch[f"target_{what}"].double().cpu().numpy()).mean()
            )
            for what, at in (("gaze", slice(0, 2)), ("head", slice(2, 4)))
        }
        return {"score": sum(errors.values()), **errors}

    def picture(self, count: int = 8) -> np.ndarray:
        """Source, target and redirected picture of the first pairs: (rows, 3 columns) of pictures.

        Returns:
            (count H, 3 W, 3) uint8.
        """
        count = min(count, self.pairs.batch)
        batch, made = self._given(), self._redirected(count)
        columns = (batch["source"][:count], batch["target"][:count], made)
        return np.concatenate([np.concatenate(to_uint8(column)) for column in columns], axis=1)

    def _given(self) -> dict[str, torch.Tensor]:
        if self._batch is None:
            device = next(self.redirector.network.parameters()).device
            loaded = {key: value.to(device) for key, value in self.pairs.load(0).items()}
            batch = self.pairs.finish(loaded)
            self._batch = {**batch, "pair": torch.arange(self.pairs.batch)}
        return self._batch

    @torch.no_grad()
    def _redirected(self, count: int) -> torch.Tensor:
        batch = self._given()
        parts = []
        for start in range(0, count, _CHUNK):
            rows = slice(start, min(start + _CHUNK, count))
            part = {key: value[rows] for key, value in batch.items() if key != "target"}
            parts.append(self.redirector.redirect(part, seed=self.seed))
        return torch.cat(parts)
