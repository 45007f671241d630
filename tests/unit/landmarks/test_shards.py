"""Landmark and pose files: every photo has its row, and the poses are the true ones."""

import h5py
import numpy as np
import pytest
from PIL import Image

from regaze.landmarks.base import Detection, choose_face, overlap
from regaze.landmarks.detect import detect_shard
from regaze.landmarks.files import read_landmarks
from regaze.landmarks.poses import face_centre, pose_shard, target_from_angles
from regaze.normalise.camera import project
from regaze.normalise.face_model import FACE_MODELS
from regaze.normalise.geometry import VARIANTS, normalise, rotation_from_vector
from regaze.sources.records import PersonPhotos, SourceError
from regaze.sources.supplementary import Supplemented

MODEL = FACE_MODELS["sfm14"]
CAMERA = np.array([600.0, 610.0, 320.0, 240.0])
LENS = np.array([0.08, -0.05, 0.001, -0.002, 0.01])
NAN = float("nan")


def true_landmarks(pose, distortion=LENS):
    """(68, 2): the points that the pose needs, projected; the others in the photo's middle."""
    placed = MODEL.fitted_points @ rotation_from_vector(pose[:3]).T + pose[3:]
    lens = np.zeros(14)
    lens[: len(distortion)] = distortion
    points = np.full((68, 2), 240.0)
    points[np.array(MODEL.landmark_numbers) - 1] = project(placed[None], CAMERA[None], lens[None])[
        0
    ]
    return points


def poses(count, seed=0):
    draw = np.random.default_rng([seed, 7])
    turn = draw.uniform(-0.4, 0.4, (count, 3))
    place = np.stack([*draw.uniform(-80, 80, (2, count)), draw.uniform(400, 700, count)], axis=1)
    return np.concatenate([turn, place], axis=1)


class Folder:
    """A photo source of given persons."""

    kind = "folder"

    def __init__(self, root, persons):
        self.root, self.given, self.persons = root, persons, sorted(persons)

    def photos(self, person):
        if isinstance(self.given[person], SourceError):
            raise self.given[person]
        count = len(self.given[person]["file_name"])
        values = {
            "camera_parameters": np.tile(CAMERA, (count, 1)),
            "distortion": np.tile(LENS, (count, 1)),
            "face_box": np.full((count, 4), NAN),
            "gaze_target": np.full((count, 3), NAN),
            "gaze_angles": np.full((count, 2), NAN),
        }
        return PersonPhotos(root=self.root, person=person, **(values | self.given[person]))

    def camera_assumption(self, person):
        return f"assumed for {person}"


class Reader:
    """Reads landmarks off the photo's first pixels' values; remembers what it was handed."""

    attributes = {"detector": "reader", "detector_version": "1"}

    def __init__(self, batch=4):
        self.batch, self.calls = batch, []

    def detect(self, photos, boxes):
        self.calls.append([photo.shape for photo in photos])
        return [
            Detection(
                landmarks=np.full((68, 2), photo[0, 0, 0], np.float32),
                score=0.8,
                box=np.array(box, np.float32),
                box_score=0.9,
                faces_found=2,
                status="",
            )
            if photo[0, 0, 0]
            else Detection()
            for photo, box in zip(photos, boxes, strict=True)
        ]


