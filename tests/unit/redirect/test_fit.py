"""``regaze fit`` from the command to its files, with an untrained field."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from regaze.cli import app
from regaze.face3d.nl3dmm_fit import HeadFit
from regaze.face3d.nl3dmm_fit import write_fit as write_head
from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.masks.condition import MaskRows
from regaze.redirect.fit import Taken, carried
from regaze.redirect.masks import SourceMasks
from regaze.redirect.place import row_place
from regaze.redirectors.base import build_redirector
from regaze.redirectors.declaration import declared_by
from regaze.redirectors.gazenerf.redirector import GazeNerf
from regaze.redirectors.gazenerf.settings import ModelSettings

STEPS = 2


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A folder of models with an untrained field that is told no codes."""
    models = tmp_path_factory.mktemp("results") / "models"
    torch.manual_seed(0)
    entry = {"class": "gazenerf", "preset": "tiny", "size_px": 32, "encoder": None}
    config = ModelSettings(**entry).resolve()
    made = build_redirector(config, {"steps": STEPS, "rate": 1.0})
    folder = models / "gazenerf"
    folder.mkdir(parents=True)
    state = {key: value.contiguous() for key, value in made.saved.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    masks = declared_by(config).input("masks").options
    told = {**masks, "identity": {"method": "exact", "method_version": "example"}}
    record = {"name": "gazenerf", "kind": "redirector", "config": config, "inputs": {"masks": told}}
    (folder / "model.json").write_text(json.dumps(record))
    return models


@pytest.fixture
def models(tmp_path, field, monkeypatch):
    """The folder of models, to be damaged, in a folder without a configuration."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(field, tmp_path / "results/models")


def run(command, *arguments):
    return CliRunner().invoke(app, [command, *(str(one) for one in arguments)])


def done(*arguments, command="fit"):
    result = run(command, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments):
    result = run("fit", *arguments)
    assert result.exit_code not in (0, 2) and "Traceback" not in result.output
    return result.output


def common(scene, *more, steps=STEPS):
    return (scene.path, "--landmarks", scene.marks, "--source-gaze", 2, -3, "--device", "cpu",
            *(() if steps is None else ("--steps", steps)), *more)  # fmt: skip


def test_a_photo_is_fitted_shown_and_kept(scene, models, monkeypatch, tmp_path):
    other = tmp_path / "other.png"
    Image.fromarray(scene.photo[:, ::-1] // 2 + 60).save(other)
    np.savez(tmp_path / "other.npz", landmarks=scene.points)
    marks = tmp_path / "marks"
    marks.mkdir()
    shutil.copy(scene.marks, marks / "photo.npz")
    shutil.copy(scene.marks, marks / "other.npz")
    fits, own = [], GazeNerf.fit
    monkeypatch.setattr(GazeNerf, "fit", lambda *a, **k: fits.append(1) or own(*a, **k))
    given = (scene.path, "--landmarks", marks, "--source-gaze", 2, -3, "--steps", STEPS)
    said = done(*given, "--morph", other, "--take", f"texture={other}", "--out", "a")
    assert "made, 2 steps" in said and "dB inside the mask" in said and len(fits) == 2
    out = tmp_path / "a"
    assert Image.open(out / "photo.fit.png").size == (2 * 256 + 2 * 1, 256)
    for kind in ("views", "gaze", "morph"):
        with Image.open(out / f"photo.{kind}.gif") as film:
            # Frames that are alike are stored as one.
            assert 4 < film.n_frames <= 32 and film.size == (256, 256)
    published = torch.load(out / "photo.latents.pth", weights_only=True)["code"]
    assert published["bg_code"] is None and published["shape_code"].shape == (1, 179)
    state = load_file(out / "photo.fit.safetensors")
    codes = torch.cat([published["shape_code"], published["appea_code"]], 1)
    assert torch.equal(codes, state["codes"]) and bool(codes.any())
    record = json.loads((out / "photo.fit.json").read_text())
    assert record["source_masks_from"] == "landmarks" and record["source_fit_from"] == "made"
    assert record["psnr_in_mask"] > 0 and set(record["files"]) <= {p.name for p in out.iterdir()}
    # The same photo again is not fitted again, here or by `regaze redirect`, nor with fewer steps.
    again = done(*given, "--take", "shape@0.5=a/photo.fit.safetensors", "--out", "b")
    assert "kept, 2 steps" in again and len(fits) == 2
    same = ("photo.fit.png", "photo.views.gif", "photo.fit.safetensors")
    assert all((out / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in same)
    shown = [np.asarray(Image.open(tmp_path / name / "photo.png")) for name in "ab"]
    assert (shown[0] != shown[1]).any()
    asked = ("--landmarks", marks, "--source-gaze", 2, -3, "--model", "gazenerf", "--gaze", 5, 5)
    done(scene.path, *asked, command="redirect")
    (face,) = json.loads((tmp_path / "redirected/redirect.json").read_text())["faces"]
    assert face["source_fit_from"] == "made" and len(fits) == 3, "20 steps are more than 2"
    done(scene.path, *asked, command="redirect")
    assert len(fits) == 3
    # Other weights have other fits.
    weights = models / "gazenerf/model.safetensors"
    changed = load_file(weights)
    changed["field.neural_render.bg_featmap"] += 0.01
    save_file(changed, weights)
    done(*given, "--out", "c")
    assert len(fits) == 4


def test_a_fit_starts_at_the_codes_of_a_file(scene, models, tmp_path):
    torch.manual_seed(3)
    code = {"shape_code": torch.randn(1, 179), "appea_code": torch.randn(1, 127)}
    torch.save({"code": {"bg_code": None, **code}}, "LatentCodes_a.pth")
    matrices = (torch.eye(3), torch.zeros(3), torch.eye(3)) * 2
    write_head("a_nl3dmm.pkl", HeadFit(torch.cat([*code.values()], 1)[0], *matrices))
    found = {}
    for name in ("LatentCodes_a.pth", "a_nl3dmm.pkl"):
        done(*common(scene, steps=0), "--codes", name, "--out", name[0])
        found[name] = load_file(f"{name[0]}/photo.fit.safetensors")["codes"]
        record = json.loads((tmp_path / name[0] / "photo.fit.json").read_text())
        assert record["source_codes_from"] == name
        torch.testing.assert_close(found[name], torch.cat([*code.values()], 1))
    done(*common(scene, steps=0), "--out", "plain")
    assert not load_file("plain/photo.fit.safetensors")["codes"].any()
    torch.save({"code": {**code, "appea_code": torch.ones(1, 5)}}, "short.pth")
    said = refused(*common(scene), "--codes", "short.pth")
    assert "short.pth: expected codes of 179 and 127 numbers" in said and "179 and 5" in said
    torch.save({"code": {**code, "appea_code": torch.full((1, 127), torch.nan)}}, "nan.pth")
    said = refused(*common(scene), "--codes", "nan.pth")
    assert "nan.pth: appea_code: expected finite numbers" in said


def test_a_fit_that_cannot_be_read_is_made_again(scene, models):
    done(*common(scene))
    (kept,) = (models.parent / "fits").iterdir()
    content = kept.read_bytes()
    kept.write_bytes(content[:40])
    assert "made" in done(*common(scene)) and kept.read_bytes() == content


def test_the_camera_walks_around_the_head_and_the_eyes_stay_in_it(scene, models, tmp_path):
    found = {}
    for name, more in {
        "plain": ("--gaze", 2, -3), "roll": ("--camera", 0, 0, 90), "yaw": ("--camera", 0, 20, 0)
    }.items():  # fmt: skip
        done(*common(scene), *more, "--out", name)
        found[name] = np.asarray(Image.open(tmp_path / name / "photo.png")).astype(int)
    assert np.abs(found["plain"] - found["yaw"]).max() > 0
    # The map's pixels are its corners: turned pictures agree but for half a pixel of the map.
    turned = np.rot90(found["plain"], 1)
    assert np.abs(turned - found["roll"]).mean() < np.abs(found["plain"] - found["roll"]).mean()
    gaze, head = np.array([0.1, -0.2]), np.array([0.05, 0.1])
    np.testing.assert_allclose(carried(gaze, head, head), gaze, atol=1e-12)
    np.testing.assert_allclose(carried(head, head, gaze), gaze, atol=1e-12)


def test_masks_of_a_photo(scene, models, tmp_path):
    mask = np.zeros(scene.photo.shape[:2], np.uint8)
    mask[40:200, 60:260] = 255
    cv2.imwrite("mask.png", mask)
    done(*common(scene), "--mask", "mask.png")
    record = json.loads((tmp_path / "fitted/photo.fit.json").read_text())
    assert record["source_masks_from"] == "given"
    cv2.imwrite("small.png", mask[::2, ::2])
    said = refused(*common(scene), "--mask", "small.png")
    assert "small.png: mask: expected one of the size of" in said
    assert "320 x 240 pixels, found 160 x 120" in said
    cv2.imwrite("black.png", 0 * mask)
    assert "white where the head of" in refused(*common(scene), "--mask", "black.png")


def another_side(models):
    record = models / "gazenerf/model.json"
    content = json.loads(record.read_text())
    content["config"]["network"]["side"] = 16
    record.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--take", "texture"), "take: expected PART=FILE or PART@SHARE=FILE, found 'texture'"),
        (("--take", "nose=a.fit.safetensors"), "a.fit.safetensors: expected a fit"),
        (("--take", "texture=none.png"), "none.png: expected a photo"),
        (("--morph", "none.png"), "none.png: expected a photo"),
        (("--camera", 0, 95, 0), "camera yaw: expected degrees from -90 to 90, found 95"),
        (
            ("--head", 0, 60, "--camera", 0, 60, 0),
            "camera 0: expected one that looks at the head",
        ),
        (("--mask", "none.png"), "none.png"),
        (("--model", "other"), "model: no trained 'other' in results/models; there are: gazenerf"),
    ],
)
def test_what_cannot_be_done_is_refused(scene, models, more, told):
    assert told in refused(*common(scene), *more).replace("\n", " ")


def test_models_that_do_not_fit(scene, models):
    for name in ("small.fit.safetensors", "nose.fit.safetensors"):
        save_file({"codes": torch.zeros(1, 5)}, name, {"fingerprint": "0" * 16})
    assert "expected a fit by the model" in refused(
        *common(scene), "--take", "shape=small.fit.safetensors"
    )
    done(*common(scene), "--out", "a")
    said = refused(*common(scene), "--take", "nose=a/photo.fit.safetensors")
    assert "take: expected one of shape, expression, texture, light, found 'nose'" in said
    another_side(models)
    said = refused(*common(scene))
    assert "bg_featmap expected" in said and "(1, 48, 8, 8)" in said


def test_faces_that_are_not_there_are_refused(scene, models):
    np.savez("none.npz", landmarks=np.full((68, 2), np.nan))
    told = refused(scene.path, "--landmarks", "none.npz", "--source-gaze", 0, 0)
    assert "no face has finite landmarks" in told
    assert "gaze of the source is unknown" in refused(scene.path, "--landmarks", scene.marks)


def test_codes_that_are_no_numbers_are_refused():
    entry = {"class": "gazenerf", "preset": "tiny", "size_px": 32}
    made = build_redirector(ModelSettings(**entry).resolve(), {"steps": 1, "rate": 1.0})
    source = {
        "source": torch.zeros(1, 3, 32, 32), "source_gaze": torch.zeros(1, 2),
        "source_head": torch.zeros(1, 2), "source_code": torch.full((1, 227), float("nan")),
        "source_codes_known": torch.ones(1, dtype=torch.bool),
    }  # fmt: skip
    with pytest.raises(ValueError, match="codes: expected finite numbers, found others in source"):
        made.fit(source, seed=0)


def test_what_is_taken():
    assert Taken.of("shape=a.png") == Taken("shape", 1.0, "a.png")
    assert Taken.of("light@0.25=b=c.png") == Taken("light", 0.25, "b=c.png")
    for text in ("shape@x=a.png", "=a.png", "shape=", "shape@nan=a.png"):
        with pytest.raises(ValueError, match="take: expected PART=FILE"):
            Taken.of(text)


def test_masks_of_a_row_are_those_beside_its_faces(textured, models, tmp_path):
    faces = tmp_path / "set/faces/shard-000.h5"
    pixels = np.stack([textured(seed, (64, 64)) for seed in range(2)])
    marks = np.random.default_rng(0).uniform(15, 49, (2, 68, 2)).astype(np.float32)
    attributes = FacesAttributes("sted", (64, 64), 250.0, 600.0, "none", "synthetic")
    with FacesWriter(faces, attributes) as writer:
        writer.add_person("p", pixels, np.zeros((2, 8), np.float32), landmarks=marks)
    reader, told = FacesReader([faces]), {"names": ["head", "eyes"]}
    stored = tmp_path / "set/masks/shard-000.h5"
    stored.parent.mkdir()
    MaskRows.write_example(stored, told, reader, np.array([True, False]))
    same = {"method": "exact", "method_version": "example"}
    found = {}
    for identity in (same, {**same, "method": "mesh"}):
        maker = SourceMasks(told, models / "gazenerf", identity)
        for row in (0, 1):
            place = row_place(f"{faces}:p/{row}", size_px=32)
            found[identity["method"], row] = maker.of(place)
    assert [where for _, where in found.values()] == ["masks", *3 * ["landmarks"]]
    values, _ = found["exact", 0]
    rows = MaskRows(told, [stored], reader)
    wanted = rows.finish(rows.read(np.array([0]))["masks"], 32, None)
    assert torch.equal(values["masks"], wanted) and not values["masks_doubt"].any()
    drawn, _ = found["mesh", 0]
    assert drawn["masks"].shape == (1, 2, 32, 32) and bool(drawn["masks_doubt"].any())
    blind = replace(row_place(f"{faces}:p/1", size_px=32), landmarks=None)
    with pytest.raises(ValueError, match="p/1: this model is told masks, which need the face's 68"):
        maker.of(blind)
