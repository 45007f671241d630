"""Published encoders belong to FLAME 2020: other head models are refused and told what they are."""

import hashlib
import logging
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from regaze.cli import app
from regaze.face3d import convert, editions
from regaze.face3d.convert import convert_flame
from regaze.face3d.deca import Deca, load_published
from regaze.face3d.encoders import PRESETS
from regaze.face3d.model import load_flame, model_hash, save_flame
from regaze.face3d.settings import EncoderSettings
from regaze.provenance import file_sha256

KNOWN = {name: sha256 for sha256, name in editions.EDITIONS.items()}


def made_of(sha256, **more):
    return {"source": "flame", "inputs": {"model": {"name": "m.pkl", "sha256": sha256}}, **more}


def wide(model, meta):
    """The tests' head with FLAME's numbers of directions."""
    directions = np.random.default_rng(0).normal(0, 1e-3, (len(model.v_template), 3, 400))
    arrays = {"shapedirs": directions.astype(np.float32), "n_shape_total": 300, "regions": None}
    return replace(model, **arrays, meta=meta)


@pytest.fixture(scope="module")
def flame(model):
    return wide(model, made_of(KNOWN["2020"]))


@pytest.fixture
def files(tmp_path, model, monkeypatch):
    """Small networks in DECA's and EMOCA's containers."""
    monkeypatch.setitem(PRESETS, "reference", PRESETS["tiny"])
    torch.manual_seed(0)
    state = Deca(model, "reference", expression_encoder=True, detail=True).state_dict()
    parts = {}
    for key, value in state.items():
        name, rest = key.split(".", 1)
        parts.setdefault(name, {})[rest] = value
    names = ("E_flame", "E_detail", "D_detail")
    torch.save({name: parts[name] for name in names}, tmp_path / "deca_model.tar")
    lightning = {f"deca.{key}": value for key, value in state.items()}
    torch.save({"state_dict": lightning}, tmp_path / "emoca.ckpt")
    return tmp_path, lightning


@pytest.mark.parametrize(
    ("meta", "edition", "words"),
    [
        (made_of(KNOWN["2020"]), "2020", "FLAME 2020"),
        (made_of(KNOWN["2023"], edition="2020"), "2023", "FLAME 2023"),
        (made_of(KNOWN["2023 Open"]), "2023 Open", "FLAME 2023 Open"),
        (made_of("0" * 64, edition="2020"), "2020", "FLAME 2020"),
        (made_of("0" * 64), None, r"FLAME of an unknown edition \(m.pkl\)"),
        ({"source": "flame"}, None, r"FLAME of an unknown edition \(an unnamed file\)"),
        ({"source": "synthetic", "edition": "2020"}, None, "the procedural head"),
        ({"source": "ict"}, None, "ICT-FaceKit's head"),
        ({"source": "unknown"}, None, "a head model of unknown source"),
    ],
)
def test_head_models_are_told_apart(model, files, meta, edition, words):
    assert editions.edition_of(meta) == edition
    head = wide(model, meta)
    for given in ({"deca": files[0] / "deca_model.tar"}, {"emoca": files[0] / "emoca.ckpt"}):
        if edition == "2020":
            assert load_published(head, **given).E_detail is not None
            continue
        with pytest.raises(ValueError, match=rf"expected FLAME 2020 .*found {words}") as caught:
            load_published(head, **given)
        assert f"head_sha256: {model_hash(head)}" in str(caught.value)


def test_weights_of_the_users_own_training_name_their_head(model, flame, files, monkeypatch):
    path = files[0] / "deca_model.tar"
    own = model_hash(model)
    assert load_published(model, deca=path, head_sha256=own).kind == "deca"
    assert load_published(model, emoca=files[0] / "emoca.ckpt", head_sha256=own).kind == "emoca"
    with pytest.raises(ValueError, match=f"head_sha256: the weights belong to {own}, this"):
        load_published(flame, deca=path, head_sha256=own)
    # what is stated does not change whose weights the published ones are
    monkeypatch.setattr("regaze.face3d.deca.DECA_SHA256", file_sha256(path))
    with pytest.raises(ValueError, match="found the procedural head"):
        load_published(model, deca=path, head_sha256=own)
    assert load_published(flame, deca=path, head_sha256=model_hash(flame)).kind == "deca"


def test_a_checkpoint_that_holds_its_head_model_decides(model, flame, files):
    """EMOCA's files do: whoever trained it on whatever head needs to state nothing."""
    folder, state = files

    def saved(head, **change):
        first = head.n_shape_total
        kept = [*range(min(first, 100)), *range(first, first + 50)]
        kept = [number for number in kept if number < head.shapedirs.shape[2]]
        arrays = {
            "v_template": torch.from_numpy(head.v_template),
            "shapedirs": torch.from_numpy(head.shapedirs[:, :, kept]),
        } | change
        held = {f"deca.flame.{name}": value for name, value in arrays.items()}
        torch.save({"state_dict": state | held}, folder / "held.ckpt")
        return folder / "held.ckpt"

    for head in (flame, model):
        assert load_published(head, emoca=saved(head)).kind == "emoca"
    # FLAME 2020, but the run was trained with another edition; and the other way round
    with pytest.raises(ValueError, match="model that the checkpoint holds, found FLAME 2020"):
        load_published(flame, emoca=saved(model))
    moved = torch.from_numpy(flame.v_template) + 1e-3
    with pytest.raises(ValueError, match="model that the checkpoint holds"):
        load_published(flame, emoca=saved(flame, v_template=moved))
    other = replace(flame, shapedirs=1.01 * flame.shapedirs)
    with pytest.raises(ValueError, match="model that the checkpoint holds"):
        load_published(other, emoca=saved(flame))


