"""The stage of the identity network: train it, or take over a published one, and verify it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch

from regaze.estimators.objective import Augmentation
from regaze.identity.align import describe, why_not_sted_view
from regaze.identity.settings import TRAINED
from regaze.identity.store import build_recogniser, load_published
from regaze.identity.training import IdentityTask, PersonBatches
from regaze.identity.verification import verify
from regaze.provenance import fingerprint
from regaze.training.context import Training

log = logging.getLogger("regaze.identity")
_PREFIX = "recogniser."


def make_recogniser(
    config: Mapping,
    *,
    size_px: int,
    **common,
) -> None:
    """Write the model folder of the identity network.

    ``small`` and ``tiny`` are trained on ``config["persons"]``; of a published network the weights
    are taken over, and the curve is empty. Either is verified on ``test``, people that it has not
    seen, in pictures of the size that redirected ones have.

    Args:
        config: the section ``identity:`` as plain values.
        size_px: side of the redirected pictures.
        common: faces, split, seed, files and code, see :class:`regaze.training.context.Training`.
    """
    training = Training("identity", config, **common)
    reader = training.reader
    recogniser = build_recogniser(config["network"], config["size_px"])
    persons = training.learn_from(config["persons"], "identity.persons")
    test = training.persons("test")
    about = {"kind": "identity", "class": config["network"]}
    if config["network"] in TRAINED:
        alone = {"size": config["size_px"], "batch": 1, "seed": training.seed, "cache": "none"}
        count = PersonBatches(reader, persons, **alone).persons
        task = IdentityTask(recogniser, count, config["scale"], config["margin"], Augmentation())

        def batches(*place):
            return PersonBatches(reader, persons, size=config["size_px"], **training.share(*place))

        weights, points = training.run(task, batches)
        weights = {k.removeprefix(_PREFIX): v for k, v in weights.items() if k.startswith(_PREFIX)}
    else:
        recogniser = load_published(config["checkpoint"], config["network"], config["sha256"])
        weights, points = recogniser.state_dict(), [{"step": 0, "images": 0}]
        about["checkpoint"] = fingerprint(config["checkpoint"])
    recogniser.load_state_dict(weights)
    recogniser.cpu().eval()
    with torch.no_grad():
        rows = reader.rows(test)
        sted_view = not why_not_sted_view(reader)
        quality = verify(recogniser, reader, rows, sted_view=sted_view, size_px=size_px)
    log.info("test: AUC %.4f, equal error rate %.3f", quality["auc"], quality["eer"])
    about["verification"] = {"list": "test", **quality}
    about["preprocess"] = describe(recogniser, sted_view)
    training.write(weights, points, about)
    if config["network"] in TRAINED:
        training.finish()
