"""Files of GazeNeRF and of the seed: written, read again, and used as a data set."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from regaze.angles import rotation_from_angles
from regaze.codes import CODES
from regaze.codes.latents import LatentsReader, LatentsWriter
from regaze.exchange import Material, dealt, export, row_fit, shards_of
from regaze.face3d.nl3dmm_fit import read_fit, write_fit
from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.hdf5 import InUse
from regaze.masks import NUMBER, MasksReader, MasksWriter
from regaze.masks.stage import make_masks
from regaze.normalise.stage import make_faces
from regaze.redirectors.gazenerf.rays import gaze_in_head, patch_camera
from regaze.sources import SourceError, open_source

SIDE, FOCAL, DISTANCE = 24, 93.75, 600.0
IDENTITY = {"encoder": "deca", "checkpoint_sha256": "a" * 64, "head_sha256": "b" * 64}
PARTS = ("shape", "expression", "texture", "light")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set of two people, 12 and 3 rows, as the workflow leaves it."""
    home, draws = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for name in ("faces", "masks", "latents/deca"):
        (home / name).mkdir(parents=True)
    attributes = FacesAttributes("sted", (SIDE, SIDE), FOCAL, DISTANCE, "none", "synthetic")
    faces = home / "faces/shard-000.h5"
    with FacesWriter(faces, attributes) as writer:
        for person, count in (("anna", 12), ("ben", 3)):
            labels = draws.uniform(-0.5, 0.5, (count, 8))
            writer.add_person(
                person,
                draws.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8),
                labels,
                source_index=np.arange(count) + 300,
                landmarks=draws.uniform(0, SIDE, (count, 68, 2)),
            )
    reader = FacesReader(faces)
    parts = np.zeros((SIDE, SIDE), np.uint8)
    parts[4:20, 4:20] = NUMBER["skin"]
    parts[8:10, 6:9], parts[8:10, 15:18] = NUMBER["right_eye"], NUMBER["left_eye"]
    size = {"patch_size": (SIDE, SIDE), "told_apart": ["skin", "left_eye", "right_eye"]}
    with MasksWriter(home / "masks/shard-000.h5", method="exact", version="x", **size) as writer:
        for rows in writer.parts(reader, 5):
            writer.add(np.stack([np.roll(parts, row % 3, 0) for row in rows]))
    with LatentsWriter(home / "latents/deca/part-000.parquet", IDENTITY) as writer:
        for person in reader.persons:
            count = reader.count(person)
            codes = {name: draws.normal(size=(count, size)) for name, size in CODES.items()}
            writer.add([person] * count, np.arange(count), codes, np.arange(count) != 1)
    return home


def material(home):
    return Material.opened(*shards_of(home))


def opened(root, **options):
    return open_source({"source": "gazenerf_hdf5", "root": str(root), **options})


def imported(root, folder, **options):
    """Faces and masks of the workflow from such files."""
    entry = {"source": "gazenerf_hdf5", "root": str(root), **options}
    make_faces(entry, folder / "faces.h5", folder / "rejected.parquet", shard=0, shards=1)
    make_masks(folder / "faces.h5", folder / "masks.h5", "released", source=entry)
    faces = FacesReader(folder / "faces.h5")
    return faces, MasksReader(folder / "masks.h5", faces)


def test_what_was_exported_comes_back(tmp_path, made):
    ours = material(made)
    files = export(ours, tmp_path / "out", "gazenerf")
    assert [path.name for path in files] == ["xgaze_subject0000.h5", "xgaze_subject0001.h5"]
    faces, masks = imported(tmp_path / "out", tmp_path)
    assert faces.persons == ["anna", "ben"] and len(faces) == 15
    assert faces.attributes["focal"] == FOCAL and faces.attributes["distance"] == DISTANCE
    rows = np.arange(15)
    assert (faces.pixels(rows) == ours.faces.pixels(rows)).all()
    np.testing.assert_allclose(faces.labels[:, :4], ours.faces.labels[:, :4], atol=1e-6)
    marks = (one.dataset("landmarks", rows) for one in (faces, ours.faces))
    np.testing.assert_allclose(*marks, atol=1e-5)
    found, wanted = masks.read(rows), ours.masks.read(rows)
    for name, values in wanted.items():
        assert (found[name] == values).all(), name
    source = opened(tmp_path / "out")
    for person in faces.persons:
        codes = source.read_codes(person)
        here = faces.rows([person])
        stored = ours.latents.read(here)
        assert codes.kind == "flame" and codes.identity == IDENTITY
        assert (codes.known == ours.latents.detected[here]).all()
        for name in PARTS:
            np.testing.assert_array_equal(codes.codes[name][codes.known], stored[name][codes.known])
    assert source.read_faces("anna").file_name[2] == "frame0302/cam00"


