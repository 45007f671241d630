"""``regaze redirect`` on photos and videos with nothing brought: a portrait, groups, odd files."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from redirect_command import done, refused
from skimage import data

from regaze.capture import scene
from regaze.capture.head import HeadConfig, build_head
from regaze.capture.writer import CaptureConfig, render_person
from regaze.landmarks.detectors import configured_detector
from regaze.landmarks.gaze import GazeReading
from regaze.redirect.animate import write_mp4
from regaze.redirect.looks import agreed
from regaze.redirect.place import photo_place


@pytest.fixture(scope="module")
def portrait():
    """A public-domain portrait by NASA, (512, 512, 3) uint8."""
    return data.astronaut()


@pytest.fixture(scope="module")
def find():
    """The default detector."""
    return configured_detector().all_faces


@pytest.fixture
def asked(models):
    return ("--model", "small", "--models", models, "--gaze", 10, -15, "--device", "cpu")


def faces():
    return json.loads(open("redirected/redirect.json").read())["faces"]


def test_a_portrait(here, asked, portrait):
    Image.fromarray(portrait).save("portrait.png")
    said = done("portrait.png", *asked)
    assert "redirected/portrait.png (gaze" in said
    (face,) = faces()
    assert face["faces_found"] == 1 and face["head_from"] == "landmarks and sfm14"
    assert np.abs(face["source_head_deg"]).max() < 10 and face["head_pose_error_px"] < 3
    assert face["results"][0]["mask"] == "face"
    # An untrained model returns its source.
    made = np.asarray(Image.open("redirected/portrait.png")).astype(int)
    assert np.abs(made - portrait).max() <= 2
    patch = np.asarray(Image.open("redirected/portrait.patch.png")).astype(float)
    # Eyes and mouth are darker than the cheek between them.
    assert patch[10:22, 8:24].mean() > 100


def test_photos_that_cannot_be_used_are_listed(here, asked, portrait):
    (here / "photos").mkdir()
    Image.fromarray(portrait).save("photos/a.png")
    Image.fromarray(data.coffee()).save("photos/b.png")
    (here / "photos/c.jpg").write_bytes(b"no picture")
    said = done("photos", *asked)
    assert "left out: photos/b.png: no face found" in said and "photos/a.png: redirected" in said
    record = json.loads((here / "redirected/redirect.json").read_text())
    assert [face["source"] for face in record["faces"]] == ["a.png"]
    assert [one["source"] for one in record["left_out"]] == ["b.png", "c.jpg"]
    assert "not a picture" in record["left_out"][1]["reason"]
    assert sorted(one.name for one in (here / "redirected").iterdir()) == [
        "a.patch.png", "a.png", "redirect.json",
    ]  # fmt: skip
    (here / "photos/a.png").unlink()
    said = refused("photos", *asked, "--out", "none")
    assert "none of 2 photos could be redirected; the first: photos/b.png: no face found" in said
    assert "b.png: no face found" in refused("photos/b.png", *asked, "--out", "none")
    assert not (here / "none").exists()


def test_one_of_a_group(here, asked, portrait):
    head, group = portrait[20:212, 130:322], np.full((640, 800, 3), 110, np.uint8)
    for number, side in enumerate((150, 190, 130)):
        at = group[20 : 20 + side, 20 + 260 * number :][:, :side]
        at[:] = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
    Image.fromarray(group).save("group.png")
    done("group.png", *asked, "--face", 2)
    (face,) = faces()
    assert face["faces_found"] == 3 and face["face"] == 2
    assert (here / "redirected/group_face2.png").is_file()
    assert "face 3: expected one of 0 to 2" in refused("group.png", *asked, "--face", 3)


def test_forty_faces_are_all_found_and_the_largest_is_taken(here, asked, portrait):
    head, crowd = portrait[20:212, 130:322], np.full((1000, 1440, 3), 110, np.uint8)
    for number in range(40):
        row, column, side = number // 8, number % 8, 170 if number == 21 else 140
        at = crowd[10 + 198 * row :, 5 + 178 * column :][:side, :side]
        at[:] = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
    Image.fromarray(crowd).save("crowd.png")
    done("crowd.png", *asked)
    (face,) = faces()
    assert face["faces_found"] == 40 and face["face"] == 0
    made = np.asarray(Image.open("redirected/crowd_face0.png")).astype(int)
    assert np.abs(made - crowd).max() <= 2
    assert "face 40: expected one of 0 to 39" in refused("crowd.png", *asked, "--face", 40)


def test_a_profile_is_refused(here, asked, monkeypatch):
    draw = scene.draw_series
    turned = np.radians([[0.0, 85.0]])
    monkeypatch.setattr(scene, "draw_series", lambda *_: replace(draw(*_), heads=turned))
    config = CaptureConfig(persons={"test": 1}, head_poses=1, gazes=1, head=HeadConfig.tiny())
    (jpeg,) = render_person(build_head(config.head), config, "60001").jpegs
    (here / "profile.jpg").write_bytes(jpeg)
    assert "profile.jpg: no face found" in refused("profile.jpg", *asked)
    assert not (here / "redirected").exists()


def test_irises_tell_where_a_portrait_looks_and_how_far_its_eyes_moved(here, asked, portrait):
    Image.fromarray(portrait).save("a.png")
    done("a.png", *asked)
    (face,) = faces()
    assert face["source_gaze_from"].startswith("irises")
    # The eyes look about into the camera, the untrained estimator anywhere.
    assert np.abs(face["source_gaze_deg"]).max() < 8
    # An untrained model moves nothing.
    assert np.abs(face["results"][0]["irises_moved_deg"]).max() < 0.5
    done("a.png", *asked, "--read-gaze", "estimator")
    assert faces()[0]["source_gaze_from"] == "estimated by judge"
    said = refused("a.png", *asked, "--read-gaze", "nose")
    assert "read-gaze: expected one of irises, estimator, found 'nose'" in said


def test_without_an_estimator_irises_tell(here, asked, models, portrait):
    shutil.copytree(models / "small", here / "only/small")
    Image.fromarray(portrait).save("a.png")
    done("a.png", *asked, "--models", "only")
    assert faces()[0]["source_gaze_from"] == "irises"


def test_an_estimate_counts_where_it_agrees():
    reading = GazeReading(np.radians([4.0, 3.0]), np.radians([4.0, 2.0]), None)
    gaze, both = agreed(reading, np.radians([12.0, 4.0]), np.radians(2.0))
    assert both and np.degrees(gaze) == pytest.approx([4.0, 3.5])
    gaze, both = agreed(reading, np.radians([12.0, 9.0]), np.radians(2.0))
    assert not both and np.degrees(gaze) == pytest.approx([4.0, 3.0])
    assert agreed(reading, None, 0.0) == (reading.gaze, False)


def as_16_bit(picture, path):
    cv2.imwrite(path, picture[..., ::-1].astype(np.uint16) * 257)


def as_cmyk(picture, path):
    Image.fromarray(picture).convert("CMYK").save(path, quality=95)


def as_grey(picture, path):
    Image.fromarray(picture).convert("L").save(path)


def as_turned(picture, path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(picture)).save(path, exif=exif, quality=95)


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.png", as_16_bit), ("a.jpg", as_cmyk), ("a.png", as_grey), ("a.jpg", as_turned)],
)
def test_odd_files_show_the_same_face(here, find, portrait, name, write):
    Image.fromarray(portrait).save("same.png")
    known = photo_place("same.png", size_px=32, find=find)
    write(portrait, name)
    made = photo_place(name, size_px=32, find=find)
    np.testing.assert_allclose(made.head, known.head, atol=0.04)
    np.testing.assert_allclose(made.landmarks, known.landmarks, atol=2.5)
    assert np.abs(made.photo.mean((0, 1)) - portrait.mean((0, 1))).max() < 40


def test_a_photo_of_twenty_megapixels(here, find, portrait):
    large = np.full((3648, 5472, 3), 120, np.uint8)
    large[200:3400, 1200:4400] = cv2.resize(portrait, (3200, 3200), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite("large.jpg", large[..., ::-1])
    place = photo_place("large.jpg", size_px=32, find=find)
    assert place.facts["faces_found"] == 1 and np.abs(place.head).max() < 0.2
    assert place.photo.shape == large.shape


def test_landmarks_that_are_not_of_the_photo(here, asked, portrait):
    Image.fromarray(portrait).save("a.png")
    marks = np.random.default_rng(0).uniform(900, 1500, (68, 2))
    np.savez("a.npz", landmarks=marks)
    said = refused("a.png", *asked, "--landmarks", "a.npz")
    assert "expected points of this photo, 512 x 512 pixels, found them from 9" in said
    assert "of another size?" in said
    np.savez("a.npz", landmarks=np.ones((478, 2)))
    said = refused("a.png", *asked, "--landmarks", "a.npz")
    assert "a.npz: expected 68 points of x, y, found (1, 478, 2)" in said
    assert not (here / "redirected").exists()


def clip(portrait, path, blank=()):
    frames = []
    for number in range(4):
        part = portrait[10:250, 90 + 4 * number : 410 + 4 * number]
        frames.append(np.full_like(part, 90) if number in blank else part)
    write_mp4(path, frames, 12.0)


def test_a_video(here, asked, portrait):
    clip(portrait, "clip.mp4", blank=[2])
    said = done("clip.mp4", *asked)
    assert "3 of 4 frames redirected, 1: no face found" in said
    film = cv2.VideoCapture("redirected/clip.mp4")
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(12)
    made = [film.read()[1] for _ in range(4)]
    assert not film.read()[0] and made[0].shape == (240, 320, 3)
    assert made[2].std() < 3 < made[3].std()
    (face,) = faces()
    assert [one["frame"] for one in face["results"]] == [0, 1, 3]
    assert face["unchanged"] == {"no face found": 1} and face["file"] == "clip.mp4"
    heads = np.array([one["source_head_deg"] for one in face["results"]])
    assert np.ptp(heads, axis=0).max() < 4


def test_videos_that_cannot_be_redirected(here, asked, portrait):
    clip(portrait, "empty.mp4", blank=range(4))
    assert "empty.mp4: 4 frames: no face found" in refused("empty.mp4", *asked)
    (here / "broken.mp4").write_bytes(b"no video" * 100)
    assert "broken.mp4: expected a whole video, found it damaged" in refused("broken.mp4", *asked)
    assert not (here / "redirected").exists() or not list((here / "redirected").iterdir())
    sweep = [one for one in asked if one not in ("--gaze", 10, -15)]
    said = refused("empty.mp4", *asked, "--landmarks", "a.npz")
    assert "empty.mp4: a video is redirected to one direction" in said
    assert "expected no sweep" in refused("empty.mp4", *sweep, "--sweep", "line")
