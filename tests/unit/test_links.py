"""Links to pixels of other files: rows are found again, and whatever HDF5 would read as zeros."""

import h5py
import numpy as np
import pytest
from captures.files import being_written

from regaze.hdf5 import InUse
from regaze.links import PixelLink, Sources, locate, missing_rows

SHAPE = (10, 4, 4, 3)
WHERE = "the pixels of person p"


@pytest.fixture
def released(tmp_path):
    """Files of ten pictures each, whose names tell what is in them: picture n is 10 k + n."""
    for number, name in enumerate(("a.h5", "b.h5", "sub/c.h5")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            values = np.arange(10, dtype=np.uint8)[:, None, None, None] + np.uint8(10 * number)
            file["p/pixels"] = np.broadcast_to(values, SHAPE)
            file["single"] = np.full(SHAPE[1:], 200, np.uint8)
    return tmp_path


def mapped(folder, layout, name="shard.h5"):
    with h5py.File(folder / name, "a") as file:
        file.create_virtual_dataset("p/mapped", layout)
    return folder / name


def source(name="a.h5", **how):
    return h5py.VirtualSource(name, "p/pixels", shape=SHAPE, dtype=np.uint8, **how)


def layout_of(fill, rows=4, **how):
    layout = h5py.VirtualLayout(shape=(rows, *SHAPE[1:]), dtype=np.uint8, **how)
    fill(layout)
    return layout


def located(path):
    """What each row should be, by following the link."""
    with h5py.File(path) as file, Sources() as files:
        found = locate(file["p/mapped"], WHERE, files)
        values = np.full(len(found), -1)
        for here, one, name in found.by_source():
            if one:
                data = files.dataset(one, name, WHERE)[()]
                values[here] = (
                    data[..., 0, 0, 0][found.row[here]] if data.ndim > 3 else data.flat[0]
                )
        return found, values.tolist()


@pytest.mark.parametrize("rows", [[0], [3, 4, 5], [0, 2, 3, 9]])
def test_rows_of_a_link_are_found_again(released, rows):
    link = PixelLink(released / "a.h5", "p/pixels", SHAPE, np.array(rows))
    path = mapped(released, link.layout(released))
    found, values = located(path)
    assert found.sources == ((str(released / "a.h5"), "p/pixels", SHAPE),)
    assert found.row.tolist() == values == rows
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["p/mapped"][:, 0, 0, 0], rows)
        # The bytes of a shard do not tell when it was written.
        assert h5py.h5g.get_objinfo(file["p"].id, b"mapped").mtime == 0


def test_rows_of_several_files_are_written_and_found_again(released):
    layout = layout_of(everything, 7)
    found, values = located(mapped(released, layout))
    chosen = np.array([0, 2, 3, 5, 6])
    again = mapped(released / "sub", found.taken(chosen).layout(released / "sub"), "again.h5")
    assert located(again)[1] == [values[row] for row in chosen]
    with h5py.File(again) as file:
        np.testing.assert_array_equal(file["p/mapped"][:, 0, 0, 0], np.array(values)[chosen])


def whole(layout):
    layout[:] = source()


def by_object(layout):
    # Names of opened files are as they were opened: from here beside the file, by chance.
    with h5py.File("a.h5") as file:
        layout[:] = h5py.VirtualSource(file["p/pixels"])


def every_second(layout):
    layout[:] = source()[0:8:2]


def two_files(layout):
    layout[:2] = source()[:2]
    layout[2:] = source("sub/c.h5")[2:4]


def row_by_row(layout):
    for row in range(4):
        layout[row] = source("b.h5")[3 - row]


def single_pictures(layout):
    for row in range(4):
        layout[row] = h5py.VirtualSource("b.h5", "single", shape=SHAPE[1:], dtype=np.uint8)


def scattered(layout):
    layout[:] = source()[[0, 3, 4, 9]]


def upwards(layout):
    layout[:] = source("sub/../a.h5")[:4]


def growing(layout):
    end = h5py.h5s.UNLIMITED
    layout[0:end] = source(maxshape=(None, *SHAPE[1:]))[0:end]


def everything(layout):
    layout[0:3] = source("sub/c.h5")[4:7]
    layout[3] = source()[9]
    layout[4] = h5py.VirtualSource("b.h5", "single", shape=SHAPE[1:], dtype=np.uint8)
    layout[5:7] = source("b.h5")[0:2]


FORMS = {
    whole: list(range(10)),
    by_object: list(range(10)),
    every_second: [0, 2, 4, 6],
    two_files: [0, 1, 22, 23],
    row_by_row: [13, 12, 11, 10],
    single_pictures: [200] * 4,
    scattered: [0, 3, 4, 9],
    upwards: [0, 1, 2, 3],
    growing: list(range(10)),
    everything: [24, 25, 26, 9, 200, 10, 11],
}


@pytest.mark.parametrize("fill", FORMS, ids=lambda fill: fill.__name__)
def test_virtual_datasets_of_whole_rows_are_understood(released, monkeypatch, fill):
    monkeypatch.chdir(released)
    more = {"maxshape": (None, *SHAPE[1:])} if fill is growing else {}
    path = mapped(released, layout_of(fill, len(FORMS[fill]), **more))
    monkeypatch.chdir("/")
    assert located(path)[1] == FORMS[fill]
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["p/mapped"][:, 0, 0, 0], FORMS[fill])


def test_a_source_in_the_same_file_and_a_link_to_a_link(released):
    def own(layout):
        layout[:] = h5py.VirtualSource(str(released / "a.h5"), "p/pixels", shape=SHAPE)[5:9]

    inner = mapped(released, layout_of(own), "a.h5")
    with h5py.File(inner) as file:
        assert file["p/mapped"].virtual_sources()[0].file_name == "."

    def nested(layout):
        layout[:] = h5py.VirtualSource("../a.h5", "p/mapped", shape=(4, *SHAPE[1:]))[1:3]

    outer = mapped(released / "sub", layout_of(nested, 2))
    found, values = located(outer)
    assert values == [6, 7] and [name for _, name, _ in found.sources] == ["p/pixels"]


