"""Records in all their forms: upside-down cameras, unknown gaze, other face models, statuses."""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import pytest
from combinations import each_of

from regaze.faces import FacesReader
from regaze.normalise.face_model import FACE_MODELS
from regaze.normalise.frame_check import make_frame_check
from regaze.normalise.geometry import VARIANTS, Variant, normalise, rotation_from_vector
from regaze.normalise.pipeline import normalise_shard
from regaze.normalise.rejections import read_rejected
from regaze.sources.records import PersonRecords, SourceError

WIDTH, HEIGHT, ROWS = 321, 240, 4
CAMERA = np.array([300.0, 305.0, 155.0, 122.0])
LENS = np.array([-0.1, 0.03, 0.001, -0.002, 0.0])


@dataclass
class InMemory:
    """A source of given records."""

    records: dict
    gaze_known: bool = True
    kind: str = "drawn"
    persons: list = field(init=False)

    def __post_init__(self):
        self.persons = sorted(self.records)

    def read(self, person):
        return self.records[person]


def photo_of(row):
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    waves = [np.sin(x / 17 + i + row) + np.cos(y / 13 - i) for i in range(3)]
    return np.clip(128 + 55 * np.stack(waves, -1), 0, 255).astype(np.uint8)


def half_turned(photo):
    height, width = photo.shape[:2]
    about = cv2.getRotationMatrix2D((width / 2, height / 2), 180, 1.0)
    return cv2.warpAffine(photo, about, (width, height))


def records_in(folder, **fields):
    random = np.random.default_rng(5)
    names = tuple(f"{row:05d}.png" for row in range(ROWS))
    for row, name in enumerate(names):
        cv2.imwrite(str(folder / name), photo_of(row))
    pose = random.normal(size=(ROWS, 6)) * [0.1, 0.1, 0.1, 10, 10, 20]
    columns = {
        "camera_parameters": np.tile(CAMERA, (ROWS, 1)),
        "distortion": np.tile(LENS, (ROWS, 1)),
        "head_pose": pose + [0, 0, 0, 0, -30, 500],
        "gaze_target": random.normal(size=(ROWS, 3)) * [60, 60, 5],
        "landmarks": random.uniform(80, 160, (ROWS, 68, 2)),
    }
    return PersonRecords(folder, "p1", names, **columns | fields)


def faces_of(records, out, gaze_known=True, **options):
    options = {"frame_check": "none", "patch_size": 64} | options
    source = InMemory({records.person: records}, gaze_known)
    paths = out / "faces.h5", out / "rejected.parquet"
    counts = normalise_shard(source, source.persons, *paths, **options)
    table, _ = read_rejected(paths[1])
    return FacesReader(paths[0]), table.to_pylist(), counts


@pytest.mark.parametrize(
    ("resampling", "mode"), each_of(["one_step", "two_step"], ["same", "centred"])
)
def test_an_upside_down_camera_is_the_photo_turned_beforehand(tmp_path, resampling, mode):
    options = {"resampling": resampling, "undistort_camera": mode, "focal": 120.0}
    plain, turned = tmp_path / "plain", tmp_path / "turned"
    plain.mkdir(), turned.mkdir()
    # One face beyond the right and lower edge, so that the border is compared too.
    records = records_in(plain)
    records.head_pose[1, 3:5] += [110.0, 80.0]
    given = replace(records, turned=np.array([True, True, False, True]))
    found, rejected, _ = faces_of(given, tmp_path, **options)
    really = records_in(turned, head_pose=records.head_pose)
    for row in (0, 1, 3):
        cv2.imwrite(str(turned / really.file_name[row]), half_turned(photo_of(row)))
    wanted, _, _ = faces_of(really, turned, **options)
    assert not rejected and len(found) == ROWS
    np.testing.assert_array_equal(found.labels, wanted.labels)
    rows = found.rows()
    for name in ("landmarks", "rotation", "gaze_origin"):
        np.testing.assert_array_equal(found.dataset(name, rows), wanted.dataset(name, rows))
    pixels, truth = found.pixels(rows).astype(int), wanted.pixels(rows).astype(int)
    assert (truth[1] == 0).mean() > 0.05
    assert np.abs(pixels - truth).max() <= 1 and (pixels == truth).mean() > 0.95


def test_rows_without_gaze_are_kept_and_say_so(tmp_path):
    blank = np.full((ROWS, 3), np.nan)
    records = records_in(tmp_path, gaze_target=blank, gaze_known=False)
    reader, rejected, counts = faces_of(records, tmp_path, gaze_known=False)
    assert not rejected and counts.rows_out == ROWS
    assert reader.attributes["gaze"] == "absent"
    assert np.isnan(reader.labels[:, [0, 1, 4, 5, 6, 7]]).all()
    (tmp_path / "known").mkdir()
    known, _, _ = faces_of(records_in(tmp_path), tmp_path / "known")
    np.testing.assert_array_equal(reader.labels[:, 2:4], known.labels[:, 2:4])
    np.testing.assert_array_equal(reader.pixels(reader.rows()), known.pixels(known.rows()))


def test_a_bad_pose_is_named_where_the_gaze_is_unknown_too(tmp_path):
    records = records_in(tmp_path, gaze_target=np.full((ROWS, 3), np.nan), gaze_known=False)
    records.head_pose[2, 1] = np.nan
    _, rejected, _ = faces_of(records, tmp_path, gaze_known=False)
    found = [(row["source_index"], row["reason"], row["detail"]) for row in rejected]
    assert found == [(2, "non_finite_label", "head_pose")]


