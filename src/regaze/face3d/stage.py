"""The stage of a 3-D face encoder: train it on rendered faces, measure it, draw a sheet."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from regaze.face3d.crops import CropBatches
from regaze.face3d.deca import Deca
from regaze.face3d.expressions import Expressions
from regaze.face3d.ground_truth import read_ground_truth, read_views
from regaze.face3d.model import load_flame, model_hash
from regaze.face3d.quality import draw_sheet, measure
from regaze.face3d.training import EncoderTask, plain_weights
from regaze.provenance import fingerprint
from regaze.training.context import Training

log = logging.getLogger("regaze.training")


def train_encoder(
    name: str,
    config: Mapping,
    *,
    head: str | Path,
    parameters: str | Path,
    **common,
) -> None:
    """Train a 3-D face encoder on the synthetic set, measure it on ``test`` and draw a sheet.

    Args:
        name: entry of ``encoders:``.
        config: that entry as plain values (``EncoderSettings.resolve``).
        head: the head model (``.npz``) that the capture was rendered with.
        parameters: ``parameters.h5`` of the capture.
        common: faces, split, seed, files and code, see :class:`regaze.training.context.Training`;
            ``config["persons"]`` names the list of the split that is trained on.
    """
    training = Training(name, config, **common)
    reader = training.reader
    persons = training.learn_from(config["persons"], f"encoders.{name}.persons")
    val, test = (reader.rows(training.persons(part)) for part in ("val", "test"))
    model = load_flame(head)
    known = read_ground_truth(parameters, reader, reader.rows(persons), model)
    views = read_views(known, reader, model, training.seed)
    log.info("%d rows in %d views, misfit %.2f px", len(known), len(views.uv), known.misfit.mean())
    deca = Deca(model, config["preset"], config["class"] == "emoca", config["rasterizer"])
    reach = config["expressions"]
    task = EncoderTask(deca, known, config["losses"], reach)

    options = {"known": known, "views": views, "jitter": config["jitter"], "tint": config["tint"]}
    if reach:
        options["expressions"] = Expressions(known, model, reach)

    def batches(*place):
        share = training.share(*place)
        return CropBatches(reader, persons, size=deca.size_px, **options, **share)

    def validate():
        found = measure(deca, reader, read_ground_truth(parameters, reader, val, model))
        return {"score": found["landmark_percent"], "rotation_deg": found["rotation_deg"]}

    training.data |= {"parameters": fingerprint(parameters), "head": model_hash(model)}
    weights, points = training.run(task, batches, validate=validate)
    weights = plain_weights(deca, weights)
    deca = Deca(model, config["preset"], config["class"] == "emoca", config["rasterizer"]).eval()
    deca.load_state_dict(weights)
    truth = read_ground_truth(parameters, reader, test, model)
    quality = {"list": "test", **measure(deca, reader, truth)}
    log.info(
        "test: landmarks %.2f %% of the crop, rotation %.2f degrees, PSNR %.5s dB",
        *(quality["landmark_percent"], quality["rotation_deg"], quality["psnr_db"]),
    )
    about = {
        "kind": "encoder",
        "class": config["class"],
        "source": "synthetic",
        "head_sha256": training.data["head"],
        "rasterizer": deca.renderer().backend_used,
        "quality": quality,
    }
    training.write(weights, points, about)
    if training.files.quality is not None:
        draw_sheet(training.files.quality, deca, reader, truth)
    training.finish()
