#!/usr/bin/env bash
# Guess:   `torch.onnx.export(model, ..., dynamic_shapes=...)` gives a graph whose named dimensions are
#          free, or an error where the model fixes one, as `torch.export.export` does of which it is made.
# Happens: with torch 2.15.0 a model that calls `len(x)` where another says `x.shape[0]` is fixed to the
#          example's batch. torch.export.export with the same arguments raises a UserError that says so;
#          torch.onnx.export returns a graph of that one batch, without an exception. The file then
#          refuses every other batch, or is taken for one that takes any.
# Seen:    torch 2.15.0, onnx 1.23.2, onnxscript 0.7.2, Python 3.11, Linux x86-64, 2026-11-30
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2
cat > batches.py <<'PY'
import contextlib
import io
import sys

import torch


class Ask(torch.nn.Module):
    """Adds a row of zeros per picture; ``way`` is how it counts them."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def forward(self, x):
        count = len(x) if self.way == "len(x)" else x.shape[0]
        return x + torch.zeros(count, 1)


given, shapes = (torch.ones(2, 3),), ({0: torch.export.Dim("batch")},)
seen = {}
for way in ("x.shape[0]", "len(x)"):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            torch.export.export(Ask(way), given, dynamic_shapes=shapes)
            exported = "exports"
        except Exception as error:
            exported = f"raises {type(error).__name__}"
        program = torch.onnx.export(Ask(way), given, dynamo=True, dynamic_shapes=shapes)
    batch = program.model.graph.inputs[0].shape[0]
    seen[way] = exported, str(batch)
    print(f"{way}: torch.export {exported}; batch of torch.onnx.export's graph: {batch}")
expected = {"x.shape[0]": ("exports", "batch"), "len(x)": ("raises UserError", "2")}
sys.exit(0 if seen == expected else 1)
PY
venv/bin/python batches.py || { echo "this is not what was seen before"; exit 1; }
