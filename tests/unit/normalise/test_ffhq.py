"""FFHQ's framing: where patches lie in photos, which faces have none, what labels mean in it."""

import cv2
import h5py
import numpy as np
import pytest
from skimage import data

from regaze.angles import vector_from_angles
from regaze.faces import FacesReader
from regaze.landmarks.mesh import MeshDetector
from regaze.normalise.aligned import align_row, in_frame, rolls
from regaze.normalise.camera import pad_distortion
from regaze.normalise.ffhq import (
    MOUTH,
    NotFramed,
    framed,
    placed,
    require_shown,
    square_from,
    square_of,
    through,
)
from regaze.normalise.geometry import Variant, normalise
from regaze.normalise.pipeline import normalise_shard
from regaze.normalise.rejections import read_rejected
from regaze.normalise.warp import transform_points
from regaze.sources import open_source


def points(eyes, mouth, apart=40.0, roll=0.0):
    """68 landmarks whose eyes and mouth are around two places."""
    made = np.full((68, 2), np.nan)
    axis = np.array([np.cos(roll), np.sin(roll)])
    for side, part in ((-1, slice(36, 42)), (1, slice(42, 48))):
        ring = np.stack([np.cos(np.arange(6)), np.sin(np.arange(6))], -1)
        made[part] = np.array(eyes) + side * apart / 2 * axis + ring - ring.mean(axis=0)
    for side, corner in zip((-1, 1), MOUTH, strict=True):
        made[corner] = np.array(mouth) + side * apart / 3 * axis
    return made


@pytest.fixture(scope="module")
def portrait():
    photo = data.astronaut()
    return photo, MeshDetector().all_faces(photo)[0].astype(np.float64)


def scene(places, scale):
    """Grey levels (..., 3) of a smooth picture at positions (..., 2)."""
    x, y = np.moveaxis(np.asarray(places, np.float64), -1, 0) / scale
    waves = [np.sin(x + 0.3 * y), np.cos(0.8 * y - 0.4 * x), np.sin(0.6 * (x + y))]
    return 127.5 + 110 * np.stack(waves, -1)


@pytest.mark.parametrize(
    ("shape", "middle", "apart", "size"),
    [((240, 320), (150, 100), 30, 64), ((240, 320), (150, 100), 30, 100),
     ((900, 1200), (600, 400), 150, 64), ((240, 320), (60, 60), 40, 96)],
)  # fmt: skip
def test_the_matrix_tells_where_a_patch_was_taken(shape, middle, apart, size):
    y, x = np.mgrid[: shape[0], : shape[1]]
    photo = np.rint(scene(np.stack([x, y], -1), apart / 2)).astype(np.uint8)
    square = square_of(points(middle, np.add(middle, (0.2 * apart, apart)), apart, roll=0.3))
    patch, matrix = framed(photo, square, size)
    assert patch.shape == (size, size, 3) and patch.dtype == np.uint8
    y, x = np.mgrid[:size, :size]
    places = transform_points(np.linalg.inv(matrix), np.stack([x, y], -1).reshape(-1, 2))
    inner = ((places > 8) & (places < np.array(shape[::-1]) - 9)).all(axis=1)
    assert inner.mean() > 0.5
    off = np.abs(patch.reshape(-1, 3)[inner] - scene(places[inner], apart / 2))
    assert off.mean() < 1.2 and np.quantile(off, 0.99) < 5
    # A photo that is shrunk moves by less than half of a shrunk pixel.
    ends = transform_points(matrix, square.corners)
    wanted = np.array([[0, 0], [0, size], [size, size], [size, 0]]) - 0.5
    np.testing.assert_allclose(ends, wanted, atol=0.6)
    np.testing.assert_allclose(square_from(matrix, size).corners, square.corners, atol=2)


def test_faces_stand_upright_and_as_large_whatever_the_photo(portrait):
    photo, landmarks = portrait
    plain = transform_points(placed(square_of(landmarks), (512, 512)), landmarks)
    turn = cv2.getRotationMatrix2D((200, 150), 25, 1.6)
    other = landmarks @ turn[:, :2].T + turn[:, 2]
    again = transform_points(placed(square_of(other), (2000, 2000)), other)
    np.testing.assert_allclose(again, plain, atol=1e-6)
    right, left = plain[36:42].mean(axis=0), plain[42:48].mean(axis=0)
    down = plain[[*MOUTH]].mean(axis=0) - (left + right) / 2
    # Half of the turn is by the eyes, half by the way to the mouth.
    assert left[1] - right[1] - down[0] == pytest.approx(0, abs=1e-6)