def test_cameras_and_gaze_are_those_that_fields_are_told(tmp_path, made):
    ours = material(made)
    export(ours, tmp_path, "gazenerf", persons=["ben"], prefix="columbia_")
    gaze, head = torch.from_numpy(ours.faces.labels[ours.faces.rows(["ben"]), :4]).split(2, 1)
    with h5py.File(tmp_path / "columbia_subject0001.h5") as file:
        told = gaze_in_head(gaze, head)
        np.testing.assert_allclose(file["pitchyaw_head"], told, atol=1e-5)
        camera = patch_camera(head, SIDE, focal=FOCAL / SIDE, distance=DISTANCE)
        np.testing.assert_allclose(file["c2w_Rmat"], camera.rotation, atol=1e-5)
        np.testing.assert_allclose(file["c2w_Tvec"], camera.centre[..., 0], atol=1e-4)
        np.testing.assert_allclose(file["inv_inmat"], camera.inverse, atol=1e-5)
        # 255 where there is something, left the left half of the picture, blue first.
        assert set(np.unique(file["left_eye_mask"])) == {0, 255}
        assert not file["left_eye_mask"][:, :, SIDE // 2 :].any()
        assert (file["face_patch"][0] == ours.faces.pixels([12])[0][..., ::-1]).all()
        assert file["frame_index"].dtype == np.int32 and file["frame_index"][0, 0] == 300
        assert json.loads(file.attrs["code_sizes"])["expression"] == 50


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_seeds_files_come_back(tmp_path, made, part):
    ours = material(made)
    files = export(ours, tmp_path / "out", "seed", seed=3)
    names = ["processed_subject0000", "processed_test_subject0000", "processed_subject0001"]
    assert [path.name for path in files] == names
    chosen = dealt(ours.faces.rows(["anna"]), 3, "anna")
    assert [len(one) for one in chosen] == [11, 1]
    wanted = chosen[part == "test"]
    with h5py.File(tmp_path / "out" / names[part == "test"]) as file:
        assert file.attrs["mode"] == part
        assert (file["train_test_split"][:] == wanted).all()
        assert (file["valid_mask"][:] == (wanted != 1)).all()
    faces, masks = imported(tmp_path / "out", tmp_path, part=part)
    # A row whose head model was not fitted has no head pose to be read.
    kept = wanted[wanted != 1]
    here = faces.rows(["anna"])
    np.testing.assert_allclose(faces.labels[here, :4], ours.faces.labels[kept, :4], atol=1e-6)
    assert (faces.pixels(here) == ours.faces.pixels(kept)).all()
    found, stored = masks.read(here), ours.masks.read(kept)
    assert (found["head"] == stored["head"]).all() and found["eyes"][stored["eyes"]].all()


def test_published_files_say_less(tmp_path):
    """Those of upstream have no attributes: blue first, NL3DMM codes, cameras by name."""
    count, draws = 2, np.random.default_rng(1)
    for prefix, focal in (("xgaze_", 1600.0), ("mpii_", 1400.0), ("gaze_capture_", 1200.0)):
        folder = tmp_path / prefix
        folder.mkdir()
        path = published(folder / f"{prefix}subject0003.h5", count, draws)
        source = opened(folder)
        said = source.attributes
        assert source.persons == [path.stem] and said.channel_order == "bgr"
        assert said.focal == pytest.approx(focal * 16 / 512) and said.distance == 680.0
        codes = source.read_codes(path.stem)
        assert codes.kind == "nl3dmm" and not codes.identity
        assert [one.shape[1] for one in codes.codes.values()] == [100, 79, 100, 27]
    given = opened(folder, focal=960.0, distance=600.0, channel_order="rgb").attributes
    assert (given.focal, given.distance, given.channel_order) == (960.0, 600.0, "rgb")
    fit = row_fit(folder, path.stem, 1)
    write_fit(tmp_path / "a_nl3dmm.pkl", fit)
    again = read_fit(tmp_path / "a_nl3dmm.pkl", 306)
    assert torch.equal(again.code, fit.code) and torch.equal(again.w2c_Rmat, fit.w2c_Rmat)


def published(path, count, draws):
    """A file in GazeNeRF's layout as its scripts write it, small."""
    side, head = 16, draws.uniform(-0.4, 0.4, (count, 2))
    names = ("head_mask", "left_eye_mask", "right_eye_mask")
    columns = {name: np.full((count, side, side), 255, np.uint8) for name in names}
    columns |= {
        "face_patch": draws.integers(0, 256, (count, side, side, 3), np.uint8),
        "latent_codes": draws.normal(size=(count, 306)),
        "pitchyaw_head": draws.uniform(-0.3, 0.3, (count, 2)),
        "face_head_pose": head,
        "facial_landmarks": draws.uniform(0, side, (count, 68, 2)),
        "frame_index": np.zeros((count, 1), np.uint8),
        "cam_index": np.zeros((count, 1), np.uint8),
    }
    rotation = rotation_from_angles(head)
    columns |= dict.fromkeys(("w2c_Rmat", "c2w_Rmat", "inmat", "inv_inmat"), rotation)
    columns |= dict.fromkeys(("w2c_Tvec", "c2w_Tvec"), draws.normal(size=(count, 3)))
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values, chunks=(1, *values.shape[1:]))
    return path


