"""Graphs to files of ONNX, with what has to be known to use them."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regaze.export.graphs import Graph

OPSET = 20
"""In 21 and later, group normalisation is one operation, and slower."""
KEY = "regaze"
"""Of the metadata of a file: JSON."""
WEIGHTS = "redirector."
"""What names of learned numbers begin with, as :class:`regaze.export.graphs.Graph` has them."""
_WEIGHED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operations whose second input, where it is constant, is of weights."""
_SMALL = 64
"""Numbers of a constant from which half precision saves anything."""


def written_down(graph: Graph, example: Sequence[Tensor], *, dynamic: bool):
    """The graph of a verb as a ModelProto of :data:`OPSET`.

    Args:
        graph: the verb.
        example: its inputs, all of one batch.
        dynamic: any number of rows may be given; False: as many as the example has.

    Raises:
        ValueError: torch cannot write it down; the message has torch's reason.
    """
    batch = torch.export.Dim("batch", min=1, max=1024) if dynamic else None
    shapes = (tuple({0: batch} for _ in example),) if dynamic else None
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                tuple(example),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=shapes,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ValueError(f"expected a graph of ONNX, found {_reason(error)}") from None
    model = program.model_proto
    del model.metadata_props[:]
    for node in model.graph.node:
        # Where in the library a node is from: half of a small file, and paths of this machine.
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    model = _folded(model)
    _drop_idle(model)
    # What is not read has a fixed batch, and would only have to be given.
    read = {name for node in model.graph.node for name in node.input}
    used = [one for one in model.graph.input if one.name in read]
    del model.graph.input[:]
    model.graph.input.extend(used)
    if dynamic and not all(one.type.tensor_type.shape.dim[0].dim_param for one in used):
        raise ValueError(
            "expected a graph of any number of rows, found one that torch writes down for a fixed "
            "number alone; give --batch with that number"
        )
    return model


def _folded(model):
    """The same with what depends on constants alone computed, by onnxruntime, in its operations of
    ONNX: what else a page would do at its start."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "folded.onnx"))
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        made = onnx.load(options.optimized_model_filepath)
    kept = [one for one in made.opset_import if one.domain == ""]
    del made.opset_import[:]
    made.opset_import.extend(kept)
    return made


def _drop_idle(model) -> None:
    """Take out multiplications by 1 and additions of 0, which runtimes do all the same: what
    normalisations without weights become."""
    from onnx import numpy_helper

    graph, idle = model.graph, {"Mul": 1.0, "Add": 0.0}
    shapes = {one.name: str(one.type.tensor_type.shape) for one in graph.value_info}
    constants = {one.name: one for one in graph.initializer}
    another: dict[str, str] = {}
    kept = []
    for node in graph.node:
        node.input[:] = [another.get(name, name) for name in node.input]
        fixed = [name for name in node.input if name in constants]
        if node.op_type in idle and len(fixed) == 1:
            (moved,) = (name for name in node.input if name not in constants)
            same = shapes.get(moved, "?") == shapes.get(node.output[0])
            values = numpy_helper.to_array(constants[fixed[0]])
            if same and (values == idle[node.op_type]).all():
                another[node.output[0]] = moved
                continue
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    read = {name for node in kept for name in node.input}
    used = [one for one in graph.initializer if one.name in read]
    del graph.initializer[:]
    graph.initializer.extend(used)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what the exporter prints and warns of; what fails is raised."""
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _reason(error: BaseException) -> str:
    """The first line of what began it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


def halve_weights(model) -> None:
    """Store the weights of a ModelProto in half precision; they are widened when it is loaded.

    Half the file. What is computed stays in single precision, so that no device has to know more,
    and so do constants: half a pixel's place is no place.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = model.graph, []
    weights = {node.input[1] for node in graph.node if node.op_type in _WEIGHED}
    for one in graph.initializer:
        learned = one.data_type == TensorProto.FLOAT
        learned &= one.name.startswith(WEIGHTS) or one.name in weights
        if not learned or np.prod(one.dims, dtype=int) < _SMALL:
            continue
        values = numpy_helper.to_array(one).astype(np.float16)
        if not np.isfinite(values).all():
            continue
        name, stored = one.name, f"{one.name}_half"
        one.CopyFrom(numpy_helper.from_array(values, stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *rest])


def save(model, path: str | os.PathLike, about: Mapping[str, Any]) -> None:
    """Write a ModelProto, checked, with ``about`` as its metadata :data:`KEY`."""
    import onnx

    onnx.helper.set_model_props(model, {KEY: json.dumps(about, sort_keys=True)})
    onnx.checker.check_model(model)
    Path(path).write_bytes(model.SerializeToString(deterministic=True))