def test_a_portrait_keeps_its_pixels(portrait):
    photo, landmarks = portrait
    patch, matrix = framed(photo, square_of(landmarks))
    straight = cv2.warpAffine(photo, matrix[:2], (256, 256), flags=cv2.INTER_LINEAR)
    inside = cv2.warpAffine(np.ones_like(photo), matrix[:2], (256, 256)) == 1
    assert (
        np.abs(patch.astype(int) - straight)[inside & (np.indices(inside.shape)[0] > 30)].max() < 4
    )


@pytest.mark.parametrize(
    ("landmarks", "reason", "told"),
    [
        (np.full((68, 2), np.nan), "no_landmarks", "none of eyes or mouth"),
        (np.full((68, 2), 50.0), "degenerate_pose", "span 0 pixels"),
        (points((100, 100), (100, 140), apart=9), "profile", "eyes 9 pixels apart and 40 above"),
        (points((100, 100), (100, 140))[:60], "no_landmarks", "expected 68"),
    ],
)
def test_landmarks_of_no_face_are_refused(landmarks, reason, told):
    with pytest.raises(NotFramed, match=told) as error:
        square_of(landmarks)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("eyes", "mouth", "told"),
    [
        ((10, 100), (10, 140), "eyes and mouth within 320 x 240 pixels, found one at -"),
        ((160, 210), (160, 250), "found one at .*, 250"),
        ((30, 30), (30, 170), "at least 50% of the frame .* found 2"),
    ],
)
def test_a_face_that_the_edge_cuts_is_refused(eyes, mouth, told):
    landmarks = points(eyes, mouth)
    with pytest.raises(NotFramed, match=told) as error:
        require_shown(landmarks, square_of(landmarks), (320, 240))
    assert error.value.reason == "out_of_frame"
    whole = points((160, 100), (160, 140))
    require_shown(whole, square_of(whole), (320, 240))


def test_a_photo_of_a_camera_upside_down(portrait):
    photo, landmarks = portrait
    straight, matrix = align_row(photo, landmarks, 64)
    turned = np.zeros_like(photo)
    turned[1:, 1:] = photo[:0:-1, :0:-1]
    again, same = align_row(turned, landmarks, 64, turned=True)
    # The first row and column of a turned photo are none of its own.
    assert np.abs(again.astype(int) - straight).mean() < 0.5
    np.testing.assert_allclose(same, matrix, atol=1e-9)


def test_labels_turn_with_the_frame():
    camera, origin = np.array([[600.0, 600, 160, 120]]), np.array([[30.0, -20, 500]])
    pose = np.array([[0.1, 0.2, 0.05, *origin[0]]])
    known = normalise(camera, pose, origin + [[90.0, -60, -300]], Variant.named("sted"))
    turn = 0.2
    cos, sin = np.cos(turn), np.sin(turn)
    # The virtual camera's own picture, turned clockwise.
    alignment = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]]) @ known.homography[0]
    ends = np.stack([known.gaze_vector * 0, known.gaze_vector * 5], 1) + known.origin[:, None]
    shown = transform_points(alignment[None], ends[..., :2] / ends[..., 2:] * 600 + [160, 120])
    lens = pad_distortion(np.zeros((1, 4)))
    roll = rolls(alignment[None], known.rotation, known.origin, camera, lens)
    np.testing.assert_allclose(roll, [turn], atol=1e-6)
    inside = vector_from_angles(in_frame(known.gaze, roll))[0]
    # As it points in the picture: x to the right, y down.
    way = shown[0, 1] - shown[0, 0]
    found, wanted = np.arctan2(-inside[1], -inside[0]), np.arctan2(way[1], way[0])
    assert found == pytest.approx(wanted, abs=0.02)
    np.testing.assert_allclose(in_frame(in_frame(known.gaze, roll), -roll), known.gaze, atol=1e-9)


