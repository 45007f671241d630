"""Rendered photos through the whole stage: the labels they were rendered with come back."""

import h5py
import numpy as np

from regaze.capture import render_capture
from regaze.faces import FacesReader
from regaze.normalise.pipeline import normalise_shard
from regaze.sources import open_source


def test_labels_of_the_renderer_are_recovered(tmp_path):
    root = tmp_path / "capture"
    persons = {"train-redirector": 1, "val": 0, "test": 1}
    render_capture(root, persons=persons, head_poses=1, gazes=2, photo=120, focal=235.0)
    source = open_source({"source": "synthetic", "root": str(root)})
    faces, rejected = tmp_path / "faces.h5", tmp_path / "rejected.parquet"
    counts = normalise_shard(source, source.persons, faces, rejected, frame_check="ellipsoid")
    assert counts.rows_in == counts.rows_out == 4
    reader = FacesReader(faces)
    with h5py.File(root / "parameters.h5", "r") as truth:
        for person in reader.persons:
            rows = reader.rows([person])
            labels = truth[f"{person}/labels"][()]
            np.testing.assert_allclose(reader.labels[rows, :4], labels[:, :4], atol=1e-5)
            # The eyes lie where the virtual camera sees them, one on each side of the middle.
            eyes = reader.dataset("landmarks", rows)[:, 36:48].reshape(-1, 2, 6, 2).mean(axis=2)
            assert (eyes[:, 0, 0] < 64).all() and (eyes[:, 1, 0] > 64).all()
            assert (np.abs(eyes[..., 1] - 42) < 12).all()
