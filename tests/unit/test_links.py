"""Links to pixels of another file: rows are found again, other mappings are refused."""

import h5py
import numpy as np
import pytest

from regaze.links import PixelLink, linked_rows

SHAPE = (10, 4, 4, 3)


@pytest.fixture
def released(tmp_path):
    """Two files of ten pictures; picture n is n all over."""
    for name in ("a.h5", "b.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["p/pixels"] = np.broadcast_to(np.arange(10)[:, None, None, None], SHAPE)
    return tmp_path


def mapped(folder, layout):
    with h5py.File(folder / "shard.h5", "w") as file:
        file.create_virtual_dataset("p/pixels", layout)
    return h5py.File(folder / "shard.h5")


def source(name="a.h5"):
    return h5py.VirtualSource(name, "p/pixels", shape=SHAPE, dtype=np.uint8)


@pytest.mark.parametrize("rows", [[0], [3, 4, 5], [0, 2, 3, 9]])
def test_rows_of_a_link_are_found_again(released, rows):
    link = PixelLink(released / "a.h5", "p/pixels", SHAPE, np.array(rows))
    with mapped(released, link.layout(released)) as file:
        path, inside, found = linked_rows(file.filename, "p", file["p/pixels"])
        assert (path, inside) == (str(released / "a.h5"), "p/pixels")
        np.testing.assert_array_equal(found, rows)
        np.testing.assert_array_equal(file["p/pixels"][:, 0, 0, 0], rows)


def test_pixels_that_lie_in_the_file_are_no_link(released):
    with h5py.File(released / "a.h5") as file:
        assert linked_rows(file.filename, "p", file["p/pixels"]) is None


def left_half(layout):
    layout[:, :, :2] = source()[:4, :, :2]


def every_second(layout):
    layout[:] = source()[0:8:2]


def two_files(layout):
    layout[:2] = source()[:2]
    layout[2:] = source("b.h5")[2:4]


def a_gap(layout):
    layout[:2] = source()[:2]


@pytest.mark.parametrize("fill", [left_half, every_second, two_files, a_gap])
def test_links_of_another_form_are_refused(released, fill):
    layout = h5py.VirtualLayout(shape=(4, *SHAPE[1:]), dtype=np.uint8)
    fill(layout)
    words = "shard.h5: p/pixels: expected a virtual dataset of whole rows of one file, found pieces"
    with mapped(released, layout) as file, pytest.raises(ValueError, match=rf"{words} of \[.*a.h5"):
        linked_rows(file.filename, "p", file["p/pixels"])
