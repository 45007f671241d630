"""``regaze redirect`` with a model that edits codes of FFHQ-aligned faces: frame, grid, codes."""

import csv
import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from redirect_command import done, refused
from safetensors.numpy import load_file, save
from safetensors.torch import save_file
from skimage import data

from regaze.estimators.build import build_estimator
from regaze.faces import FacesAttributes, FacesWriter
from regaze.landmarks.mesh import MeshDetector
from regaze.normalise.ffhq import NotFramed, framed, square_of
from regaze.provenance import fingerprint
from regaze.redirect.grid import COLUMNS, grid
from regaze.redirect.place import photo_place, row_place
from regaze.redirect.wplus import read_code, write_code
from regaze.redirectors.base import build_redirector
from regaze.redirectors.inversion.settings import ModelSettings as Inversion
from regaze.redirectors.redirtrans_gan.settings import ModelSettings as Gan

FFHQ = {"framing": "ffhq", "patch_size": [64, 64]}
STED = {"variant": "sted", "patch_size": [128, 128], "focal": 500.0, "distance": 600.0}
TINY = {"preset": "tiny", "size_px": 32}


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    """A folder with a portrait and its landmarks."""
    folder = tmp_path_factory.mktemp("portrait")
    photo = data.astronaut()
    Image.fromarray(photo).save(folder / "photo.png")
    np.savez(folder / "photo.npz", landmarks=MeshDetector().all_faces(photo)[0])
    return folder


def save_model(folder, network, kind, config, **more):
    folder.mkdir()
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    record = {"name": folder.name, "kind": kind, "config": config, "inputs": {}, **more}
    (folder / "model.json").write_text(json.dumps(record))
    return fingerprint(folder / "model.safetensors")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Untrained models of aligned faces, and an estimator of normalised ones."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    config = Inversion(**{"class": "inversion", **TINY}).resolve()
    inverter = build_redirector(config)
    torch.nn.init.normal_(inverter.saved.encoder.deltas.weight, std=0.1)
    known = save_model(folder / "inverter", inverter.saved, "redirector", config, view=FFHQ)
    config = Gan(**{"class": "redirtrans_gan", "inverter": "inverter", **TINY}).resolve()
    networks = {"inverter": {"entry": "inverter", "fingerprint": known, "always": True}}
    made = build_redirector(config)
    save_model(folder / "gan", made.saved, "redirector", config, view=FFHQ, networks=networks)
    judge = build_estimator("resnet", "tiny", 32, "none")
    save_model(folder / "judge", judge, "estimator", judge.config(), view=STED)
    return folder


def asked(portrait, models, *more, model="gan", gaze=(5, 5)):
    angles = () if gaze is None else ("--gaze", *gaze)
    marks = ("--landmarks", portrait / "photo.npz")
    return (portrait / "photo.png", "--model", model, "--models", models, *marks, *angles, *more)


def picture(path):
    return np.asarray(Image.open(path)).astype(int)


