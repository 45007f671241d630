"""One call of ``regaze export``: from a model folder to a folder of graphs."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regaze.export import check
from regaze.export.graphs import PICTURES, SOURCE, TARGET, Graph, Verbs
from regaze.export.onnx_files import OPSET, halve_weights, save, written_down
from regaze.images import eye_boxes
from regaze.outputs import replacing, write_json
from regaze.provenance import fingerprint
from regaze.redirect.models import model_folder, sampling_of
from regaze.redirectors.base import Redirector
from regaze.redirectors.declaration import Declaration, declared_by
from regaze.redirectors.sample import load_redirector
from regaze.weights import models_folder

KINDS = ("onnx",)
PRECISIONS = ("fp32", "fp16")
MOST_EVALUATIONS = 8
"""Evaluations of the network that one graph may hold."""
RECORD = "export.json"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_UNITS = {
    **dict.fromkeys(("source", PICTURES), "RGB in [-1, 1], 2 v / 255 - 1, (batch, 3, size, size)"),
    **dict.fromkeys(
        (*SOURCE[1:], *TARGET),
        "radians, (batch, 2): pitch, up positive, and yaw, towards the picture's left positive",
    ),
    "noise": "standard normal, (batch, 3, size, size)",
}


@dataclass(frozen=True)
class Exported:
    """What was made, before it is written.

    Attributes:
        models: ModelProto by name, ``invert`` before ``edit``.
        about: the record.
    """

    models: Mapping[str, Any]
    about: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Write ``<name>.onnx`` and :data:`RECORD`, all or nothing.

        Raises:
            ValueError: the folder holds something else.
        """
        if folder.exists() and not (folder / RECORD).is_file() and not _empty(folder):
            raise ValueError(
                f"{folder}: expected no such folder, or one of an export; found others"
            )
        with replacing(folder) as part:
            part.mkdir()
            for name, model in self.models.items():
                save(model, part / f"{name}.onnx", self.about)
            write_json(part / RECORD, self.about)


