"""``regaze redirect`` from the command to its files, with an untrained model."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import pytest
import yaml
from PIL import Image
from redirect_command import done, refused

from regaze.faces import FacesAttributes, FacesWriter
from regaze.normalise.geometry import Variant, normalise
from regaze.redirect.animate import write_animation
from regaze.redirect.place import Lens, photo_place, row_place
from regaze.redirect.run import Redirection
from regaze.redirectors.declaration import Input, declared_by

CONFIG = Path(__file__).parents[3] / "config.yaml"


def common(scene, models):
    return ("--model", "small", "--models", models, "--landmarks", scene.marks)


def write_rows(textured, path, size=(128, 128), variant="sted", count=2, **columns):
    pixels = np.stack([textured(seed, size) for seed in range(count)])
    labels = np.zeros((count, 8), np.float32)
    labels[:, :4] = np.radians([4, -6, 1, 2])
    attributes = FacesAttributes(variant, size, 500.0, 600.0, "none", "synthetic")
    with FacesWriter(path, attributes) as writer:
        writer.add_person("p", pixels, labels, **columns)
    return pixels


def test_a_photo(here, scene, models):
    out = here / "out"
    said = done(
        scene.path, *common(scene, models), "--gaze", 10, -15, "--out", out, "--device", "cpu",
        "--intrinsics", *scene.camera, "--distortion", ",".join(map(str, scene.lens)),
    )  # fmt: skip
    assert "10.0 -15.0" in said and "estimated by judge" in said
    made = np.asarray(Image.open(out / "photo.png"))
    assert made.shape == scene.photo.shape
    # An untrained model returns its source: nothing is pasted where nothing changes.
    assert np.abs(made.astype(int) - scene.photo).max() <= 2
    assert Image.open(out / "photo.patch.png").size == (32, 32)
    record = json.loads((out / "redirect.json").read_text())
    (face,) = record["faces"]
    assert record["model"]["name"] == "small" and len(record["model"]["fingerprint"]) == 16
    assert record["estimator"]["name"] == "judge"
    assert face["source_gaze_from"] == "estimated by judge"
    assert face["camera_from"] == "given intrinsics"
    np.testing.assert_allclose(face["head_pose"], scene.pose, atol=0.05)
    assert face["head_pose_error_px"] < 0.01
    (result,) = face["results"]
    assert result["target_gaze_deg"] == [10, -15] and result["mask"] == "face"
    assert result["files"] == ["photo.patch.png", "photo.png"]


def test_pixels_away_from_the_face_stay(here, scene, models):
    done(scene.path, *common(scene, models), "--head", 5, 20, "--source-gaze", 0, 0, "--seed", 3)
    made = np.asarray(Image.open(here / "redirected" / "photo.png"))
    record = json.loads((here / "redirected" / "redirect.json").read_text())
    face = record["faces"][0]
    assert face["source_gaze_from"] == "given" and face["results"][0]["mask"] == "patch"
    assert face["camera_from"].startswith("assumed") and record["seed"] == 3
    place = photo_place(scene.path, size_px=32, landmarks=scene.marks)
    left, top, right, bottom = place.view.box(scene.photo.shape[1::-1])
    outside = np.ones(scene.photo.shape[:2], bool)
    outside[top:bottom, left:right] = False
    assert outside.any() and (made[outside] == scene.photo[outside]).all()
    assert (made != scene.photo).any()


def test_a_model_samples_as_its_entry_says_and_steps_come_before(here, scene, models):
    asked = (scene.path, *common(scene, models), "--gaze", "5", "-12")
    config = yaml.safe_load(CONFIG.read_text())
    config["models"]["small"] = {"class": "xunet", "sampling": {"steps": 3, "sigma_max": 9}}
    (here / "mine.yaml").write_text(yaml.safe_dump(config))
    more = {"out": (), "mine": ("--config", "mine.yaml"), "both": ("--config", "mine.yaml")}
    more["both"] += ("--steps", "1")
    made = {}
    for name, options in more.items():
        done(*asked, *options, "--out", name)
        made[name] = json.loads((here / name / "redirect.json").read_text())["sampling"]
    assert [(made[name]["steps"], made[name]["sigma_max"]) for name in more] == [
        (4, 20), (3, 9), (1, 9),
    ]  # fmt: skip


def test_steps_of_a_model_without_any_are_refused(here, scene, models, tmp_path):
    again = shutil.copytree(models, tmp_path / "again")
    record = json.loads((again / "small/model.json").read_text())
    record["config"]["objective"] |= {"parameterization": "regression", "base": "source"}
    (again / "small/model.json").write_text(json.dumps(record))
    said = refused(scene.path, *common(scene, again), "--gaze", "5", "-12", "--steps", "2")
    assert "steps: model 'small' makes its pictures without a sampler" in said
    assert not (here / "redirected").exists()


def test_a_table_of_several_directions(here, scene, models):
    shutil.copy(scene.path, here / "photo.png")
    (here / "t.csv").write_text("file_name,gaze_pitch,gaze_yaw\nphoto.png,1,2\nphoto.png,,\n")
    arguments = (*common(scene, models), "--table", here / "t.csv", "--relative")
    done(*arguments, "--out", "a", "--source-gaze", 3, 4)
    results = json.loads((here / "a/redirect.json").read_text())["faces"][0]["results"]
    assert [one["target_gaze_deg"] for one in results] == [[4, 6], [3, 4]]
    assert (here / "a/photo_0.png").is_file() and (here / "a/photo_1.patch.png").is_file()
    assert "both" in refused(*arguments, "--gaze", 1, 2)
    assert "found table and sweep" in refused(*arguments, "--sweep", "line")


def test_of_a_table_only_the_photos_that_are_given_are_made(here, scene, models):
    for name in ("one.png", "two.png"):
        shutil.copy(scene.path, here / name)
    table = "file_name,gaze_pitch,gaze_yaw\none.png,1,2\ntwo.png,3,4\n"
    (here / "t.csv").write_text(table)
    arguments = (*common(scene, models), "--table", "t.csv")
    done("two.png", *arguments)
    (face,) = json.loads((here / "redirected/redirect.json").read_text())["faces"]
    assert face["source"] == "two.png"
    assert [one["target_gaze_deg"] for one in face["results"]] == [[3, 4]]
    shutil.copy(scene.path, here / "three.png")
    assert "t.csv: expected lines for three.png, found none" in refused("three.png", *arguments)


def test_models_that_learnt_of_changed_colours_are_shown_the_photos_own(tmp_path, models):
    assert Redirection(models / "small", {}).adjust.match_colours
    shutil.copytree(models / "small", tmp_path / "small")
    record = json.loads((tmp_path / "small/model.json").read_text())
    record["config"]["train"]["jitter"] = {"white": 0.1}
    (tmp_path / "small/model.json").write_text(json.dumps(record))
    assert not Redirection(tmp_path / "small", {}).adjust.match_colours
    assert Redirection(tmp_path / "small", {}, match_colours=True).adjust.match_colours


def test_photos_of_one_name_would_overwrite_each_other(here, scene, models):
    for folder in ("a", "b"):
        (here / folder).mkdir()
        shutil.copy(scene.path, here / folder / "photo.png")
    said = refused("a/photo.png", "b/photo.png", *common(scene, models), "--gaze", 0, 0)
    assert "b/photo.png: photo: expected photos of different names, found two" in said


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_a_sweep(here, scene, models, kind):
    arguments = (*common(scene, models), "--sweep", "line", "--frames", 4, "--out", f"s.{kind}")
    done(scene.path, *arguments)
    record = json.loads((here / "s.json").read_text())
    assert len(record["faces"][0]["results"]) == 4
    if kind == "gif":
        assert Image.open(here / "s.gif").size == (320, 240)
    else:
        film = cv2.VideoCapture(str(here / "s.mp4"))
        assert [film.read()[1].shape for _ in range(4)] == [(240, 320, 3)] * 4
        assert not film.read()[0]
        film.release()
    assert sorted(one.name for one in here.iterdir()) == sorted(["s.json", f"s.{kind}"])


def test_a_row(here, models, textured):
    pixels = write_rows(textured, here / "f.h5")
    said = done("f.h5:p/1", "--model", models / "small", "--gaze", 0, 0, "--models", models)
    assert "labels" in said
    made = np.asarray(Image.open("redirected/p_1.patch.png")).astype(int)
    reduced = pixels[1].reshape(32, 4, 32, 4, 3).mean((1, 3))
    assert np.abs(made - reduced).max() <= 1
    assert not (here / "redirected/p_1.png").exists()
    write_rows(textured, here / "small.h5", (16, 16))
    said = refused("small.h5:p/0", "--model", "small", "--models", models, "--gaze", 0, 0)
    assert "small.h5:p/0: expected patches of at least 32 pixels, as the model's, found 16" in said
    assert "no row 9" in refused("f.h5:p/9", "--model", "small", "--models", models, "--gaze", 0, 0)


def test_a_row_is_pasted_into_its_photo(here, scene, models):
    place = photo_place(
        scene.path,
        size_px=32,
        landmarks=scene.marks,
        lens=Lens(intrinsics=scene.camera, distortion=scene.lens),
    )
    pose = np.array(place.facts["head_pose"])
    camera = np.array(scene.camera)
    found = normalise(camera[None], pose[None], None, Variant.named("sted"))
    attributes = FacesAttributes("sted", (128, 128), 500.0, 600.0, "none", "synthetic")
    with FacesWriter(here / "f.h5", attributes) as writer:
        writer.add_person(
            "p",
            place.patch[None],
            np.zeros((1, 8), np.float32),
            file_name=["photo.png"],
            rotation=found.rotation,
            gaze_origin=found.origin,
            landmarks=place.landmarks[None],
        )
    arguments = ("f.h5:p/0", "--model", "small", "--models", models, "--gaze", 5, 5)
    arguments += ("--photo-root", scene.folder)
    lens = ("--intrinsics", *scene.camera, "--distortion", ",".join(map(str, scene.lens)))
    done(*arguments, *lens)
    made = np.asarray(Image.open("redirected/p_0.png"))
    assert made.shape == scene.photo.shape
    assert np.abs(made.astype(int) - scene.photo).max() <= 2
    assert "does not give this patch" in refused(*arguments, "--focal", 900)
    # Its camera is not told by labels of other photos.
    photos = here / "photos"
    shutil.copytree(scene.folder, photos)
    with h5py.File(photos / "supplementary.h5", "w") as file:
        file["p/file_name"] = np.array([b"other.png"])
        file["p/camera_parameters"] = [scene.camera]
        file["p/distortion_parameters"] = [[*scene.lens, 0.0]]
        file["p/head_pose"], file["p/3d_gaze_target"] = [pose], np.zeros((1, 3))
    arguments = (*arguments[:-1], photos)
    assert "expected its own photo and camera (--intrinsics)" in refused(*arguments)
    done(*arguments, *lens)


def test_rows_that_cannot_be_pasted_back_say_why(here, models, textured):
    arguments = ("f.h5:p/0", "--model", "small", "--models", models, "--gaze", 5, 5)
    arguments += ("--photo-root", here)
    write_rows(textured, here / "f.h5")
    said = refused(*arguments)
    assert "f.h5:p/0: expected the dataset file_name to paste back, found none" in said
    turns, origins = np.tile(np.eye(3), (2, 1, 1)), np.tile([0.0, 0.0, 600.0], (2, 1))
    columns = {"rotation": turns, "gaze_origin": origins, "file_name": ["../a.png", "b.png"]}
    write_rows(textured, here / "f.h5", **columns)
    said = refused(*arguments)
    assert "f.h5:p/0: file_name: expected a name below the photos, found '../a.png'" in said


def test_landmarks_of_a_row_are_whole_or_unknown(here, textured):
    marks = np.full((2, 68, 2), 64.0, np.float32)
    marks[1, 3, 0] = np.nan
    write_rows(textured, here / "f.h5", landmarks=marks)
    assert row_place("f.h5:p/0", size_px=32).landmarks.shape == (68, 2)
    assert row_place("f.h5:p/1", size_px=32).landmarks is None


def test_eye_strips_are_refused(here, models, textured):
    write_rows(textured, here / "f.h5", (256, 64), "faze")
    said = refused("f.h5:p/0", "--model", "small", "--models", models, "--gaze", 0, 0)
    assert "256 x 64" in said and "eye strips" in said


def test_models_that_are_not_there(here, scene, models):
    said = refused(scene.path, "--model", "xunet_deca", "--models", models, "--gaze", 0, 0)
    assert "xunet_deca" in said and "there are: eyes, small" in said and "judge" not in said
    said = refused(scene.path, "--models", here / "none", "--gaze", 0, 0)
    assert "there are: none" in said
    arguments = (scene.path, *common(scene, models), "--gaze", 0, 0)
    assert "there are: judge" in refused(*arguments, "--estimator", "vgg")


def test_the_estimator_may_be_named_and_broken_models_are_passed_over(here, scene, models):
    folder = here / "models"
    shutil.copytree(models, folder)
    shutil.copytree(models / "judge", folder / "another")
    record = json.loads((folder / "another/model.json").read_text()) | {"name": "another"}
    (folder / "another/model.json").write_text(json.dumps(record))
    (folder / "broken").mkdir()
    (folder / "broken/model.json").write_text("{")
    arguments = (scene.path, *common(scene, folder), "--gaze", 0, 0)
    for options, name in (((), "another"), (("--estimator", "judge"), "judge")):
        done(*arguments, *options)
        record = json.loads((here / "redirected/redirect.json").read_text())
        assert record["estimator"]["name"] == name
    assert "there are: eyes, small" in refused(*arguments, "--model", "broken")


def test_models_that_need_what_no_photo_has_are_refused(models, monkeypatch):
    def inverted(config):
        options = {"inverter": "inverter", "size_px": 32, "code": 64, "of": "picture"}
        return replace(declared_by(config), inputs=(Input("inversions", options),))

    monkeypatch.setattr("regaze.redirect.run.declared_by", inverted)
    with pytest.raises(ValueError, match="small: this model also needs inversions of the source"):
        Redirection(models / "small", {})


def test_without_landmarks_and_weights_it_is_said_what_to_do(here, scene, models):
    (here / "mine.yaml").write_text("landmarks: {detector: face_alignment}")
    arguments = (scene.path, "--model", "small", "--models", models, "--gaze", 0, 0)
    said = refused(*arguments, "--config", CONFIG, "--config", "mine.yaml")
    assert "--landmarks" in said and "face_alignment" in said


def test_faces_are_looked_for_with_the_weights_of_the_configuration(here, scene, models):
    content = b"no weights"
    assets = {}
    for name in ("landmarks", "detector"):
        (here / f"{name}.pth").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        assets[f"face_alignment_{name}"] = {"path": f"{name}.pth", "sha256": digest}
    chosen = {"assets": assets, "landmarks": {"detector": "face_alignment"}}
    (here / "mine.yaml").write_text(json.dumps(chosen))
    arguments = (scene.path, "--model", "small", "--models", models, "--gaze", 0, 0)
    said = refused(*arguments, "--config", CONFIG, "--config", "mine.yaml")
    assert "landmarks.pth: expected" in said and "found none" not in said


def test_no_face(here, scene, models):
    np.savez(here / "other.npz", landmarks=np.full((1, 68, 2), np.nan))
    arguments = (scene.path, "--model", "small", "--models", models, "--gaze", 0, 0)
    assert "no face" in refused(*arguments, "--landmarks", "other.npz")
    np.savez(here / "spot.npz", landmarks=np.full((68, 2), 50.0))
    assert "expected a face" in refused(*arguments, "--landmarks", "spot.npz")
    assert "face 3: expected one of 0 to 0" in refused(
        *arguments, "--landmarks", scene.marks, "--face", 3
    )


def test_faces_that_cannot_be_placed_are_named(here, scene, models):
    arguments = (scene.path, "--model", "small", "--models", models, "--gaze", 0, 0)
    np.savez(here / "away.npz", landmarks=scene.points + [900.0, 0.0])
    said = refused(*arguments, "--landmarks", "away.npz")
    assert "photo.png: landmarks: expected points of this photo, 320 x 240 pixels, found" in said
    said = refused(*arguments, "--landmarks", scene.marks, "--focal", 1e10)
    assert "photo.png: expected a face that can be normalised, found non_finite_label" in said
    with pytest.raises(ValueError, match=r"intrinsics: expected fx fy cx cy, found \[400.0, 400.0"):
        Lens(intrinsics=[400.0, 400.0, 160.0])


def test_landmarks_that_are_not_those_of_the_photo_as_shown(here, scene, models, caplog):
    def asked(name, points):
        np.savez(here / "marks.npz", landmarks=points)
        return (name, "--model", "small", "--models", models, "--gaze", 0, 0,
                "--landmarks", "marks.npz")  # fmt: skip

    width = scene.photo.shape[1]
    stored = np.stack([scene.points[:, 1], width - 1 - scene.points[:, 0]], axis=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(scene.photo)))
    turned.save(here / "turned.jpg", exif=exif, quality=95)
    done(*asked("turned.jpg", scene.points))
    said = refused(*asked("turned.jpg", stored))
    assert "turned.jpg: landmarks of a head that is rolled by -8" in said
    assert "the photo as it is shown" in said
    # without EXIF data the photo itself lies on its side
    turned.save(here / "lying.jpg", quality=95)
    done(*asked("lying.jpg", stored))
    assert "lying.jpg: landmarks of a head that is rolled by -8" in caplog.text
    said = refused(*asked(scene.path, np.roll(scene.points, 1, axis=0)))
    assert "photo.png: landmarks: expected points of a face in iBUG-68 order" in said


def test_without_an_estimator_the_gaze_must_be_given(here, scene, models, tmp_path):
    shutil.copytree(models / "small", tmp_path / "only" / "small")
    arguments = (scene.path, "--model", "small", "--models", tmp_path / "only")
    arguments += ("--landmarks", scene.marks, "--gaze", 1, 2)
    assert "--source-gaze" in refused(*arguments)
    done(*arguments, "--source-gaze", 0, 0)
    assert json.loads((here / "redirected/redirect.json").read_text())["estimator"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "where to redirect to"),
        (("--gaze", 100, 0), "-90 to 90"),
        (("--gaze", 0, 0, "--paste", "blend"), "difference, full"),
        (("--gaze", 0, 0, "--focal", -3), "positive"),
        (("--gaze", 0, 0, "--focal", 3, "--intrinsics", 1, 1, 1, 1), "found both"),
        (("--gaze", 0, 0, "--intrinsics", 9, 9, "nan", 1), "camera: expected finite numbers"),
        (("--gaze", 0, 0, "--distortion", "1,2"), "coefficients"),
        (("--gaze", 0, 0, "--distortion", "a,b"), "k1,k2"),
        (("--sweep", "circle"), "ellipse, line"),
        (("--sweep", "line", "--out", "x.avi"), ".gif or .mp4"),
        (("--gaze", 0, 0, "--device", "tpu"), "auto, cpu or cuda"),
        (("--gaze", 0, 0, "--config", "missing.yaml"), "missing.yaml"),
    ],
)
def test_bad_options_are_named(here, scene, models, arguments, message):
    assert message in refused(scene.path, *common(scene, models), *arguments)


def test_bad_places_are_named(here, scene, models):
    more = (*common(scene, models), "--gaze", 0, 0)
    assert "nothing.jpg" in refused("nothing.jpg", *more)
    assert "found none" in refused(*more)
    (here / "broken.jpg").write_bytes(b"no picture")
    assert "broken.jpg: not a picture" in refused("broken.jpg", *more)
    sweeps = (*common(scene, models), "--sweep", "line")
    assert "one photo or row" in refused(scene.path, scene.path, *sweeps)


def test_films_of_odd_size_and_of_large_pictures(here):
    odd = [np.full((33, 51, 3), level, np.uint8) for level in (10, 200)]
    write_animation("odd.mp4", odd)
    film = cv2.VideoCapture("odd.mp4")
    assert film.read()[1].shape == (34, 52, 3)
    film.release()
    write_animation("large.gif", [np.zeros((1000, 2000, 3), np.uint8)] * 2)
    assert Image.open("large.gif").size == (960, 480)
    with pytest.raises(ValueError, match="found none"):
        write_animation("x.gif", [])


@pytest.mark.parametrize("count", [1, 9])
def test_a_film_is_vp9_of_all_frames_in_their_colours(here, count):
    frames = []
    for number in range(count):
        frame = np.zeros((60, 90, 3), np.uint8)
        frame[:, :30], frame[:, 30:60], frame[:, 60:] = (200, 150, 120), (10 * number, 60, 200), 255
        frames.append(frame)
    write_animation("colours.mp4", frames, frame_ms=100)
    film = cv2.VideoCapture("colours.mp4")
    assert int(film.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little") == b"VP90"
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    read = [film.read()[1] for _ in range(count)]
    assert not film.read()[0]
    film.release()
    for frame, found in zip(frames, read, strict=True):
        off = frame.astype(int) - cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
        assert np.abs(off[:, [10, 45, 80]]).max() <= 8


def raising(*_):
    raise cv2.error("no backend")


def silent(*_):
    return SimpleNamespace(isOpened=lambda: True, write=lambda _: None, release=lambda: None)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("VideoWriter_fourcc", lambda *_: 0x12345678),
        ("VideoWriter", raising),
        ("VideoWriter", silent),
    ],
)
def test_mp4_without_its_codec(here, monkeypatch, name, made):
    monkeypatch.setattr(cv2, name, made)
    with pytest.raises(ValueError, match=r"x.mp4: this OpenCV cannot write MP4.*\.gif"):
        write_animation("x.mp4", [np.zeros((32, 32, 3), np.uint8)])
    assert not list(here.iterdir())


STED = {"variant": "sted", "patch_size": [128, 128], "focal": 500.0, "distance": 600.0}
NEAR = {"variant": "sted", "patch_size": [64, 64], "focal": 400.0, "distance": 600.0}


@pytest.fixture
def near(models, tmp_path):
    """Models of which one says that it was trained on a nearer view, and the judge on another."""
    again = shutil.copytree(models, tmp_path / "again")
    for name, view in (("small", NEAR), ("judge", STED)):
        record = json.loads((again / name / "model.json").read_text())
        (again / name / "model.json").write_text(json.dumps(record | {"view": view}))
    return again


def test_a_photo_is_normalised_to_the_models_view(here, scene, near, models):
    asked = (scene.path, "--gaze", 5, 5, "--source-gaze", 0, 0)
    done(*asked, *common(scene, near), "--out", "near")
    done(*asked, *common(scene, models), "--out", "all")
    made = {
        name: np.asarray(Image.open(here / name / "photo.patch.png")).astype(float)
        for name in ("near", "all")
    }
    # An untrained model returns its source, of which the near one shows 80 of 128 pixels.
    middle = np.asarray(Image.fromarray(made["all"][6:26, 6:26].astype(np.uint8)).resize((32, 32)))
    assert np.abs(made["near"] - middle).mean() < np.abs(made["near"] - made["all"]).mean() / 2
    record = json.loads((here / "near/redirect.json").read_text())
    # The judge knows faces in the other view, so it reads the photo and not the patch.
    (result,) = record["faces"][0]["results"]
    assert "measured_photo" in result and "measured_patch" not in result
    place = photo_place(scene.path, size_px=96, landmarks=scene.marks, trained_on=NEAR)
    assert place.patch.shape == (96, 96, 3)


def test_a_judge_of_another_view_reads_the_photo_in_its_own(here, scene, near, models):
    gazes = []
    for folder in (near, models):
        done(scene.path, *common(scene, folder), "--gaze", 5, 5, "--out", folder.name)
        (face,) = json.loads((here / folder.name / "redirect.json").read_text())["faces"]
        assert face["source_gaze_from"] == "estimated by judge"
        gazes.append(face["source_gaze_deg"])
    np.testing.assert_allclose(*gazes, atol=1e-4)


def test_a_judge_of_the_models_view_is_chosen(here, scene, near):
    shutil.copytree(near / "judge", near / "other")
    record = json.loads((near / "other/model.json").read_text())
    (near / "other/model.json").write_text(json.dumps(record | {"name": "other", "view": NEAR}))
    said = done(scene.path, *common(scene, near), "--gaze", 5, 5)
    assert "estimated by other" in said


def test_rows_of_another_view_are_refused(here, near, textured):
    write_rows(textured, here / "f.h5")
    said = " ".join(
        refused("f.h5:p/0", "--model", "small", "--models", near, "--gaze", 0, 0).split()
    )
    assert "f.h5:p/0: the model was trained on another view of faces" in said
    assert "expected 64 x 64 px that show 96 mm at the face (sted)" in said
    assert "found 128 x 128 px that show 154 mm" in said


def asked(scene, models, *options):
    """What is said of a photo when no model is named, and the name of the one that was taken."""
    given = ("--models", models, "--landmarks", scene.marks, "--source-gaze", 0, 0)
    done(scene.path, *given, *options)
    record = json.loads(Path("redirected", "redirect.json").read_text())
    return record["model"]["name"]


def named(models, folder, **names):
    """A folder of models under other names."""
    for name, known in names.items():
        shutil.copytree(models / known, folder / name)
        record = json.loads((folder / name / "model.json").read_text())
        (folder / name / "model.json").write_text(json.dumps({**record, "name": name}))
    return folder


def test_the_model_of_photos_is_taken_for_photos(here, scene, models):
    both = named(models, here / "both", xunet="small", photo="eyes", judge="judge")
    assert asked(scene, both, "--gaze", 5, 5) == "photo"
    assert asked(scene, both, "--gaze", 5, 5, "--head", 0, 10) == "xunet"
    alone = named(models, here / "alone", xunet="small", judge="judge")
    assert asked(scene, alone, "--gaze", 5, 5) == "xunet"


def test_eyes_alone_cannot_turn_a_head(here, scene, models):
    said = refused(scene.path, "--model", "eyes", "--models", models, "--landmarks", scene.marks,
                   "--head", 0, 10)  # fmt: skip
    assert "'eyes' moves eyes alone" in said and not (here / "redirected").exists()


def test_a_model_that_moves_nothing_leaves_every_pixel(here, scene, models):
    done(scene.path, "--model", "eyes", "--models", models, "--landmarks", scene.marks,
         "--gaze", 10, -15)  # fmt: skip
    made = np.asarray(Image.open(here / "redirected" / "photo.png"))
    assert np.array_equal(made, scene.photo)