def save(path, red, size=(20, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (red, 3, 1)).save(path)


def test_every_photo_has_its_row(tmp_path):
    names = ["a/0.png", "a/broken.png", "a/none.png", "../b.png", "a/1.png", "a/2.png", "a/3.png"]
    for red, name in enumerate(["a/0.png", "a/1.png", "a/2.png", "a/3.png"]):
        save(tmp_path / name, 40 * red)
    (tmp_path / "a/broken.png").write_bytes(b"no picture")
    box = np.arange(28.0).reshape(7, 4)
    source = Folder(
        tmp_path,
        {
            "a": {"file_name": tuple(names), "face_box": box},
            "b": SourceError("no such person", "missing_key", ("b/0.png", "b/1.png")),
            "c": SourceError("nothing known", "missing_person"),
            "d": {"file_name": ()},
            "e/f": {"file_name": ("a/1.png",)},
        },
    )
    reader = Reader(batch=2)
    counts = detect_shard(source, source.persons, reader, tmp_path / "out.h5", threads=3)
    assert counts == {
        "bad_file_name": 1,
        "found": 3,
        "missing_key": 2,
        "no_face": 1,
        "unreadable_image": 2,
    }
    assert [len(call) for call in reader.calls] == [2, 2]
    with h5py.File(tmp_path / "out.h5") as file:
        assert sorted(file) == ["a", "b", "d"]
        assert file.attrs["detector"] == "reader" and file.attrs["source"] == "folder"
        group = file["a"]
        assert [name.decode() for name in group["file_name"]] == names
        status = [word.decode() for word in group["status"]]
        assert status == ["no_face", *["unreadable_image"] * 2, "bad_file_name", "", "", ""]
        # Red first: photos are read blue, green, red.
        np.testing.assert_array_equal(group["landmarks"][4:, 0, 0], [40, 80, 120])
        np.testing.assert_array_equal(group["box"][4:], box[4:].astype(np.float32))
        assert np.isnan(group["landmarks"][:4]).all() and np.isnan(group["score"][:4]).all()
        assert group["landmarks"].dtype == np.float32 and group["faces_found"].dtype == np.int32
        assert [word.decode() for word in file["b/status"]] == ["missing_key"] * 2
        assert file["d/landmarks"].shape == (0, 68, 2)


def test_same_bytes_whatever_batch_and_threads(tmp_path):
    names = tuple(f"{number}.png" for number in range(9))
    for red, name in enumerate(names):
        save(tmp_path / name, 20 * red)
    source = Folder(tmp_path, {"p": {"file_name": names}})
    outs = []
    for batch, threads in ((1, 1), (4, 3), (100, 2)):
        out = tmp_path / f"{batch}.h5"
        detect_shard(source, ["p"], Reader(batch), out, threads=threads)
        outs.append(out.read_bytes())
    assert outs[0] == outs[1] == outs[2]


def test_large_photos_make_small_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("regaze.landmarks.detect._BYTES_AT_ONCE", 2 * 16 * 20 * 3)
    names = tuple(f"{number}.png" for number in range(5))
    for name in names:
        save(tmp_path / name, 9)
    reader = Reader(batch=100)
    detect_shard(Folder(tmp_path, {"p": {"file_name": names}}), ["p"], reader, tmp_path / "o.h5")
    assert [len(call) for call in reader.calls] == [2, 2, 1]


def test_a_detector_that_loses_photos_is_an_error(tmp_path):
    save(tmp_path / "0.png", 9)
    reader = Reader()
    reader.detect = lambda photos, boxes: []
    source = Folder(tmp_path, {"p": {"file_name": ("0.png",)}})
    with pytest.raises(ValueError, match="expected 1 detections, found 0"):
        detect_shard(source, ["p"], reader, tmp_path / "o.h5")
    assert not (tmp_path / "o.h5").exists()


def write_landmarks(path, person, names, points, score, status):
    with h5py.File(path, "a") as file:
        group = file.create_group(person)
        group["file_name"] = np.array(names, dtype=h5py.string_dtype())
        group["status"] = np.array(status, dtype=h5py.string_dtype())
        group["landmarks"], group["score"] = points.astype(np.float32), np.float32(score)


def test_poses_are_the_true_ones(tmp_path):
    truth = poses(7)
    points = np.stack([true_landmarks(pose) for pose in truth])
    points[[4, 6]] = NAN
    points[5] = 100.0
    names = [f"p/{number}.jpg" for number in range(7)]
    # a low score does not hide why there are no landmarks
    status = ["", "", "", "", "no_face", "", "other_face"]
    score = [0.9, 0.5, 0.49, 0.9, NAN, 0.9, 0.1]
    write_landmarks(tmp_path / "l.h5", "p", names, points, score, status)
    target = np.tile([10.0, -90.0, 0.0], (7, 1))
    source = Folder(tmp_path, {"p": {"file_name": tuple(names), "gaze_target": target}})
    counts = pose_shard(source, ["p"], tmp_path / "l.h5", tmp_path / "s.h5")
    assert counts == {
        "found": 3, "low_score": 1, "no_face": 1, "other_face": 1, "pose_failed": 1
    }  # fmt: skip
    records = Supplemented(tmp_path, "folder", tmp_path / "s.h5").read("p")
    assert records.file_name == tuple(names) and records.gaze_known
    assert records.status == ("", "", "low_score", "", "no_face", "pose_failed", "other_face")
    good = [0, 1, 3]
    np.testing.assert_allclose(records.head_pose[good], truth[good], rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(records.gaze_target, target)
    np.testing.assert_array_equal(records.distortion[0], LENS)
    assert np.isnan(records.head_pose[[2, 4, 5, 6]]).all()
    with h5py.File(tmp_path / "s.h5") as file:
        assert file.attrs["min_score"] == 0.5
        assert file["p"].attrs["camera_assumption"] == "assumed for p"
        assert file["p"].attrs["gaze"] == "known"
        assert file["p/pose_error"][good].max() < 0.01
        np.testing.assert_allclose(file["p/score"][:2], [0.9, 0.5])


def test_persons_who_can_have_no_group_are_not_looked_for(tmp_path):
    points = np.zeros((1, 68, 2))
    write_landmarks(tmp_path / "l.h5", "a", ["0.png"], points, [0.9], [""])
    with pytest.raises(SourceError, match=r"l\.h5: person a/\.\.: expected a group") as error:
        read_landmarks(tmp_path / "l.h5", "a/..", ["0.png"])
    assert error.value.reason == "missing_person" and error.value.file_names == ("0.png",)


def test_landmarks_that_come_with_the_data_set(tmp_path):
    truth = poses(3, seed=1)
    given = np.stack([true_landmarks(pose) for pose in truth])
    given[2] = NAN
    rows = {"file_name": ("0.png", "1.png", "2.png"), "landmarks": given, "gaze_known": False}
    source = Folder(tmp_path, {"p": rows})
    counts = pose_shard(source, ["p"], None, tmp_path / "s.h5")
    assert counts == {"found": 2, "no_landmarks": 1}
    records = Supplemented(tmp_path, "folder", tmp_path / "s.h5").read("p")
    assert not records.gaze_known and np.isnan(records.gaze_target).all()
    np.testing.assert_allclose(records.head_pose[:2], truth[:2], atol=1e-3)
    np.testing.assert_allclose(records.landmarks[:2], given[:2], atol=1e-4)
    # The detection step copies them and looks for the missing one only.
    for name in rows["file_name"]:
        save(tmp_path / name, 7)
    reader = Reader()
    detect_shard(source, ["p"], reader, tmp_path / "l.h5")
    assert [len(call) for call in reader.calls] == [1]
    assert pose_shard(source, ["p"], tmp_path / "l.h5", tmp_path / "s.h5") == {
        "found": 2,
        "pose_failed": 1,
    }


def stored_points(points, orientation, width=640, height=480):
    """Points of a photo of 640 x 480 as shown, in the pixels of its file."""
    x, y = points[:, 0], points[:, 1]
    places = {3: (width - 1 - x, height - 1 - y), 6: (y, width - 1 - x), 8: (height - 1 - y, x)}
    return np.stack(places[orientation], axis=1)


@pytest.mark.parametrize("kind", ["jpg", "tif", "png", "webp"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_landmarks_of_the_photo_as_stored_are_given_up(tmp_path, caplog, orientation, kind):
    truth = poses(2, seed=2) * [1, 1, 0.3, 1, 1, 1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    size = (640, 480) if orientation == 3 else (480, 640)
    for row in range(2):
        Image.new("RGB", size).save(tmp_path / f"{row}.{kind}", exif=exif)
    given = np.stack([true_landmarks(pose) for pose in truth])
    given[1] = stored_points(given[1], orientation)
    rows = {"file_name": (f"0.{kind}", f"1.{kind}"), "landmarks": given}
    source = Folder(tmp_path, {"p": rows})
    counts = pose_shard(source, ["p"], None, tmp_path / "s.h5")
    assert counts == {"found": 1, "pose_failed": 1}
    records = Supplemented(tmp_path, "folder", tmp_path / "s.h5").read("p")
    assert records.status == ("", "pose_failed")
    assert "points of the photo as it is shown, turned as its EXIF data say" in records.detail[1]
    assert records.detail[1] in caplog.text


def test_heads_on_their_side_are_kept_and_told(tmp_path, caplog):
    """A face that lies in a photo without EXIF data is a right one as a rule."""
    truth = poses(3, seed=2) * [0, 0, 0, 1, 1, 1] + [0, 0, np.radians(-88), 0, 0, 0]
    truth[0, 2] = 0.4
    given = np.stack([true_landmarks(pose) for pose in truth])
    names = ("0.png", "1.png", "2.png")
    for name in names:
        save(tmp_path / name, 7)
    source = Folder(tmp_path, {"p": {"file_name": names, "landmarks": given}})
    assert pose_shard(source, ["p"], None, tmp_path / "s.h5") == {"found": 3}
    assert "person p: 2 of 3 heads lie on their side, the first that of 1.png" in caplog.text
    assert "rolled by -8" in caplog.text and "expected at most 60" in caplog.text


@pytest.mark.parametrize("wrong", ["other order", "eyes exchanged"])
def test_landmarks_that_are_no_faces_are_given_up(tmp_path, wrong):
    given = np.stack([true_landmarks(pose) for pose in poses(2, seed=3)])
    if wrong == "other order":
        given[1] = np.roll(given[1], 1, axis=0)
    else:
        given[1, [36, 39, 42, 45]] = given[1, [42, 45, 36, 39]]
    rows = {"file_name": ("0.png", "1.png"), "landmarks": given}
    counts = pose_shard(Folder(tmp_path, {"p": rows}), ["p"], None, tmp_path / "s.h5")
    assert counts == {"found": 1, "pose_failed": 1}
    records = Supplemented(tmp_path, "folder", tmp_path / "s.h5").read("p")
    assert "of the face's size off a mean face" in records.detail[1]


def test_persons_that_cannot_be_read_keep_their_rows(tmp_path):
    source = Folder(
        tmp_path,
        {
            "a": SourceError("damaged", "bad_shape", ("a/0.png", "a/\udcff.png")),
            "b": {"file_name": ("b/0.png", "b/\udcff.png"), "landmarks": np.zeros((2, 68, 2))},
        },
    )
    counts = pose_shard(source, ["a", "b"], None, tmp_path / "s.h5")
    assert counts == {"bad_file_name": 1, "bad_shape": 2, "pose_failed": 1}
    records = Supplemented(tmp_path, "folder", tmp_path / "s.h5").read("a")
    assert records.status == ("bad_shape", "bad_shape") and len(records) == 2


def test_the_reason_of_a_person_without_known_rows_is_kept(tmp_path):
    source = Folder(tmp_path, {"a": SourceError("a: no such folder", "missing_person")})
    assert pose_shard(source, ["a"], None, tmp_path / "s.h5") == {"missing_person": 1}
    supplemented = Supplemented(tmp_path, "folder", tmp_path / "s.h5")
    with pytest.raises(SourceError, match="a: no such folder") as caught:
        supplemented.read("a")
    assert caught.value.reason == "missing_person"


def test_landmarks_of_other_photos_are_not_used(tmp_path):
    source = Folder(tmp_path, {"p": {"file_name": ("p/0.jpg", "p/1.jpg")}})
    points = np.zeros((2, 68, 2))
    write_landmarks(tmp_path / "l.h5", "p", ["p/1.jpg", "p/0.jpg"], points, [1, 1], ["", ""])
    assert pose_shard(source, ["p"], tmp_path / "l.h5", tmp_path / "s.h5") == {"stale_landmarks": 2}
    (tmp_path / "l.h5").write_bytes(b"none")
    with pytest.raises(SourceError, match="l.h5: expected an HDF5 file"):
        pose_shard(source, ["p"], tmp_path / "l.h5", tmp_path / "s.h5")


def test_angles_become_labels(tmp_path):
    """Gaze angles relative to the line of sight are the labels, but for the head's roll."""
    truth = poses(8, seed=2)
    truth[:, :3] = 0.0  # level heads: the frames of the label and of the angles are the same
    angles = np.random.default_rng([3]).uniform(-0.4, 0.4, (8, 2))
    rows = {
        "file_name": tuple(f"{number}.jpg" for number in range(8)),
        "landmarks": np.stack([true_landmarks(pose) for pose in truth]),
        "gaze_angles": angles,
    }
    assert pose_shard(Folder(tmp_path, {"p": rows}), ["p"], None, tmp_path / "s.h5") == {"found": 8}
    records = Supplemented(tmp_path, "folder", tmp_path / "s.h5").read("p")
    labels = normalise(
        records.camera_parameters, truth, records.gaze_target, VARIANTS["sted"]
    ).labels
    assert np.degrees(np.abs(labels[:, :2] - angles).max()) < 0.05


def test_target_from_angles():
    origin = np.array([30.0, -50.0, 600.0])
    np.testing.assert_allclose(target_from_angles(origin, (0.0, 0.0)), [0, 0, 0], atol=1e-9)
    ahead = np.array([0.0, 0.0, 500.0])
    # Yaw > 0 is towards image left, pitch > 0 up.
    left, up = (target_from_angles(ahead, one) for one in ((0.0, 0.3), (0.3, 0.0)))
    assert left[0] < 0 and abs(left[1]) < 1e-9
    assert up[1] < 0 and abs(up[0]) < 1e-9
    for bad in ([0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [NAN, 0.0, 1.0]):
        with pytest.raises(ValueError, match="origin"):
            target_from_angles(np.array(bad), (0.0, 0.0))


def test_face_centre_is_the_models():
    pose = np.array([0.0, 0.0, 0.0, 1.0, 2.0, 500.0])
    np.testing.assert_allclose(face_centre(pose), [1.0, 32.0, 500.0])


def test_choice_of_the_face():
    faces = np.array(
        [[10, 10, 50, 50, 0.9], [100, 10, 140, 50, 0.9], [0, 0, 20, 20, 1.0], [150, 60, 150, 60, 1]]
    )
    unknown = np.full(4, NAN)
    assert choose_face(faces[:0], unknown, (200, 100)) is None
    assert choose_face(faces, unknown, (200, 100)) == 1, "of equals the one closer to the middle"
    assert choose_face(faces, unknown, (60, 60)) == 0
    assert choose_face(faces, np.array([0.0, 0.0, 25.0, 25.0]), (200, 100)) == 2
    assert choose_face(faces, np.array([180.0, 80.0, 10.0, 10.0]), (200, 100)) is None
    assert choose_face(faces, np.array([1.0, 1.0, 0.0, 5.0]), (200, 100)) == 1
    mirrored = np.array([[10, 10, 50, 50, 0.9], [150, 10, 190, 50, 0.9]])
    assert choose_face(mirrored, unknown, (200, 100)) == 0
    assert choose_face(mirrored[::-1], unknown, (200, 100)) == 1
    np.testing.assert_allclose(overlap(faces, np.array([10.0, 10, 50, 50])), [1, 0, 1 / 19, 0])