def _empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def run_export(
    model: str,
    *,
    kind: str = "onnx",
    out: Path,
    models: Path,
    batch: str = "1",
    precision: str = "fp32",
    faces: Sequence[Path] = (),
    steps: int | None = None,
    settings=None,
) -> Iterator[str]:
    """Write a model as graphs, and yield lines about them.

    Args:
        model: name of a redirector below ``models``, or its folder.
        kind: one of :data:`KINDS`.
        out: folder to write.
        models: folder of trained models.
        batch: rows of the graphs, or ``dynamic``.
        precision: of the stored weights, one of :data:`PRECISIONS`.
        faces: shards to check with; none: those beside the folder of models, or drawn pictures.
        steps: of the sampler.
        settings: the checked configuration or None.

    Raises:
        ValueError, OSError: options, a model that cannot be a graph, or a folder that is there.
    """
    for name, value, known in (("to", kind, KINDS), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, found {value!r}")
    if batch != "dynamic" and batch not in map(str, range(1, check.PAIRS + 1)):
        raise ValueError(f"batch: expected 1 to {check.PAIRS}, or dynamic, found {batch!r}")
    folder = model_folder(models, model)
    made = exported(
        folder,
        sampling_of(folder, settings, steps),
        batch=None if batch == "dynamic" else int(batch),
        half=precision == "fp16",
        faces=faces or faces_beside(folder),
    )
    made.write(out)
    for name in made.models:
        size = (out / f"{name}.onnx").stat().st_size / 1e6
        yield f"{out / name}.onnx: {size:.1f} MB"
    told = made.about["check"]
    yield (
        f"largest difference from PyTorch: {told['largest']:.1e} of pictures in [-1, 1], "
        f"{told['pairs']} pairs, {told['of']}"
    )
    yield f"what was done: {out / RECORD}"


def faces_beside(folder: Path) -> list[Path]:
    """Shards of faces of a model's results, of the first data set there."""
    found = sorted(models_folder(folder).parent.glob("*/faces/shard-*.h5"))
    return [one for one in found if one.parent == found[0].parent]


def exported(
    folder: Path,
    sampling: Mapping[str, Any],
    *,
    batch: int | None = 1,
    half: bool = False,
    faces: Sequence[str | Path] = (),
) -> Exported:
    """The graphs of a trained model, compared with it.

    Args:
        folder: model folder.
        sampling: options of sampling, the workflow's and the entry's.
        batch: rows that the graphs take, None: any number.
        half: store weights in half precision.
        faces: shards to check with; none: drawn pictures.

    Raises:
        FileNotFoundError, ValueError: the model cannot be loaded, is none that can be a graph, or
            the graphs make other pictures.
    """
    _require_packages()
    redirector, record = load_redirector(folder, sampling)
    name, config = record["name"], record["config"]
    if reason := why_no_graph(declared_by(config).making(), redirector):
        raise ValueError(f"{name}: expected a model that graphs can make pictures of: {reason}")
    pairs = check.face_pairs(faces, config["size_px"])
    # What is one or several is decided by the example: a batch of one has graphs of its own.
    rows = 2 if batch is None else batch
    some = pairs.rows(0, rows)
    try:
        verbs = Verbs(redirector, some.source)
        example = _examples(verbs, some)
        wanted = check.by_torch(verbs, pairs)
        graphs = {
            verb: written_down(Graph(verbs, verb), given, dynamic=batch is None)
            for verb, given in example.items()
        }
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if half:
        for graph in graphs.values():
            halve_weights(graph)
    sessions = {verb: check.session(one.SerializeToString()) for verb, one in graphs.items()}
    sizes = [rows] if batch is not None else [1, 3, check.PAIRS]
    apart = max(
        float(np.abs(check.by_graphs(sessions, verbs, pairs, size) - wanted).max())
        for size in sizes
    )
    limit = check.HALF if half else check.FULL
    if not apart <= limit:
        raise ValueError(
            f"{name}: expected the graphs' pictures to be PyTorch's within {limit}, found a "
            f"difference of {apart:.2g}; nothing is written"
        )
    about = {
        **_about(folder, redirector, record),
        "batch": "dynamic" if batch is None else batch,
        "precision": PRECISIONS[half],
        "graphs": {verb: _described(sessions[verb]) for verb in graphs},
        "check": {"pairs": check.PAIRS, "of": pairs.origin, "largest": apart, "limit": limit},
    }
    return Exported(graphs, about)


def why_no_graph(declaration: Declaration, redirector: Redirector) -> str:
    """Why a method's pictures cannot be made by graphs; empty where they can."""
    if declaration.no_graph:
        return declaration.no_graph
    if declaration.inputs:
        kinds = " and ".join(one.kind.replace("_", " ") for one in declaration.inputs)
        return f"it also reads {kinds} of its source, which graphs of pictures and angles have not"
    if redirector.sources > 1:
        return f"it is shown {redirector.sources} pictures of a person"
    count = redirector.evaluations_per_image()
    if count > MOST_EVALUATIONS:
        return (
            f"a picture takes {count} evaluations of its network, which would all be in the graph, "
            f"at most {MOST_EVALUATIONS}; give fewer --steps, or distil it"
        )
    return ""


def _require_packages() -> None:
    missing = [one for one in _NEEDED if importlib.util.find_spec(one) is None]
    if missing:
        raise ValueError(
            f"export: needs the packages {', '.join(_NEEDED)}, found no {', '.join(missing)}; "
            "install regaze[export]"
        )


def _examples(verbs: Verbs, some: check.Pairs) -> dict[str, list[torch.Tensor]]:
    """What each graph is given, by name."""
    source = [some.source[name] for name in SOURCE]
    count, kept = len(source[0]), ()
    with torch.no_grad():
        if verbs.inverts:
            kept = verbs.invert(*source)
    noise = [torch.zeros(count, *shape) for shape in verbs.noise.values()]
    told = [*(some.source[name] for name in verbs.columns), *kept]
    told += [*(some.target[name] for name in TARGET), *noise]
    return {**({"invert": source} if verbs.inverts else {}), "edit": told}


def _described(session) -> dict[str, Any]:
    """Names, shapes and units of what a graph takes and gives."""

    def listed(values):
        return [
            {
                "name": one.name,
                "shape": [side if isinstance(side, int) else "batch" for side in one.shape],
                "unit": _UNITS.get(one.name, "of the state"),
            }
            for one in values
        ]

    return {"inputs": listed(session.get_inputs()), "outputs": listed(session.get_outputs())}


def _about(folder: Path, redirector: Redirector, record: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be known of a model to use its graphs."""
    config = record["config"]
    declaration = declared_by(config)
    trained = record.get("patches") or {}
    return {
        "model": record["name"],
        "class": config["class"],
        "fingerprint": fingerprint(folder / "model.safetensors"),
        "size_px": config["size_px"],
        "factors": list(declaration.factors),
        "view": record.get("view"),
        "trained_gaze_deg": trained.get("gaze"),
        "trained_head_deg": trained.get("head"),
        "eye_boxes": [list(box) for box in eye_boxes(config["size_px"])],
        "sampling": redirector.describe_sampling(),
        "opset": OPSET,
        "torch": torch.__version__.split("+")[0],
    }