def test_a_photo_is_aligned_inverted_edited_and_pasted(tmp_path, portrait, models):
    said = done(*asked(portrait, models, "--out", tmp_path, "--read-gaze", "estimator"))
    assert "estimated by judge" in said
    (face,) = json.loads((tmp_path / "redirect.json").read_text())["faces"]
    assert face["framing"] == "ffhq" and 0 <= face["frame_outside"] < 0.3
    assert face["aligned"] is None and face["inversion"] == "photo.inversion.png"
    # The judge knows another view, so that it reads photos alone.
    (result,) = face["results"]
    assert "measured_photo" in result and "measured_patch" not in result
    beside = picture(tmp_path / "photo.inversion.png")
    assert beside.shape == (32, 64, 3)
    photo = picture(portrait / "photo.png").astype(np.uint8)
    marks = np.load(portrait / "photo.npz")["landmarks"]
    patch = framed(photo, square_of(marks), 64)[0]
    wanted = cv2.resize(patch, (32, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(beside[:, :32], wanted)
    # The face alone is changed.
    changed = np.abs(picture(tmp_path / "photo.png") - photo).max(axis=2) > 0
    y, x = np.nonzero(changed)
    low, high = marks.min(axis=0) - 60, marks.max(axis=0) + 60
    assert changed.any() and (x > low[0]).all() and (x < high[0]).all() and (y < high[1]).all()


def test_pasting_an_aligned_patch_undoes_taking_it(portrait):
    place = photo_place(
        portrait / "photo.png", size_px=64, trained_on=FFHQ, landmarks=portrait / "photo.npz"
    )
    assert place.patch.shape == (64, 64, 3)
    eyes = place.landmarks[36:48].mean(axis=0)
    back = place.view.to_patch(np.load(portrait / "photo.npz")["landmarks"])
    np.testing.assert_allclose(back[36:48].mean(axis=0), eyes, atol=1e-6)
    # As large as the model's pictures where these are larger than its patches.
    large = photo_place(
        portrait / "photo.png", size_px=96, trained_on=FFHQ, landmarks=portrait / "photo.npz"
    )
    assert large.patch.shape == (96, 96, 3)


def test_a_grid_is_a_sheet_and_a_table(tmp_path, portrait, models):
    said = done(*asked(portrait, models, "--grid", "--out", tmp_path, gaze=None))
    assert "81 pictures, off by head" in said
    lines = list(csv.DictReader((tmp_path / "photo.grid.csv").read_text().splitlines()))
    assert len(lines) == 81 and tuple(lines[0]) == COLUMNS
    heads = {(line["asked_head_pitch"], line["asked_head_yaw"]) for line in lines}
    assert len(heads) == 9
    assert [lines[0][name] for name in COLUMNS[:4]] == ["-10.00"] * 4
    assert float(lines[5]["gaze_error"]) > 0 and lines[5]["measured_gaze_yaw"]
    sheet = Image.open(tmp_path / "photo.grid.png")
    assert sheet.width > 9 * 96 and sheet.height > 10 * 96
    (face,) = json.loads((tmp_path / "redirect.json").read_text())["faces"]
    assert face["grid"] == ["photo.grid.png", "photo.grid.csv"] and len(face["results"]) == 81
    assert not (tmp_path / "photo.png").exists()


def test_a_grid_without_an_estimator_has_empty_cells(tmp_path, portrait, models):
    bare = tmp_path / "models"
    for name in ("gan", "inverter"):
        shutil.copytree(models / name, bare / name)
    out = tmp_path / "out"
    done(*asked(portrait, bare, "--grid", "--source-gaze", 0, 0, "--out", out, gaze=None))
    (first, *_) = csv.DictReader((out / "photo.grid.csv").read_text().splitlines())
    assert first["asked_gaze_yaw"] == "-10.00" and first["gaze_error"] == ""


def test_of_a_grid_what_the_estimator_hardly_reads_is_left_empty(tmp_path, portrait, models):
    shutil.copytree(models, tmp_path / "models")
    (record,) = [
        one
        for one in (tmp_path / "models").glob("*/model.json")
        if json.loads(one.read_text())["kind"] == "estimator"
    ]
    slopes = {"gaze_pitch_slope": 0.1, "gaze_yaw_slope": 0.9}
    record.write_text(json.dumps(json.loads(record.read_text()) | {"held_out": slopes}))
    out = tmp_path / "out"
    said = done(*asked(portrait, tmp_path / "models", "--grid", "--out", out, gaze=None))
    assert "81 pictures, off by head" in said and "gaze" not in said.split("81 pictures")[1]
    (first, *_) = csv.DictReader((out / "photo.grid.csv").read_text().splitlines())
    assert first["measured_gaze_pitch"] == first["gaze_error"] == ""
    assert first["measured_gaze_yaw"] and first["head_error"]


def test_requests_of_a_grid():
    made = grid()
    assert (made[0].head, made[0].gaze) == ((-10, -10), (-10, -10))
    assert (made[40].head, made[40].gaze) == ((0, 0), (0, 0)) and not made[0].relative
    assert len({(one.head, one.gaze) for one in made}) == 81


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_codes_are_written_and_read(tmp_path, portrait, models, kind):
    done(*asked(portrait, models, "--save-code", kind, "--out", tmp_path / "a"))
    path = tmp_path / f"a/photo.code.{kind}"
    found = np.load(path)["code"] if kind == "npz" else load_file(path)["code"]
    assert found.dtype == np.float32 and found.ndim == 2
    done(*asked(portrait, models, "--code", path, "--out", tmp_path / "b"))
    for name in ("photo.patch.png", "photo.inversion.png", "photo.png"):
        assert np.abs(picture(tmp_path / "a" / name) - picture(tmp_path / "b" / name)).max() <= 1
    (face,) = json.loads((tmp_path / "b/redirect.json").read_text())["faces"]
    assert face["source_code_from"] == str(path)
    # Another code is another face.
    told = fingerprint(models / "inverter/model.safetensors")
    write_code(tmp_path / f"other.{kind}", found + 1, told)
    done(*asked(portrait, models, "--code", tmp_path / f"other.{kind}", "--out", tmp_path / "c"))
    name = "photo.inversion.png"
    assert np.abs(picture(tmp_path / "a" / name) - picture(tmp_path / "c" / name)).max() > 5
    # The inverter alone takes the same codes, and draws what is beside.
    done(*asked(portrait, models, "--code", path, "--out", tmp_path / "d", model="inverter"))
    assert np.abs(picture(tmp_path / "a" / name) - picture(tmp_path / "d" / name)).max() <= 1


def test_codes_that_cannot_be_used_are_refused(tmp_path):
    code = np.zeros((4, 8), np.float32)
    write_code(tmp_path / "a.npz", code, "one")
    assert read_code(tmp_path / "a.npz", (4, 8), "one").shape == (4, 8)

    def refuses(name, shape=(4, 8), told="one"):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            read_code(tmp_path / name, shape, told)
        assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)
        return str(error.value)

    assert "of the model's generator (two), found one of another (one)" in refuses(
        "a.npz", told="two"
    )
    assert "expected (6, 8) numbers, found (4, 8)" in refuses("a.npz", (6, 8))
    assert "a .npz or .safetensors file; found '.pt'" in refuses("a.pt")
    assert "no such file" in refuses("b.npz")
    write_code(tmp_path / "nan.safetensors", code + np.nan, "one")
    assert "expected finite numbers" in refuses("nan.safetensors")
    (tmp_path / "page.safetensors").write_text("<!doctype html><html></html>" * 9)
    assert "expected a code as .safetensors" in refuses("page.safetensors")
    (tmp_path / "page.npz").write_text("<!doctype html><html></html>")
    assert "expected an .npz with a code" in refuses("page.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    assert "expected an .npz with a code" in refuses("cut.npz")
    np.savez(tmp_path / "bare.npz", code=code)
    assert "found one of another (not told)" in refuses("bare.npz")
    (tmp_path / "lacks.safetensors").write_bytes(save({"w": code}))
    assert "expected a tensor 'code', found w" in refuses("lacks.safetensors")


def test_what_a_model_cannot_do_is_one_line(tmp_path, portrait, models):
    said = refused(*asked(portrait, models, "--save-code", "png"))
    assert "a code is a .npz or .safetensors file" in said
    said = refused(*asked(portrait, models, "--grid"))
    assert "expected angles or the angles of --grid, found both" in said
    said = refused(*asked(portrait, models, "--grid", "--sweep", "line", gaze=None))
    assert "found sweep and grid" in said
    said = refused(*asked(portrait, models, "--save-code", "npz", "--sweep", "line", gaze=None))
    assert "save-code: a sweep is one file" in said
    plain = tmp_path / "models"
    shutil.copytree(models, plain)
    from regaze.redirectors.sted.settings import ModelSettings

    config = ModelSettings(**{"class": "sted", **TINY}).resolve()
    save_model(plain / "sted", build_redirector(config).saved, "redirector", config, view=FFHQ)
    said = refused(*asked(portrait, plain, "--save-code", "npz", model="sted"))
    assert "model 'sted' edits no codes of a generator" in said
    said = refused(*asked(portrait, plain, "--code", tmp_path / "a.npz", model="sted"))
    assert "model 'sted' edits no codes of a generator" in said


def moved(portrait, tmp_path, by, size=None):
    """The portrait with its content moved, and landmarks that moved with it."""
    photo, marks = picture(portrait / "photo.png"), np.load(portrait / "photo.npz")["landmarks"]
    made = np.roll(photo, by, (1, 0)).astype(np.uint8)
    Image.fromarray(made if size is None else made[: size[1], : size[0]]).save(tmp_path / "p.png")
    np.savez(tmp_path / "p.npz", landmarks=marks + by)
    return tmp_path / "p.png"


def test_faces_that_cannot_be_framed_are_one_line(tmp_path, portrait, models):
    arguments = ("--model", "gan", "--models", models, "--gaze", 0, 0)
    # The left eye is beyond the edge.
    path = moved(portrait, tmp_path, (-205, 0))
    said = refused(path, *arguments, "--landmarks", tmp_path / "p.npz")
    assert "p.png: expected eyes and mouth within 512 x 512 pixels" in said
    # Nothing that a detector takes for a face.
    Image.fromarray(np.full((240, 320, 3), 90, np.uint8)).save(tmp_path / "grey.png")
    assert "grey.png: no face found" in refused(tmp_path / "grey.png", *arguments)
    # Several: the largest, or the one that is asked for.
    np.savez(
        tmp_path / "two.npz", landmarks=np.stack([np.load(portrait / "photo.npz")["landmarks"]] * 2)
    )
    photo = portrait / "photo.png"
    done(photo, *arguments, "--landmarks", tmp_path / "two.npz", "--out", tmp_path / "o")
    assert (tmp_path / "o/photo_face0.png").is_file()
    said = refused(photo, *arguments, "--landmarks", tmp_path / "two.npz", "--face", 2)
    assert "face 2: expected one of 0 to 1" in said


def test_a_profile_is_one_line(tmp_path, portrait, models):
    """Landmarks squeezed as of a head that is seen from the side."""
    marks = np.load(portrait / "photo.npz")["landmarks"].astype(float)
    middle = marks.mean(axis=0)
    marks[:, 0] = middle[0] + (marks[:, 0] - middle[0]) * 0.05
    np.savez(tmp_path / "p.npz", landmarks=marks)
    said = refused(
        portrait / "photo.png", "--model", "gan", "--models", models, "--gaze", 0, 0,
        "--landmarks", tmp_path / "p.npz",
    )  # fmt: skip
    assert said.count("\n") == 1 and "photo.png: expected a face that is not a profile" in said


def rows_of(portrait, path, framing="ffhq", **more):
    photo = picture(portrait / "photo.png").astype(np.uint8)
    patch, matrix = framed(photo, square_of(np.load(portrait / "photo.npz")["landmarks"]), 64)
    given = {"alignment": matrix[None], "file_name": ["photo.png"]}
    camera = (None, None)
    if framing != "ffhq":
        given, camera = {}, (250.0, 600.0)
    about = FacesAttributes("sted", (64, 64), *camera, "none", "test", framing=framing)
    with FacesWriter(path, about) as writer:
        writer.add_person("p", patch[None], np.zeros((1, 8)), **given)


def test_rows_are_of_the_models_framing(tmp_path, portrait, models):
    rows_of(portrait, tmp_path / "f.h5")
    out = tmp_path / "out"
    arguments = ("--models", models, "--gaze", 5, 5, "--photo-root", portrait, "--out", out)
    done(f"{tmp_path}/f.h5:p/0", "--model", "gan", *arguments)
    assert (out / "p_0.png").is_file() and (out / "p_0.inversion.png").is_file()
    # Where the frame lies is in the file.
    place = row_place(f"{tmp_path}/f.h5:p/0", size_px=32, trained_on=FFHQ, photo_root=portrait)
    assert np.abs(place.view.take(place.photo).astype(int) - place.patch).mean() < 0.5
    rows_of(portrait, tmp_path / "n.h5", framing="normalised")
    said = " ".join(refused(f"{tmp_path}/n.h5:p/0", "--model", "gan", *arguments).split())
    assert "expected 64 x 64 px aligned by eyes and mouth (framing ffhq)" in said


def test_a_frame_that_shows_nothing_is_refused_by_its_reason():
    with pytest.raises(NotFramed) as error:
        square_of(np.zeros((68, 2)))
    assert error.value.reason == "degenerate_pose"