def test_directions_counted_otherwise_and_another_texture(flame, files, caplog):
    path = files[0] / "deca_model.tar"
    with pytest.raises(ValueError, match="expected 300 identity directions.*found 100"):
        load_published(replace(flame, n_shape_total=100), deca=path)
    meta = flame.meta | {"texture": "flame"}
    with caplog.at_level(logging.WARNING):
        load_published(replace(flame, meta=flame.meta | {"texture": "bfm"}), deca=path)
        assert not caplog.records
        load_published(replace(flame, meta=meta), deca=path)
    assert "texture codes belong to FLAME_albedo_from_BFM.npz" in caplog.text


def test_the_commands_refuse_and_take_a_statement(model, files, tmp_path):
    save_flame(tmp_path / "head.npz", model)
    words = ["face3d", "a.png", "--checkpoint", str(files[0] / "deca_model.tar"), "--head"]
    words += [str(tmp_path / "head.npz"), "--landmarks", "none.txt", "--device", "cpu"]
    words += ["--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code != 0 and "expected FLAME 2020" in str(done.exception)
    assert not (tmp_path / "out").exists()
    shown = CliRunner().invoke(app, ["head", "show", str(tmp_path / "head.npz")]).output
    assert "it is the procedural head" in shown
    stated = shown.split("sha256 ")[1][:64]
    done = CliRunner().invoke(app, [*words, "--head-sha256", stated])
    assert "expected FLAME 2020" not in str(done.exception)
    assert "a.png" in str(done.exception)
    alone = CliRunner().invoke(app, ["face3d", "a.png", "--head-sha256", stated])
    assert "--head-sha256: belongs to a --checkpoint" in str(alone.exception)
    named = CliRunner().invoke(app, ["face3d", "a.png", "--encoder", "mine", "--checkpoint", "b"])
    assert "--checkpoint: expected --encoder deca or emoca, found 'mine'" in str(named.exception)


def test_a_run_ends_before_its_first_job(tmp_path, model, flame):
    entry = {"checkpoint": "deca_model.tar", "preset": "reference"}

    def asked(head_model, **more):
        encoders = {"deca": EncoderSettings(**entry, **more), "other": EncoderSettings()}
        return editions.foreign_heads(encoders, head_model)

    (line,) = asked(None)
    assert line.startswith("encoders.deca.checkpoint: expected FLAME 2020")
    save_flame(tmp_path / "own.npz", model)
    (line,) = asked(tmp_path / "own.npz")
    assert line.endswith(f"head_sha256: {model_hash(model)}")
    assert not asked(tmp_path / "own.npz", head_sha256=model_hash(model))
    save_flame(tmp_path / "flame.npz", flame)
    assert not asked(tmp_path / "flame.npz")


def test_settings_state_a_head_of_a_checkpoint_only():
    entry = EncoderSettings(checkpoint="d.tar", preset="reference", head_sha256="0" * 64)
    assert entry.weights == {"deca": "d.tar", "head_sha256": "0" * 64}
    assert EncoderSettings().weights == {}
    with pytest.raises(ValueError, match="head_sha256: is for a checkpoint"):
        EncoderSettings(head_sha256="0" * 64)


def write_flame(folder, model, sizes):
    """Pickles with FLAME's arrays of the tests' head."""
    vertices, triangles, directions = sizes
    content = {
        "f": np.resize(model.f, (triangles, 3)),
        "v_template": np.resize(model.v_template, (vertices, 3)),
        "shapedirs": np.full((vertices, 3, directions), 1e-3, np.float32),
        "posedirs": np.zeros((vertices, 3, 36), np.float32),
        "J_regressor": np.full((5, vertices), 1 / vertices),
        "weights": np.eye(5, dtype=np.float32)[np.zeros(vertices, int)],
        "kintree_table": np.array(model.kintree_table),
    }
    (folder / "generic_model.pkl").write_bytes(pickle.dumps(content, 2))
    names = ("static_lmk", "dynamic_lmk", "full_lmk")
    marks = {
        f"{n}_{p}": getattr(model, f"{n}_{p}") for n in names for p in ("faces_idx", "bary_coords")
    }
    np.save(folder / "landmarks.npy", np.array(marks, object), allow_pickle=True)
    return folder / "generic_model.pkl", folder / "landmarks.npy"


def test_conversion_records_the_edition(tmp_path, model, monkeypatch):
    sizes = (len(model.v_template), len(model.f), 20)
    given = write_flame(tmp_path, model, sizes)
    out = tmp_path / "o.npz"
    with pytest.raises(
        ValueError, match="edition: expected one of 2020, 2023, 2023 Open, found '2"
    ):
        convert_flame(*given, out, n_shape_total=12, edition="2019")
    with pytest.raises(ValueError, match="expected FLAME's 5023 vertices, 9976 triangles, 400 dir"):
        convert_flame(*given, out, n_shape_total=12, edition="2020")
    assert not out.exists()
    assert editions.edition_of(convert_flame(*given, out, n_shape_total=12).meta) is None
    monkeypatch.setattr(convert, "TOPOLOGY", (*sizes, 12))
    made = convert_flame(*given, out, n_shape_total=12, edition="2020")
    assert editions.edition_of(made.meta) == editions.edition_of(load_flame(out).meta) == "2020"
    # a file that is known needs no statement, and contradicts a wrong one
    sha256 = hashlib.sha256(given[0].read_bytes()).hexdigest()
    monkeypatch.setitem(editions.EDITIONS, sha256, "2023")
    assert editions.edition_of(convert_flame(*given, out, n_shape_total=12).meta) == "2023"
    with pytest.raises(ValueError, match="edition: the file is FLAME 2023, told was 2020"):
        convert_flame(*given, out, n_shape_total=12, edition="2020")