def replaced(file, name, values):
    del file[name]
    if values is not None:
        file[name] = values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: replaced(f, "latent_codes", None), "expected face_patch, head_mask, latent_c"),
        (lambda f: replaced(f, "face_patch", np.zeros((2, 4, 6, 3), np.uint8)), r"\(N,S,S,3\)"),
        (lambda f: f.attrs.update(focal=-1.0), "focal: expected a number above 0, found -1.0"),
    ],
)
def test_a_set_of_files_that_cannot_be_used(tmp_path, change, message):
    path = published(tmp_path / "xgaze_subject0000.h5", 2, np.random.default_rng(0))
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(SourceError, match=rf"xgaze_subject0000.h5.*{message}"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: replaced(f, "pitchyaw_head", np.zeros((2, 3))),
            r"pitchyaw_head: expected shape \(2, 2\), found \(2, 3\)",
        ),
        (
            lambda f: replaced(f, "face_head_pose", None),
            "face_head_pose: expected",
        ),
    ],
)
def test_people_who_cannot_be_used(tmp_path, change, message):
    path = published(tmp_path / "xgaze_subject0000.h5", 2, np.random.default_rng(0))
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(SourceError, match=rf"xgaze_subject0000.h5: {message}") as error:
        opened(tmp_path).read_faces("xgaze_subject0000")
    assert len(error.value.file_names) == 2


def test_masks_and_codes_that_cannot_be_used(tmp_path):
    path = published(tmp_path / "xgaze_subject0000.h5", 2, np.random.default_rng(0))
    with h5py.File(path, "a") as file:
        replaced(file, "left_eye_mask", np.zeros((2, 8, 8), np.uint8))
        file.attrs["code_sizes"] = "no"
    source = opened(tmp_path)
    with pytest.raises(SourceError, match=r"left_eye_mask: expected masks \(2, 16, 16\), found"):
        source.read_masks("xgaze_subject0000", np.arange(2))
    with pytest.raises(SourceError, match="code_sizes: expected numbers of shape, expression"):
        source.read_codes("xgaze_subject0000")


def test_files_that_differ_and_files_that_are_no_more(tmp_path, made):
    draws = np.random.default_rng(0)
    published(tmp_path / "xgaze_subject0000.h5", 2, draws)
    other = published(tmp_path / "mpii_subject0001.h5", 2, draws)
    with pytest.raises(SourceError, match="focal: expected 43.75 as in the other files, found 50"):
        opened(tmp_path)
    other.write_bytes(other.read_bytes()[:3000])
    source = opened(tmp_path)
    with pytest.raises(SourceError, match="mpii_subject0001.h5: expected an HDF5 file"):
        source.read_faces("mpii_subject0001")
    with pytest.raises(SourceError, match=r"expected \*.h5 of GazeNeRF or processed_subject0000"):
        opened(made / "latents")


def test_a_file_that_is_being_written_is_nobodys_loss(tmp_path):
    path = published(tmp_path / "xgaze_subject0000.h5", 2, np.random.default_rng(0))
    holder = "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print(1, flush=True); input()"
    run = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": {**os.environ}}
    with subprocess.Popen([sys.executable, "-c", holder, str(path)], **run) as other:
        other.stdout.readline()
        with pytest.raises(InUse, match="in use"):
            opened(tmp_path)
        other.communicate(b"\n")


def test_what_cannot_be_exported(tmp_path, made, monkeypatch):
    ours = material(made)
    with pytest.raises(ValueError, match="layout: expected one of gazenerf, seed, found 'x'"):
        export(ours, tmp_path, "x")
    with pytest.raises(ValueError, match="person: expected one of .*, found 'carl'"):
        export(ours, tmp_path, "seed", persons=["carl"])
    with pytest.raises(
        FileNotFoundError, match="masks: expected shard-000.h5 .* `snakemake masks`"
    ):
        (tmp_path / "a/faces").mkdir(parents=True)
        (tmp_path / "a/faces/shard-000.h5").touch()
        shards_of(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="latents/emoca: no latents; there are: deca"):
        shards_of(made, "emoca")

    # A disk that is full half way leaves nothing behind.
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("regaze.exchange._Writer.add", full)
    with pytest.raises(OSError, match="No space left"):
        export(ours, tmp_path / "out", "gazenerf")
    assert not list((tmp_path / "out").iterdir())


def test_without_latents_codes_are_not_known(tmp_path, made):
    faces, masks, _ = shards_of(made, "none")
    export(Material.opened(faces, masks, []), tmp_path, "gazenerf", persons=["ben"])
    assert not opened(tmp_path).read_codes("ben").known.any()
    with pytest.raises(ValueError, match="row 0: expected a code, found that none was fitted"):
        row_fit(tmp_path, "ben", 0)
    with pytest.raises(ValueError, match="expected a row below 3, found 7"):
        row_fit(tmp_path, "ben", 7)
    assert isinstance(material(made).latents, LatentsReader)


def test_inspect_knows_the_files(tmp_path, made):
    from regaze.inspection import inspect_file

    export(material(made), tmp_path, "gazenerf", persons=["ben"])
    found = inspect_file(tmp_path / "xgaze_subject0001.h5")
    assert found.kind == "GazeNeRF, one person of its data sets (24x24 px)"
