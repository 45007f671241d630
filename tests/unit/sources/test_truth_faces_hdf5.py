"""Patches that other projects made, of rendered heads, red first and blue first."""

import numpy as np
import pytest
from captures.checks import assert_pixels, label_errors, pixel_errors
from captures.faces_hdf5 import faces_hdf5

from regaze.faces import FacesReader
from regaze.normalise.linked import link_shard
from regaze.sources import open_source


def _linked(path, folder, **options):
    source = open_source({"source": "faces_hdf5", "root": str(path), **options})
    folder.mkdir()
    link_shard(source, source.persons, folder / "faces.h5", folder / "rejected.parquet")
    return FacesReader(folder / "faces.h5")


@pytest.mark.parametrize("attribute", [True, False])
def test_both_channel_orders_give_red_first(tmp_path, attribute):
    readers = {}
    for order in ("rgb", "bgr"):
        path = tmp_path / f"{order}.h5"
        truth = faces_hdf5(path, channel_order=order, attribute=attribute)
        options = {} if attribute else {"channel_order": order}
        readers[order] = _linked(path, tmp_path / order, **options)
    shots = [shot for person in sorted(truth) for shot in truth[person]]
    for reader in readers.values():
        assert reader.persons == sorted(truth)
        assert label_errors(reader.labels, shots).max() < 0.1
        assert_pixels(reader.pixels(reader.rows()), shots)
    rgb, bgr = (reader.pixels(reader.rows()) for reader in readers.values())
    np.testing.assert_array_equal(rgb, bgr)
    grey, _ = pixel_errors(rgb[..., ::-1], shots)
    assert grey.min() > 10


def test_four_labels(tmp_path):
    path = tmp_path / "faze.h5"
    truth = faces_hdf5(path, variant="faze")
    reader = _linked(path, tmp_path / "linked")
    shots = [shot for person in sorted(truth) for shot in truth[person]]
    errors = label_errors(reader.labels, shots)
    assert errors[:, :2].max() < 0.1
    assert np.isnan(errors[:, 2:]).all()
    assert reader.patch_size == (256, 64)
