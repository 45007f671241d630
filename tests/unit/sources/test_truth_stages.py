"""Every layout through the functions that the workflow's rules call, in more shards than people."""

import numpy as np
import pytest
from captures import columbia, eth_xgaze, gazecapture, mpiifacegaze, photo_folder
from captures.checks import label_errors
from captures.faces_hdf5 import faces_hdf5

from regaze.faces import FacesReader
from regaze.landmarks.stage import make_poses
from regaze.normalise.rejections import read_rejected
from regaze.normalise.stage import make_faces
from regaze.sources import source_options

SHARDS = 4


def _gazecapture(folder):
    return {"root": str(folder)}, gazecapture.gazecapture(folder)


def _mpiifacegaze(folder):
    return {"root": str(folder)}, mpiifacegaze.mpiifacegaze(folder)


def _eth_xgaze(folder):
    return {"root": str(folder)}, eth_xgaze.eth_xgaze(folder)


def _eth_xgaze_hdf5(folder):
    return {"root": str(folder)}, eth_xgaze.eth_xgaze_hdf5(folder)


def _faces_hdf5(folder):
    return {"root": str(folder)}, faces_hdf5(folder)


def _columbia(folder):
    table = folder.parent / "landmarks.csv"
    truth = columbia.columbia(folder, landmarks=table)
    return {"root": str(folder), "landmarks": str(table)}, truth


def _folder(folder):
    truth, options = photo_folder.photo_folder(folder)
    return options, truth


def _folder_without_gaze(folder):
    truth, options = photo_folder.photo_folder(folder, gaze=None)
    return options, truth


WRITERS = {
    "gazecapture": _gazecapture,
    "mpiifacegaze": _mpiifacegaze,
    "eth_xgaze": _eth_xgaze,
    "eth_xgaze_hdf5": _eth_xgaze_hdf5,
    "faces_hdf5": _faces_hdf5,
    "columbia": _columbia,
    "folder": _folder,
    "folder without gaze": _folder_without_gaze,
}


def _people(truth):
    """Number of rows of everybody, whichever way a writer tells the truth."""
    if isinstance(next(iter(truth)), str):
        return {person: list(shots) for person, shots in truth.items()}
    people = {}
    for (person, name), shot in truth.items():
        people.setdefault(person, {})[name] = shot
    return people


@pytest.mark.parametrize("case", WRITERS)
def test_shards(tmp_path, case):
    options, truth = WRITERS[case](tmp_path / "root")
    options = {"source": case.split()[0], **options}
    needed = source_options(options).needs_landmarks()
    shards, rows_in = [], 0
    for shard in range(SHARDS):
        faces, rejected = tmp_path / f"faces-{shard}.h5", tmp_path / f"rejected-{shard}.parquet"
        poses = tmp_path / f"poses-{shard}.h5" if needed else None
        which = {"shard": shard, "shards": SHARDS}
        if needed:
            make_poses(options, poses, **which)
        extra = {} if source_options(options).normalised else {"frame_check": "ellipsoid"}
        counts = make_faces(options, faces, rejected, poses=poses, **which, **extra)
        assert counts.rejected == 0, read_rejected(rejected)[0].to_pylist()
        shards.append(faces)
        rows_in += counts.rows_in
    reader = FacesReader(shards)
    people = _people(truth)
    assert reader.persons == sorted(people)
    assert len(reader) == rows_in == sum(map(len, people.values()))
    shots = []
    for person in reader.persons:
        known = people[person]
        if isinstance(known, dict):
            names = reader.dataset("file_name", reader.rows([person]))
            known = [known[name.decode()] for name in names]
        shots += known
    errors = label_errors(reader.labels, shots)
    assert errors[:, 1].max() < 0.1
    if case == "folder without gaze":
        assert np.isnan(errors[:, 0]).all()
    else:
        assert errors[:, 0].max() < 0.1


@pytest.mark.parametrize("copied", [False, True])
def test_released_patches_are_linked_or_copied(copied, tmp_path):
    faces_hdf5(tmp_path / "released.h5")
    entry = {"source": "faces_hdf5", "root": str(tmp_path / "released.h5"), "copy_pixels": copied}
    out = tmp_path / "out/shard-000.h5"
    make_faces(entry, out, tmp_path / "out/rejected.parquet", shard=0, shards=1)
    before = FacesReader(tmp_path / "released.h5")
    wanted = before.pixels(before.rows())
    np.testing.assert_array_equal(FacesReader(out).pixels(before.rows()), wanted)
    (tmp_path / "released.h5").unlink()
    if copied:
        np.testing.assert_array_equal(FacesReader(out).pixels(before.rows()), wanted)
    else:
        with pytest.raises(FileNotFoundError, match="released.h5"):
            FacesReader(out).pixels(before.rows())