CAMERA = (300.0, 300.0, 160.0, 120.0)


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """Six photos of a person, two of them good."""
    root = tmp_path_factory.mktemp("capture")
    (root / "a").mkdir()
    names = [f"a/{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        y, x = np.mgrid[:240, :320]
        photo = np.rint(scene(np.stack([x, y], -1) + 10 * number, 20)).astype(np.uint8)
        cv2.imwrite(str(root / name), photo)
    (root / names[4]).write_bytes(b"nothing")
    pose = np.tile([0.0, 0, 0, 0, 0, 500], (6, 1))
    pose[5, 3] = np.nan
    landmarks = np.array([points((160, 110), (157, 140), roll=0.1)] * 6)
    landmarks[1] = points((150, 110), (155, 140))
    landmarks[2] = np.nan
    landmarks[3] = points((10, 110), (10, 140))
    with h5py.File(root / "supplementary.h5", "w") as labels:
        labels["a/file_name"] = np.array(names, dtype="S")
        labels["a/camera_parameters"] = np.tile(CAMERA, (6, 1))
        labels["a/distortion_parameters"] = np.full((6, 5), 0.01)
        labels["a/head_pose"] = pose
        labels["a/3d_gaze_target"] = np.tile([20.0, 10, 0], (6, 1))
    with h5py.File(root / "parameters.h5", "w") as file:
        file["a/landmarks"] = landmarks
    return root, names, landmarks


def made(root, out, **options):
    source = open_source({"source": "synthetic", "root": str(root)})
    normalise_shard(source, ["a"], out / "f.h5", out / "r.parquet", frame_check="none", **options)
    return FacesReader(out / "f.h5"), read_rejected(out / "r.parquet")[0].to_pylist()


def test_faces_of_a_data_set_are_framed_or_rejected_with_a_reason(shard, tmp_path):
    root, names, landmarks = shard
    reader, rejected = made(root, tmp_path, framing="ffhq", patch_size=48)
    told = {row["source_index"]: (row["reason"], row["detail"]) for row in rejected}
    assert {index: reason for index, (reason, _) in told.items()} == {
        2: "no_landmarks", 3: "out_of_frame", 4: "unreadable_image", 5: "non_finite_label",
    }  # fmt: skip
    assert "eyes and mouth within 320 x 240 pixels" in told[3][1]
    assert reader.dataset("source_index", [0, 1]).tolist() == [0, 1]
    assert reader.attributes["framing"] == "ffhq" and reader.patch_size == (48, 48)
    assert not {"focal", "distance"} & set(reader.attributes)
    patch, matrix = framed(cv2.imread(str(root / names[0])), square_of(landmarks[0]), 48)
    np.testing.assert_array_equal(reader.pixels([0])[0], patch[..., ::-1])
    np.testing.assert_allclose(reader.dataset("alignment", [0])[0], matrix)
    np.testing.assert_allclose(
        reader.dataset("landmarks", [0])[0], transform_points(matrix, landmarks[0]), atol=1e-3
    )
    # The head stands straight, so that the frame turns it back by what its landmarks are turned.
    np.testing.assert_allclose(reader.dataset("roll", [0])[0], -0.1, atol=0.02)


def test_faces_are_resampled_by_way_of_a_larger_patch_where_that_is_asked_for(shard, tmp_path):
    root, names, landmarks = shard
    options = {"framing": "ffhq", "resampling": "two_step"}
    reader, _ = made(root, tmp_path, **options, patch_size=48)
    patch, _ = through(cv2.imread(str(root / names[0])), square_of(landmarks[0]), 48)
    np.testing.assert_array_equal(reader.pixels([0])[0], patch[..., ::-1])
    (tmp_path / "large").mkdir()
    reader, rejected = made(root, tmp_path / "large", **options, patch_size=240)
    assert len(reader) == 0
    (told,) = [row for row in rejected if row["source_index"] == 0]
    assert told["reason"] == "too_small"
    assert "at least 240 pixels a side around the face, found " in told["detail"]


def test_labels_are_those_of_the_virtual_camera(shard, tmp_path):
    root = shard[0]
    (tmp_path / "n").mkdir()
    reader, _ = made(root, tmp_path, framing="ffhq", patch_size=48)
    normalised, _ = made(root, tmp_path / "n", patch_size=48)
    assert "framing" not in normalised.attributes and not normalised.has("alignment")
    np.testing.assert_array_equal(reader.labels, normalised.labels[:2])


def test_a_data_set_without_landmarks_has_no_such_faces(shard, tmp_path):
    root = tmp_path / "bare"
    root.mkdir()
    (root / "supplementary.h5").write_bytes((shard[0] / "supplementary.h5").read_bytes())
    (root / "a").symlink_to(shard[0] / "a")
    reader, rejected = made(root, tmp_path, framing="ffhq", patch_size=48)
    assert len(reader) == 0
    assert [row["reason"] for row in rejected] == ["no_landmarks"] * 5 + ["non_finite_label"]