def test_a_file_with_gaze_has_no_place_for_rows_without(tmp_path):
    blank = np.full((ROWS, 3), np.nan)
    records = records_in(tmp_path, gaze_target=blank, gaze_known=False)
    _, rejected, counts = faces_of(records, tmp_path)
    assert counts.rows_out == 0 and counts.rows_in == ROWS
    assert {row["reason"] for row in rejected} == {"non_finite_label"}
    assert {row["detail"] for row in rejected} == {"3d_gaze_target"}


def test_a_status_of_an_earlier_step_is_the_reason(tmp_path):
    pose = records_in(tmp_path).head_pose
    pose[1:3] = np.nan
    records = records_in(tmp_path, head_pose=pose, status=("", "no_face", "low_score", ""))
    reader, rejected, _ = faces_of(records, tmp_path)
    assert len(reader) == 2
    assert [row["reason"] for row in rejected] == ["no_face", "low_score"]


@pytest.mark.parametrize(
    "fields, reason",
    [
        ({"person": "a/b"}, "bad_person_name"),
        ({"person": "."}, "bad_person_name"),
        ({"person": ""}, "bad_person_name"),
        ({"person": "caf\udce9"}, "bad_person_name"),
        ({"face_model": "bfm"}, "bad_face_model"),
        ({"distortion": np.zeros((ROWS, 6))}, "bad_shape"),
        ({"gaze_target": np.zeros((ROWS - 1, 3))}, "bad_shape"),
        ({"turned": np.zeros(1, bool)}, "bad_shape"),
    ],
)
def test_what_is_wrong_with_a_whole_person_is_said_once_per_row(tmp_path, fields, reason):
    records = replace(records_in(tmp_path), **fields)
    reader, rejected, counts = faces_of(records, tmp_path)
    assert (counts.rows_in, counts.rows_out, len(reader)) == (ROWS, 0, 0)
    assert {row["reason"] for row in rejected} == {reason}
    assert all("expected" in row["detail"] for row in rejected)


def test_file_names_that_cannot_be_stored(tmp_path):
    names = ("00000.png", "caf\udce9.png", "00002.png", "00003.png")
    reader, rejected, counts = faces_of(replace(records_in(tmp_path), file_name=names), tmp_path)
    assert counts.rows_in == ROWS and len(reader) == ROWS - 1
    assert [(row["reason"], row["file_name"]) for row in rejected] == [
        ("bad_file_name", "caf\\udce9.png")
    ]


def test_a_person_listed_twice_is_an_error(tmp_path):
    source = InMemory({"p1": records_in(tmp_path)})
    with pytest.raises(SourceError, match="p1: expected once"):
        normalise_shard(source, ["p1", "p1"], tmp_path / "f.h5", tmp_path / "r.parquet")


@pytest.mark.parametrize("name", sorted(FACE_MODELS))
def test_the_camera_looks_at_the_face_centre_of_every_model(name):
    model, variant = FACE_MODELS[name], VARIANTS["sted"]
    pose = np.array([0.1, 0.3, -0.1, 20.0, -40.0, 700.0])
    result = normalise(CAMERA, pose, [10.0, 20.0, 0.0], variant, name)
    head = rotation_from_vector(pose[:3])
    points = model.points @ head.T + pose[3:]
    eyes, rest = points[[*model.left_eye, *model.right_eye]].mean(axis=0), points[4:].mean(axis=0)
    wanted = {"xgaze6": (eyes + rest) / 2, "mpii6": points.mean(axis=0), "sfm14": points[-1]}
    np.testing.assert_allclose(result.origin[0], wanted[name], atol=1e-9)
    inner = normalise(CAMERA, pose, [10.0, 20.0, 0.0], Variant("f", (8, 8), 9, 9, "inner_corners"))
    assert np.linalg.norm(inner.origin) > 0 and (result.problem == "").all()
    left = model.points[list(model.left_eye), 0]
    assert left[0] < left[1] < 0 < model.points[model.right_eye[0], 0]
    assert model.fitted_points.shape == (len(model.landmark_numbers), 3)
    assert abs(model.centre.sum() - 1) < 1e-12


def test_the_frame_check_does_not_depend_on_the_face_model():
    check, lens = make_frame_check("ellipsoid"), np.zeros((1, 5))
    pose = np.array([[0.1, 0.3, -0.1, 20.0, -40.0, 700.0]])
    head = rotation_from_vector(pose[0, :3])
    own = check.extents(CAMERA[None], lens, pose)
    for name, model in FACE_MODELS.items():
        # The same head, said by the other model: its eyes are where they were.
        moved = pose.copy()
        moved[0, 3:] += head @ (FACE_MODELS["sfm14"].eye_centre - model.eye_centre)
        found = check.extents(CAMERA[None], lens, moved, name)
        np.testing.assert_allclose(found, own, atol=1e-9)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="face_model: expected"):
        normalise(CAMERA, np.zeros(6), np.zeros(3), VARIANTS["sted"], "bfm")
    with pytest.raises(ValueError, match="origin: expected"):
        Variant("x", (8, 8), 1.0, 1.0, "nose")
    with pytest.raises(ValueError, match="origin: expected .*inner_corners.*found 'nose'"):
        FACE_MODELS["sfm14"].weights("nose")
