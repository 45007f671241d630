"""What `regaze inspect` says of files of every kind, damaged ones included."""

import json
import os
import random
import re
import sys
from io import StringIO

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from captures import gazecapture
from captures.eth_xgaze import eth_xgaze_hdf5
from captures.faces_hdf5 import faces_hdf5
from captures.files import write_landmarks, write_supplementary
from PIL import Image

from regaze import inspection
from regaze.faces import FacesAttributes, FacesWriter
from regaze.inspection import InspectError, inspect_file, show
from regaze.inspection.findings import Ranges, amount, plain
from regaze.inspection.flat_files import JSON_BYTES
from regaze.inspection.pictures import guess_channels
from regaze.links import PixelLink
from regaze.normalise.rejections import Rejection, write_rejected
from regaze.pairs import write_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of rendered heads whose labels are known: faces red and blue first, supplementary."""
    folder = tmp_path_factory.mktemp("files")
    frames = gazecapture.frames()
    people = {person: [frame.shot for frame in rows[:2]] for person, rows in frames.items()}
    faces_hdf5(folder / "rgb.h5", people)
    faces_hdf5(folder / "bgr.h5", people, channel_order="bgr")
    faces_hdf5(folder / "told.h5", people, channel_order="bgr", attribute=True)
    faces_hdf5(folder / "faze.h5", people, variant="faze")
    with h5py.File(folder / "told.h5") as source, h5py.File(folder / "wrong.h5", "w") as file:
        for person in source:
            source.copy(person, file)
        file.attrs["channel_order"] = "rgb"
    truth = {
        (person, f"{person}/frames/{number:05d}.jpg"): shot
        for person, shots in people.items()
        for number, shot in enumerate(shots)
    }
    write_supplementary(folder / "supplementary.h5", truth)
    return folder


def said(path, **options):
    stream = StringIO()
    show(inspect_file(path, **options), stream)
    return stream.getvalue()


def fact(found, name):
    return dict(found.facts)[name]


def table(found, title):
    (one,) = [one for one in found.tables if one.title.startswith(title)]
    return {row[0]: list(row[1:]) for row in one.rows}


def test_upstream_faces(folder):
    found = inspect_file(folder / "rgb.h5")
    assert "swook/faze_preprocess" in found.kind and "sted" in found.kind
    assert "Nx128x128x3" in found.why and not found.warnings
    assert fact(found, "persons") == "3: 00002, 00517, 01203"
    assert fact(found, "rows") == "6"
    assert fact(found, "rows per person") == "min 2, median 2, max 2"
    assert table(found, "Datasets of 3 groups")["pixels"] == [
        "Nx128x128x3",
        "uint8",
        "1x128x128x3",
        "lzf",
    ]


def test_label_ranges_are_degrees(folder):
    ranges = table(inspect_file(folder / "rgb.h5"), "Labels in degrees")
    with h5py.File(folder / "rgb.h5") as file:
        labels = np.degrees(np.concatenate([file[person]["labels"][:] for person in file]))
    assert list(ranges)[:4] == ["gaze_pitch", "gaze_yaw", "head_pitch", "head_yaw"]
    for column, (least, mean, greatest, strange) in enumerate(ranges.values()):
        assert float(least) == pytest.approx(labels[:, column].min(), abs=0.06)
        assert float(mean) == pytest.approx(labels[:, column].mean(), abs=0.06)
        assert float(greatest) == pytest.approx(labels[:, column].max(), abs=0.06)
        assert strange == "0"


def test_strip_of_the_eyes(folder):
    found = inspect_file(folder / "faze.h5")
    assert "faze" in found.kind and len(table(found, "Labels")) == 4
    assert fact(found, "channel order").startswith("rgb")


@pytest.mark.parametrize(
    ("name", "order", "warning"),
    [
        ("rgb", "rgb", ""),
        ("bgr", "bgr", "the file does not say so"),
        ("told", "bgr", ""),
        ("wrong", "bgr", "attribute channel_order says rgb, the pictures look bgr"),
    ],
)
def test_channel_order_is_seen_in_skin(folder, name, order, warning):
    found = inspect_file(folder / f"{name}.h5")
    words = fact(found, "channel order")
    assert words.startswith(f"{order}, by 6 pictures") and "grey levels" in words
    assert bool(found.warnings) == bool(warning)
    assert all(warning in text for text in found.warnings)


def test_skin_of_every_tone_is_redder_than_blue():
    rng = np.random.default_rng(0)
    tones = [(241, 205, 180), (198, 134, 100), (141, 85, 54), (80, 50, 38)]
    faces = []
    for tone in tones * 3:
        picture = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
        picture[12:60, 14:50] = np.clip(rng.normal(tone, 9, (48, 36, 3)), 0, 255)
        faces.append(picture)
    assert guess_channels(faces).order == "rgb"
    assert guess_channels([face[..., ::-1] for face in faces]).order == "bgr"
    assert guess_channels(faces + [face[..., ::-1] for face in faces]).order is None
    grey = guess_channels([np.repeat(face[..., :1], 3, axis=2) for face in faces])
    assert grey.order is None and "none of 12 pictures shows colour" in grey.evidence
    assert guess_channels([]).order is None


def test_sheet_is_drawn_only_when_asked_for(folder, tmp_path):
    found = inspect_file(folder / "bgr.h5")
    assert "not drawn; --sheet" in fact(found, "contact sheet")
    for name in ("rgb", "bgr", "told"):
        text = said(folder / f"{name}.h5", sheet=tmp_path / f"{name}.png", rows=4)
        assert "4 pictures, channels taken as" in text
    red, blue = (np.asarray(Image.open(tmp_path / f"{n}.png"))[78:238] for n in ("rgb", "bgr"))
    np.testing.assert_array_equal(red, blue)
    assert len(list(tmp_path.iterdir())) == 3


def test_sheet_of_a_file_without_pictures_is_refused(folder, tmp_path):
    (tmp_path / "split.json").write_text('{"train": [], "val": [], "test": ["a"]}')
    for path in (folder / "supplementary.h5", tmp_path / "split.json"):
        with pytest.raises(InspectError, match="a sheet needs pictures"):
            inspect_file(path, sheet=tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_supplementary(folder):
    found = inspect_file(folder / "supplementary.h5")
    assert "supplementary" in found.kind and fact(found, "rows") == "6"
    assert "00002/frames/" in fact(found, "file names")
    numbers = table(found, "Cameras")
    with h5py.File(folder / "supplementary.h5") as file:
        poses = np.concatenate([file[person]["head_pose"][:] for person in file])
        focal = np.concatenate([file[person]["camera_parameters"][:, 0] for person in file])
    assert float(numbers["fx"][0]) == pytest.approx(focal.min(), abs=0.1)
    assert float(numbers["head z (depth)"][2]) == pytest.approx(poses[:, 5].max(), abs=0.1)
    distance = np.linalg.norm(poses[:, 3:], axis=1)
    assert float(numbers["camera to head"][0]) == pytest.approx(distance.min(), abs=0.1)
    assert "head to target" in numbers and "k1" in numbers and not found.warnings


def test_supplementary_in_metres_or_behind_the_camera(folder, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes((folder / "supplementary.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        for person in file:
            file[person]["head_pose"][:, 3:] /= 1000
        file["00002/head_pose"][0, 5] = -1
        file["00002/camera_parameters"][0, 0] = -5
        del file["00517/3d_gaze_target"]
        file["01203/camera_parameters"][0, 1] = np.nan
    found = inspect_file(path)
    text = " ".join(found.warnings)
    assert "perhaps metres" in text and "behind the camera" in text and "not positive" in text
    assert "groups are of 2 forms" in text
    assert table(found, "Cameras")["fy"][3] == "1"


def test_supplementary_without_what_a_camera_may_lack(folder, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes((folder / "supplementary.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        for person in file:
            del file[person]["distortion_parameters"]
        aims = file["00517/3d_gaze_target"][:1]
        del file["00002/file_name"], file["00517/3d_gaze_target"], file["01203/file_name"]
        # Names of nobody, numbers for names, and fewer targets than heads.
        file["00002/file_name"] = np.zeros(0, h5py.string_dtype())
        file["01203/file_name"] = np.array([7, 8])
        file["00517/3d_gaze_target"] = aims
        heads = [file[person]["head_pose"][:, 3:] for person in ("00002", "01203")]
    found = inspect_file(path)
    assert "distortion_parameters: no group has it" in found.warnings
    assert fact(found, "file names").endswith(".jpg, 8")
    numbers = table(found, "Cameras")
    assert "k1" not in numbers
    farthest = np.linalg.norm(np.concatenate(heads), axis=1).max()
    assert float(numbers["camera to head"][2]) == pytest.approx(farthest, abs=0.1)
    assert numbers["target x"][3] == "0"


def test_released_subject(tmp_path):
    eth_xgaze_hdf5(tmp_path / "x")
    path = tmp_path / "x" / "train" / "subject0000.h5"
    found = inspect_file(path, sheet=tmp_path / "sheet.png")
    assert "ETH-XGaze" in found.kind and "224" in found.kind and not found.warnings
    assert fact(found, "declared order") == "bgr, by the release"
    assert fact(found, "channel order").startswith("bgr")
    with h5py.File(path) as file:
        gaze = np.degrees(file["face_gaze"][:])
    assert float(table(found, "Labels")["gaze_yaw"][2]) == pytest.approx(gaze[:, 1].max(), abs=0.06)
    assert (tmp_path / "sheet.png").exists()
    assert fact(found, "frame_index") == "0 to 3"
    split = inspect_file(tmp_path / "x" / "train_test_split.json")
    assert split.kind == "split of ETH-XGaze"
    with h5py.File(path, "r+") as file:
        del file["frame_index"]
    assert {"cam_index", "frame_index"} & set(dict(inspect_file(path).facts)) == {"cam_index"}


def linked(folder, out):
    attributes = FacesAttributes("sted", (128, 128), 500.0, 600.0, "none", "faces_hdf5")
    with h5py.File(folder / "rgb.h5") as file, FacesWriter(out, attributes) as writer:
        for person in file:
            pixels = file[person]["pixels"]
            link = PixelLink(folder / "rgb.h5", pixels.name, pixels.shape, np.arange(len(pixels)))
            writer.add_person(person, link, file[person]["labels"][:])


def test_linked_pixels_are_followed_and_missed(folder, tmp_path):
    source = tmp_path / "rgb.h5"
    source.write_bytes((folder / "rgb.h5").read_bytes())
    (tmp_path / "faces").mkdir()
    path = tmp_path / "faces" / "shard-000.h5"
    linked(tmp_path, path)
    found = inspect_file(path, sheet=tmp_path / "sheet.png")
    assert "shard of this workflow" in found.kind
    assert fact(found, "pixels") == "links into ../rgb.h5"
    assert fact(found, "channel order").startswith("rgb, by 6 pictures") and not found.warnings
    assert table(found, "Datasets")["pixels"][-1] == "link to another file"
    assert table(found, "Attributes")["variant"] == ["sted"]
    source.unlink()
    assert any("../rgb.h5 is not there" in text for text in inspect_file(path).warnings)


def test_unknown_gaze_is_not_a_fault_when_the_file_says_so(tmp_path):
    labels = np.full((3, 8), np.nan, np.float32)
    labels[:, 2:4] = 0.1
    attributes = FacesAttributes("sted", (16, 16), 500.0, 600.0, "none", "folder", gaze="absent")
    with FacesWriter(tmp_path / "a.h5", attributes) as writer:
        writer.add_person("me", np.full((3, 16, 16, 3), (150, 100, 80), np.uint8), labels)
    found = inspect_file(tmp_path / "a.h5", sheet=tmp_path / "sheet.png")
    assert "absent on purpose" in fact(found, "gaze") and not found.warnings
    assert table(found, "Labels")["gaze_yaw"] == ["-", "-", "-", "3"]


def test_samples(tmp_path):
    with h5py.File(tmp_path / "samples.h5", "w") as file:
        file["pixels"] = np.full((4, 16, 16, 3), (80, 100, 150), np.uint8)
        file["pair"] = np.arange(3, 7)
        file.attrs["model"] = "xunet"
    found = inspect_file(tmp_path / "samples.h5", sheet=tmp_path / "sheet.png", rows=3)
    assert "samples" in found.kind and fact(found, "pairs") == "3 to 6"
    assert any("the pictures look bgr" in text for text in found.warnings)


def test_landmarks_shard(tmp_path):
    marks = np.zeros((68, 2), np.float32)
    write_landmarks(tmp_path / "a.h5", {"p": [("a.jpg", marks), ("b.jpg", marks)]})
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["p/status"][1] = "no_face"
    found = inspect_file(tmp_path / "a.h5")
    assert "landmarks" in found.kind
    assert fact(found, "landmarks found") == "1 of 2 photos"
    assert table(found, "Photos without landmarks") == {"no_face": ["1"]}
    assert table(found, "How sure")["score"][0] == "0.950"
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["p/status"][1] = ""
        del file["p/box_score"]
    found = inspect_file(tmp_path / "a.h5")
    assert fact(found, "landmarks found") == "2 of 2 photos"
    assert [one.title for one in found.tables if "Photos without" in one.title] == []
    assert list(table(found, "How sure")) == ["score", "faces_found"]


def test_statuses_that_are_no_texts_are_no_landmarks(tmp_path):
    write_landmarks(tmp_path / "a.h5", {"p": [("a.jpg", np.zeros((68, 2)))] * 2})
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["p/status"]
        file["p/status"] = np.array([3, 3])
    found = inspect_file(tmp_path / "a.h5")
    assert fact(found, "landmarks found") == "0 of 2 photos"
    assert table(found, "Photos without landmarks") == {"3": ["2"]}


def test_labels_in_degrees_and_lost_ones_are_warned_of(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("p")
        group["pixels"] = np.full((4, 16, 16, 3), (150, 100, 80), np.uint8)
        labels = np.full((4, 8), 20.0, np.float32)
        labels[0] = np.nan
        group["labels"] = labels
        group["frame"] = np.arange(3)
    text = " ".join(inspect_file(tmp_path / "a.h5").warnings)
    assert "perhaps degrees" in text and "up to 1 rows of a column are not finite" in text
    assert "p: datasets differ in rows: frame 3, labels 4, pixels 4" in text


def test_rows_that_were_never_written_are_counted(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        pixels = file.create_dataset("p/pixels", (5, 8, 8, 3), "u1", chunks=(1, 8, 8, 3))
        pixels[:2] = 7
        file["p/labels"] = np.zeros((5, 8), np.float32)
    (text,) = inspect_file(tmp_path / "a.h5").warnings
    assert "3 pieces were never written" in text and "p/pixels" in text


def test_huge_claims_take_no_memory(tmp_path):
    """A header may claim any number of rows, or pieces of any size."""
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        shape = (10**13, 128, 128, 3)
        file.create_dataset("p/pixels", shape, "u1", chunks=(1, 128, 128, 3))
        file.create_dataset("p/labels", (10**13, 8), "f4", chunks=(10**6, 8))
    found = inspect_file(tmp_path / "rows.h5")
    assert any("claims 10,000,000,000,000 rows" in text for text in found.warnings)
    with h5py.File(tmp_path / "piece.h5", "w") as file:
        file.create_dataset("p/pixels", (40000, 128, 128, 3), "u1", chunks=(20000, 128, 128, 3))
        file.create_dataset("p/labels", (40000, 8), "f4", chunks=(1000, 8))
    with pytest.raises(InspectError, match="p/pixels: pieces of"):
        inspect_file(tmp_path / "piece.h5")


def faces(path, persons, **attributes):
    """A faces file of (pixels, labels) by person."""
    with h5py.File(path, "w") as file:
        for person, (pixels, labels) in persons.items():
            file[f"{person}/pixels"], file[f"{person}/labels"] = pixels, labels
        file.attrs.update(attributes)
    return path


def plain_pictures(count, side=16, colour=(150, 100, 80)):
    return np.full((count, side, side, 3), colour, np.uint8)


def test_pictures_of_nobody(tmp_path):
    empty = plain_pictures(0), np.zeros((0, 8), np.float32)
    path = faces(tmp_path / "a.h5", {"p": empty})
    found = inspect_file(path)
    assert fact(found, "channel order") == "unknown: there are no pictures"
    assert fact(found, "rows") == "0" and not found.warnings
    with pytest.raises(InspectError, match=r"a\.h5: no pictures to draw a sheet of"):
        inspect_file(path, sheet=tmp_path / "sheet.png")


def test_grey_pictures_are_drawn_in_the_usual_order(tmp_path):
    grey = plain_pictures(3, colour=(90, 90, 90)), np.zeros((3, 8), np.float32)
    path = faces(tmp_path / "a.h5", {"p": grey}, channel_order="grb")
    found = inspect_file(path, sheet=tmp_path / "sheet.png")
    assert found.warnings == ["channel_order: expected rgb or bgr, found grb"]
    assert fact(found, "channel order").startswith("undecided, by 3 pictures: none of 3")
    assert fact(found, "declared order") == "none"
    words = "channels taken as rgb, assumed, since neither told nor visible"
    assert fact(found, "contact sheet").endswith(words)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (
            np.zeros((2, 16, 16, 3)),
            r"b/pixels: expected NxHxWx3 uint8, found \(2, 16, 16, 3\) float64",
        ),
        (np.zeros((2, 16, 16), np.uint8), r"b/pixels: expected .* found \(2, 16, 16\) uint8"),
        (np.zeros((2, 16, 0, 3), np.uint8), r"b/pixels: expected .* found \(2, 16, 0, 3\) uint8"),
        (plain_pictures(2, 8), r"differ in size \(height, width\): \[\(8, 8\), \(16, 16\)\]"),
    ],
)
def test_pictures_that_are_none_are_told_and_not_drawn(tmp_path, pixels, words):
    labels = np.zeros((2, 8), np.float32)
    path = faces(tmp_path / "a.h5", {"a": (plain_pictures(2), labels), "b": (pixels, labels)})
    found = inspect_file(path)
    assert any(re.search(words, text) for text in found.warnings), found.warnings
    assert "channel order" not in dict(found.facts)
    with pytest.raises(InspectError, match="no pictures to draw a sheet of"):
        inspect_file(path, sheet=tmp_path / "sheet.png")


def test_a_sheet_that_cannot_be_written_is_no_damage_of_the_file(tmp_path):
    people = {"p": (plain_pictures(2), np.zeros((2, 8), np.float32))}
    path, sheet = faces(tmp_path / "a.h5", people), tmp_path / "folder"
    sheet.mkdir()
    with pytest.raises(InspectError, match="^.*/folder: the sheet cannot be written .*directory"):
        inspect_file(path, sheet=sheet)


@pytest.mark.parametrize("name", ["pixels", "landmarks"])
def test_what_a_sheet_shows_and_cannot_be_read_is_damage(tmp_path, name):
    attributes = FacesAttributes("sted", (16, 16), 500.0, 600.0, "none", "folder")
    path, marks = tmp_path / "a.h5", np.zeros((1, 68, 2))
    with FacesWriter(path, attributes) as writer:
        writer.add_person("p", plain_pictures(1), np.zeros((1, 8)), landmarks=marks)
    with h5py.File(path) as file:
        piece = file["p"][name].id.get_chunk_info(0)
    with open(path, "r+b") as file:
        file.seek(piece.byte_offset)
        file.write(b"\xff" * piece.size)
    with pytest.raises(InspectError, match=r"a\.h5: expected readable HDF5, found damage"):
        inspect_file(path, sheet=tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_labels_of_other_forms_are_told(tmp_path):
    labels = [np.zeros((2, 8)), np.zeros((2, 4)), np.full((2, 8), b"x")]
    people = {name: (plain_pictures(2), one) for name, one in zip("abc", labels, strict=True)}
    found = inspect_file(faces(tmp_path / "a.h5", people))
    assert "b/labels: expected 8 columns, found shape (2, 4) of type float64" in found.warnings
    assert "c/labels: expected numbers, found shape (2, 8) of type |S1" in found.warnings
    assert table(found, "Labels")["gaze_pitch"] == ["0.0", "0.0", "0.0", "0"]


def test_a_measure_that_some_groups_lack_is_told(tmp_path):
    rows = [("a.jpg", np.zeros((68, 2)))]
    write_landmarks(tmp_path / "a.h5", {"p": rows, "q": rows})
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["p/box_score"]
    found = inspect_file(tmp_path / "a.h5")
    assert "p/box_score: expected numbers, found none" in found.warnings
    assert table(found, "How sure")["box_score"][0] == "0.990"


def test_groups_of_other_things(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["p/landmarks"] = np.zeros((2, 68, 2))
        file["p/mask"] = np.zeros((2, 8, 8), bool)
        file["p/more/deep"] = 1
        file.create_group("empty")
        file.attrs["camera"] = np.zeros(65)
        file.attrs["lens"] = np.arange(2)
    found = inspect_file(tmp_path / "a.h5")
    assert found.kind == "exact parameters of a rendered capture"
    assert found.why == "groups hold 'landmarks' and 'mask'"
    assert fact(found, "rows") == "2" and fact(found, "persons") == "1: p"
    assert "p: members that are no datasets: more" in found.warnings
    assert "groups are of 2 forms; see the tables" in found.warnings
    assert table(found, "Attributes") == {"camera": ["float64 of shape (65,)"], "lens": ["[0, 1]"]}
    assert table(found, "Datasets of 1 groups (empty)") == {}


def test_links_are_named_and_not_followed(folder, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["away"] = h5py.ExternalLink(str(folder / "rgb.h5"), "/00002")
        file["nowhere"] = h5py.SoftLink("/none")
    found = inspect_file(tmp_path / "a.h5")
    assert "no kind" in found.kind
    assert any("away, nowhere" in text for text in found.warnings)


def test_parquet_tables(tmp_path):
    lost = [Rejection("a", 0, "a/0.jpg", "no_face", ""), Rejection("a", 1, "a/1.jpg", "blur", "")]
    write_rejected(tmp_path / "rejected.parquet", [*lost, Rejection("b", 0, "b", "blur", "")], 7)
    found = inspect_file(tmp_path / "rejected.parquet")
    assert "rejected" in found.kind and fact(found, "rejected") == "3 of 10 rows (30 %)"
    assert table(found, "Rejected rows by reason") == {
        "blur": ["2", "a/1.jpg"],
        "no_face": ["1", "a/0.jpg"],
    }
    row = {"pair": 0, "person": "a", "source_index": 0, "target_index": -1, "kind": "sweep"}
    angles = {f"{s}_{w}": [0.1, -0.2] for s in ("source", "target") for w in ("gaze", "head")}
    write_pairs(tmp_path / "pairs.parquet", pd.DataFrame([{**row, **angles}]))
    found = inspect_file(tmp_path / "pairs.parquet")
    assert "pairs" in found.kind and fact(found, "pairs without a true image") == "1"
    assert table(found, "Directions")["target_gaze yaw"][0] == "-11.5"
    codes = {"person": ["a", "b"], "detected": [True, False]}
    for name, width in (("shape", 4), ("expression", 2), ("pose", 6)):
        values = pa.array(np.ones(2 * width, np.float32))
        codes[name] = pa.FixedSizeListArray.from_arrays(values, width)
    metadata = {"encoder": "deca"}
    pq.write_table(pa.table(codes).replace_schema_metadata(metadata), tmp_path / "part.parquet")
    found = inspect_file(tmp_path / "part.parquet")
    assert "codes" in found.kind and fact(found, "detected") == "1 of 2"
    assert table(found, "Codes")["pose (6)"][:3] == ["1.000"] * 3
    assert table(found, "Metadata") == {"encoder": ["deca"]}
    results = {"pair": [0], "person": ["a"], "kind": ["gaze_and_head"], "gaze_error_deg": [2.5]}
    pd.DataFrame(results).to_parquet(tmp_path / "per_pair.parquet")
    assert "2.500" in said(tmp_path / "per_pair.parquet")
    results = {key: value * 2 for key, value in results.items()} | {"psnr": [20.5, None]}
    pd.DataFrame(results).astype({"psnr": "Float32"}).to_parquet(tmp_path / "per_pair.parquet")
    found = table(inspect_file(tmp_path / "per_pair.parquet"), "Results")
    assert found["psnr"] == ["20.500", "20.500", "20.500", "1"]
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "other.parquet")
    assert "no kind" in inspect_file(tmp_path / "other.parquet").kind


def test_tables_of_other_versions(tmp_path):
    path = tmp_path / "a.parquet"
    with pq.ParquetWriter(path, pa.schema([("x", pa.int64())])):
        pass
    found = inspect_file(path)
    assert fact(found, "rows") == "0 in 0 row groups" and table(found, "Columns") == {
        "x": ["int64", ""]
    }
    write_rejected(path, [Rejection("a", 0, "a/0.jpg", "no_face", "")], 7)
    whole = pq.read_table(path)
    pq.write_table(pa.concat_tables([whole, whole]), path)
    text = "the file's counts say 1 rejected rows, it holds 2"
    assert inspect_file(path).warnings == [text]
    angles = {"source_gaze": [[0.1, 0.2]], "target_gaze": [None]}
    pq.write_table(pa.table({"pair": [0], "kind": ["gaze_and_head"], **angles}), path)
    found = inspect_file(path)
    assert "pairs" in found.kind and "pairs without a true image" not in dict(found.facts)
    assert table(found, "Directions")["target_gaze yaw"] == ["-", "-", "-", "1"]
    codes = {name: [[0.5]] for name in ("shape", "expression", "pose")}
    pq.write_table(pa.table({"person": ["a"], **codes}), path)
    found = inspect_file(path)
    assert "codes" in found.kind and "detected" not in dict(found.facts)


def test_records_and_other_objects(tmp_path):
    path = tmp_path / "a.json"
    content = {"class": "xunet", "config": {"lr": 0.1, "batch": 8}, "seeds": [1, 2], "name": "m"}
    path.write_text(json.dumps(content))
    found = inspect_file(path)
    assert found.kind == "record of a trained model" and found.why == "it has the key config"
    assert table(found, "Keys") == {
        "class": ['"xunet"'],
        "config": ["object with batch, lr"],
        "seeds": ["list of 2"],
        "name": ['"m"'],
    }
    path.write_text('{"config": 1}')
    found = inspect_file(path)
    assert "no kind" in found.kind and "not one of lists of names" in found.why


def test_json_of_any_size_is_not_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{")
    os.truncate(path, JSON_BYTES + 1)
    words = rf"a\.json: expected at most {JSON_BYTES} bytes of JSON, found {JSON_BYTES + 1}"
    with pytest.raises(InspectError, match=words):
        inspect_file(path)


def test_split(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["a", "b", "a"], "val": ["c"], "test": ["b"]}))
    found = inspect_file(path)
    assert "split" in found.kind and table(found, "Lists")["train"] == ["3", "a, b, a"]
    assert "in train and in test: b" in found.warnings
    assert "train: listed more than once: a" in found.warnings
    path.write_text('{"kinds": {}, "bootstrap": {"by": "person"}}')
    assert "metrics" in inspect_file(path).kind
    path.write_text("[1, 2]")
    assert fact(inspect_file(path), "entries") == "2"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "found an empty file"),
        (b"\x80\x04\x95pickle", "found a pickle"),
        (b"PK\x03\x04torch", "found a zip archive that is cut off"),
        (b"\xff\xd8\xff\xe0", "a JPEG picture"),
        (b"hello", "found a text that begins with 'hello'"),
        (b'{"train": [', "expected JSON, found damage"),
        (b'{"a": "\xff"}', "expected JSON, found damage"),
        (b"[" * 200000, "expected JSON, found damage"),
        (b"PAR1 and no more", "expected readable parquet, found damage"),
        (b"\x89HDF\r\n\x1a\n and no more", "expected readable HDF5, found damage"),
    ],
)
def test_other_files_are_one_clear_line(tmp_path, content, words):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InspectError) as error:
        inspect_file(path)
    assert words in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(InspectError, match="found a folder"):
        inspect_file(tmp_path)
    with pytest.raises(InspectError, match="found no such file"):
        inspect_file(tmp_path / "none")


def test_a_file_that_the_system_refuses_is_named(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "secret.h5").write_bytes(b"x")
    monkeypatch.setattr(inspection, "open", refuse, raising=False)
    with pytest.raises(InspectError, match=r"secret\.h5: cannot be read \(.*Permission denied"):
        inspect_file(tmp_path / "secret.h5")


def test_damaged_files_are_described_or_refused_in_one_line(folder, tmp_path):
    """Bytes flipped in the headers, ends cut off; nothing but findings or InspectError."""
    refused = 0
    pairs = tmp_path / "pairs.parquet"
    pd.DataFrame({"person": ["a"], "file_name": ["b"], "reason": ["c"]}).to_parquet(pairs)
    for source in (folder / "rgb.h5", folder / "supplementary.h5", pairs):
        content = source.read_bytes()
        for seed in range(40):
            chance = random.Random(seed)
            changed = bytearray(content)
            for _ in range(chance.choice([1, 4, 30])):
                reach = min(len(changed), chance.choice([96, 4000, 20000]))
                changed[chance.randrange(reach)] = chance.randrange(256)
            if chance.random() < 0.2:
                changed = changed[: chance.randrange(1, len(changed))]
            path = tmp_path / "damaged"
            path.write_bytes(changed)
            try:
                assert said(path, rows=3)
            except InspectError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 20


def test_texts_of_files_cannot_steer_the_terminal(tmp_path):
    name = "\x1b[31mred\x07"
    (tmp_path / "split.json").write_text(json.dumps({"train": [name], "val": [], "test": []}))
    assert "\x1b" not in said(tmp_path / "split.json")
    assert plain(name) == "\\x1b[31mred\\x07"


def test_piped_output_is_plain(folder, capsys):
    show(inspect_file(folder / "rgb.h5"), sys.stdout)
    lines = capsys.readouterr().out.splitlines()
    assert all(line == line.rstrip() and line.isprintable() for line in lines)
    assert lines[0] == str(folder / "rgb.h5") and lines[1].startswith("kind  ")


def test_terminal_gets_colour(folder):
    class Terminal(StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    show(inspect_file(folder / "bgr.h5"), stream)
    assert "warning" in stream.getvalue() and "channel order" in stream.getvalue()


def test_ranges_over_blocks_and_words_for_sizes():
    ranges = Ranges(("a", "b"))
    for block in ([[1, np.nan]], [[3, np.inf], [5, np.nan]], np.zeros((0, 2))):
        ranges.add(np.array(block))
    assert ranges.rows() == [["a", "1.0", "3.0", "5.0", "0"], ["b", "-", "-", "-", "3"]]
    assert [amount(n) for n in (12, 1234567, 3e9, 2e12)] == [
        "12 bytes",
        "1.2 MB",
        "3.0 GB",
        "2.0 TB",
    ]
