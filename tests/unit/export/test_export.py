"""Graphs of ONNX make the pictures that PyTorch makes, and what cannot be one is refused."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from regaze.cli import app  # noqa: E402
from regaze.export import check, job  # noqa: E402
from regaze.export.graphs import Verbs, named_tensors, with_tensors  # noqa: E402
from regaze.methods import methods  # noqa: E402
from regaze.redirect.models import sampling_of  # noqa: E402
from regaze.redirectors.sample import load_redirector  # noqa: E402

GIVEN = {"source", "source_gaze", "source_head", "target_gaze", "target_head", "noise"}


@cache
def exported(folder, *, steps=None, **options):
    """Graphs of a model, made once for all tests."""
    return job.exported(folder, sampling_of(folder, None, steps), **options)


@pytest.mark.parametrize("name", ["regression", "single", "student", "sted", "redirtrans", "photo"])
def test_graphs_are_the_method(model, tmp_path, name):
    folder = model(name)
    made = exported(folder)
    assert made.about["check"]["largest"] < 2e-5
    made.write(tmp_path / "graphs")
    # Once more from the files alone, by their own record, on other faces than were checked with.
    about = json.loads((tmp_path / "graphs" / job.RECORD).read_text())
    redirector, _ = load_redirector(folder)
    assert about["size_px"] == redirector.config["size_px"]
    draw = torch.Generator().manual_seed(7)
    told = {
        "source": torch.rand(1, 3, 32, 32, generator=draw) * 2 - 1,
        **{n: torch.rand(1, 2, generator=draw) * 0.4 - 0.2 for n in GIVEN - {"source", "noise"}},
    }
    nobody = {n: torch.tensor([-1]) for n in ("source_row", "target_row")}
    with torch.no_grad():
        wanted = redirector.redirect({**told, **nobody, "pair": torch.tensor([3])}, seed=0)
    given = {n: value.numpy() for n, value in told.items()}
    if noise := redirector.noise_shapes():
        given["noise"] = check.image_noise(0, [3], noise["noise"]).numpy()
    for verb in sorted(about["graphs"], reverse=True):
        given |= check.run(check.session(str(tmp_path / "graphs" / f"{verb}.onnx")), given)
    assert np.abs(given["pictures"] - wanted.numpy()).max() < 2e-5
    # What is asked for is heeded.
    given["target_gaze"] = given["target_gaze"] + np.float32(0.2)
    other = check.run(check.session(str(tmp_path / "graphs" / "edit.onnx")), given)["pictures"]
    assert np.abs(other - wanted.numpy()).max() > 1e-3


@pytest.mark.parametrize("name", ["sted", "regression", "single"])
def test_what_is_computed_of_a_source_is_a_graph_of_its_own(model, name):
    made = exported(model(name))
    assert list(made.models) == ["invert", "edit"]
    told = {one["name"] for one in made.about["graphs"]["edit"]["inputs"]}
    kept = {one["name"] for one in made.about["graphs"]["invert"]["outputs"]}
    assert kept <= told and told - kept <= GIVEN


def test_what_is_constant_is_computed_beforehand(model):
    for graph in exported(model("single")).models.values():
        fixed = {one.name for one in graph.graph.initializer}
        read = {name for node in graph.graph.node for name in node.input}
        assert fixed <= read
        assert all(set(node.input) - fixed - {""} for node in graph.graph.node)
        assert {one.domain for one in graph.opset_import} == {""}


def test_a_source_that_is_kept_as_it_is_has_one_graph(model):
    assert list(exported(model("photo")).models) == ["edit"]


def test_a_graph_of_fixed_rows_is_not_passed_off_as_one_of_any_number(model):
    # Of two frames side by side torch takes the batch of the example for the only one.
    with pytest.raises(ValueError, match="regression: expected a graph of any number of rows"):
        exported(model("regression"), batch=None)


@pytest.mark.parametrize("name", ["photo", "sted"])
def test_any_number_of_rows(model, name):
    made = exported(model(name), batch=None)
    assert made.about["check"]["largest"] < 2e-5
    shapes = [one["shape"] for one in made.about["graphs"]["edit"]["inputs"]]
    assert all(shape[0] == "batch" for shape in shapes)


def test_few_steps_are_one_graph_and_many_are_refused(model):
    assert exported(model("steps"), steps=2).about["check"]["largest"] < 2e-5
    with pytest.raises(ValueError, match="takes 9 evaluations .* at most 8"):
        exported(model("steps"), steps=9)


def test_half_of_the_weights_is_half_of_the_file(model):
    full, half = (exported(model("sted"), half=one) for one in (False, True))
    size = [len(one.models["edit"].SerializeToString()) for one in (full, half)]
    assert size[1] < 0.75 * size[0]
    assert 0 < half.about["check"]["largest"] < 0.05
    stored = {one.data_type for one in half.models["edit"].graph.initializer}
    assert onnx.TensorProto.FLOAT16 in stored


def test_a_file_says_what_it_is(model, tmp_path):
    made = exported(model("sted"))
    made.write(tmp_path / "out")
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    found = onnx.load(str(tmp_path / "out" / "edit.onnx"))
    (own,) = [one.value for one in found.metadata_props if one.key == "regaze"]
    about = json.loads(own)
    assert about["fingerprint"] == record["fingerprint"] and len(about["fingerprint"]) == 16
    assert (about["size_px"], about["factors"]) == (32, ["gaze", "head"])
    units = {one["name"]: one["unit"] for one in about["graphs"]["edit"]["inputs"]}
    assert "radians" in units["target_gaze"] and "up positive" in units["target_gaze"]
    # Nothing of the machine that it was made on.
    assert str(tmp_path).encode() not in found.SerializeToString()
    assert b"site-packages" not in found.SerializeToString()
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == [
        "edit.onnx",
        "export.json",
        "invert.onnx",
    ]


@pytest.mark.parametrize("name", methods())
def test_every_method_is_a_graph_or_says_why_not(name):
    from regaze.methods import method_module
    from regaze.redirectors.declaration import declared_by

    settings = method_module(name, "settings").ModelSettings
    fields = settings.model_fields
    if any(field.is_required() for key, field in fields.items() if key != "class_"):
        pytest.skip("entries of this method name others")
    declaration = declared_by(settings(**{"class": name}).tiny().resolve()).making()
    known = {"xunet", "sted", "redirtrans", "eyewarp"}
    can = not declaration.no_graph and not declaration.inputs
    assert can or name not in known


def test_other_pictures_are_refused_and_nothing_is_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "by_torch", lambda verbs, pairs: np.zeros((10, 3, 32, 32)))
    with pytest.raises(ValueError, match="sted: expected the graphs' pictures to be PyTorch's"):
        list(job.run_export(str(model("sted")), out=tmp_path / "out", models=tmp_path))
    assert not (tmp_path / "out").exists()


def test_what_torch_cannot_write_down_is_told(model, tmp_path):
    config = {"class": "sted", "preset": "tiny", "size_px": 32, "preprocess": "equalise"}
    with pytest.raises(ValueError, match="equalised: expected a graph of ONNX, found "):
        exported(model("equalised", config))


def refused(*arguments):
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert result.exit_code == 1 and "Traceback" not in result.output
    return result.output


def test_bad_input_of_the_command(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sted, out = model("sted"), tmp_path / "out"
    assert "to: expected one of onnx, found 'tflite'" in refused(
        sted, "--out", out, "--to", "tflite"
    )
    assert "precision: expected" in refused(sted, "--out", out, "--precision", "int8")
    assert "batch: expected 1 to 10" in refused(sted, "--out", out, "--batch", "0")
    assert "no trained 'nothing'" in refused("nothing", "--out", out)
    assert "steps: model 'sted' makes its pictures without" in refused(
        sted, "--out", out, "--steps", "2"
    )
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert "expected no such folder" in refused(sted, "--out", out)
    assert [one.name for one in out.iterdir()] == ["mine.txt"]


def test_states_are_taken_apart_and_put_together(model):
    redirector, _ = load_redirector(model("regression"))
    source = check.face_pairs((), 32).rows(0, 2).source
    verbs = Verbs(redirector, source)
    names = [name for name, _ in named_tensors(verbs._like)]
    assert len(set(names)) == len(names)
    tensors = [value for _, value in named_tensors(verbs._like)]
    again = with_tensors(verbs._like, iter([value + 0 for value in tensors]))
    assert [name for name, _ in named_tensors(again)] == names
    assert all(map(torch.equal, tensors, (value for _, value in named_tensors(again))))