def test_a_source_is_looked_for_where_its_name_says(released, monkeypatch):
    path = mapped(released, layout_of(whole, 10))
    (released / "elsewhere").mkdir()
    (released / "a.h5").rename(released / "elsewhere/a.h5")
    # HDF5 itself would take the one of the working directory.
    monkeypatch.chdir(released / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"{released}/a.h5: no such file, but {WHERE} are"):
        located(path)
    monkeypatch.setenv("HDF5_VDS_PREFIX", "${ORIGIN}/elsewhere")
    assert located(path)[1] == list(range(10))
    monkeypatch.delenv("HDF5_VDS_PREFIX")
    # A file that is a link lies where it leads to.
    (released / "elsewhere/shard.h5").symlink_to(path)
    assert located(released / "elsewhere/shard.h5")[1] == list(range(10))


def left_half(layout):
    layout[:, :, :2] = source()[:4, :, :2]


def flattened(layout):
    layout[:] = h5py.VirtualSource("flat.h5", "x", shape=(4, 48))


def twice(layout):
    layout[:] = source()[:4]
    layout[2] = source("b.h5")[0]


def numbered(layout):
    layout[0 : h5py.h5s.UNLIMITED] = source("a%b.h5")[:1]


def of_floats(layout):
    layout[:] = h5py.VirtualSource("floats.h5", "x", shape=SHAPE)[:4]


def through_a_link(layout):
    layout[:] = h5py.VirtualSource("linking.h5", "x", shape=SHAPE)[:4]


def no_dataset(layout):
    layout[:] = h5py.VirtualSource("a.h5", "q/pixels", shape=SHAPE)[:4]


def too_short(layout):
    layout[:] = h5py.VirtualSource("a.h5", "p/pixels", shape=(40, *SHAPE[1:]))[8:12]


def smaller(layout):
    layout[:] = h5py.VirtualSource("floats.h5", "small", shape=SHAPE)[:4]


def no_hdf5(layout):
    layout[:] = source("text.h5")[:4]


REFUSED = {
    left_half: "shard.h5: /p/mapped: expected a virtual dataset of whole rows .*a.h5: p/pixels",
    flattened: "flat.h5: x: expected rows of shape",
    twice: "shard.h5: /p/mapped: expected each row once, found a row in two pieces",
    numbered: "shard.h5: /p/mapped: expected a virtual dataset of named sources, found 'a%b.h5'",
    of_floats: "floats.h5: x: expected rows of shape .* and type uint8",
    through_a_link: "linking.h5: x: expected a dataset that is stored in this file",
    no_dataset: "a.h5: q/pixels: expected a dataset that is stored in this file, .* found none",
    too_short: r"a.h5: p/pixels: expected 12 rows or more, .* found shape \(10, 4, 4, 3\)",
    smaller: r"floats.h5: small: expected rows of shape \(4, 4, 3\) .* found shape \(10, 2, 2, 3\)",
    no_hdf5: "text.h5: not a readable HDF5 file, but the pixels of person p are a link to it",
}


@pytest.mark.parametrize("fill", REFUSED, ids=lambda fill: fill.__name__)
def test_what_is_read_otherwise_than_it_seems_is_refused(released, fill):
    with h5py.File(released / "floats.h5", "w") as file:
        file["x"], file["small"] = np.zeros(SHAPE, "f4"), np.zeros((10, 2, 2, 3), np.uint8)
    with h5py.File(released / "flat.h5", "w") as file:
        file["x"] = np.zeros((4, 48), np.uint8)
    with h5py.File(released / "linking.h5", "w") as file:
        file["x"] = h5py.ExternalLink("a.h5", "p/pixels")
    (released / "text.h5").write_text("no HDF5\n" * 100)
    more = {"maxshape": (None, *SHAPE[1:])} if fill is numbered else {}
    path = mapped(released, layout_of(fill, **more))
    with pytest.raises(ValueError, match=REFUSED[fill]):
        located(path)


def test_circles_end(released):
    def itself(layout):
        layout[:] = h5py.VirtualSource("shard.h5", "p/mapped", shape=(4, *SHAPE[1:]))

    path = mapped(released, layout_of(itself))
    with pytest.raises(ValueError, match="shard.h5: /p/mapped: .* that ends somewhere"):
        located(path)


def test_rows_that_nothing_is_mapped_to_are_told(released):
    def gap(layout):
        layout[:2] = source()[:2]

    found, values = located(mapped(released, layout_of(gap)))
    assert values == [0, 1, -1, -1]
    with pytest.raises(ValueError, match=r"p: expected 4 rows .*a.h5: p/pixels\), found no row 2"):
        missing_rows(found, "p")
    missing_rows(found.taken(np.arange(2)), "p")


def test_a_source_that_is_being_written_is_in_use(released):
    path = mapped(released, layout_of(whole, 10))
    with (
        being_written(released / "a.h5"),
        pytest.raises(InUse, match="a.h5: in use, another process"),
    ):
        located(path)
    assert located(path)[1] == list(range(10))


def test_more_sources_than_files_can_be_open(released, monkeypatch):
    monkeypatch.setattr("regaze.links._MOST_OPEN", 2)

    def many(layout):
        for row, name in enumerate(("a.h5", "b.h5", "sub/c.h5", "a.h5")):
            layout[row] = source(name)[row]

    assert located(mapped(released, layout_of(many)))[1] == [0, 11, 22, 3]
