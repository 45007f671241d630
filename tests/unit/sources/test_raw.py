"""Who of a raw data set is dealt to shards, and what the workflow notices of its files."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest
from captures.damage import LAYOUTS
from captures.files import being_written

from regaze.hdf5 import InUse
from regaze.sources import SourceError, source_options
from regaze.sources.raw import RawData, RawSets, manifest, photos_manifest
from regaze.sources.splits import SplitError

BRING_PATCHES = ("faces_hdf5", "eth_xgaze_hdf5")


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    """The small captures by layout, made on demand."""
    made = {}

    def get(layout):
        if layout not in made:
            made[layout] = tmp_path_factory.mktemp(layout) / "box"
            made[layout].mkdir()
            LAYOUTS[layout].write(made[layout])
        return made[layout]

    return get


@pytest.fixture
def capture(master, tmp_path):
    """A copy of one capture, and how it is opened."""

    def get(layout, **more):
        folder = tmp_path / "box"
        shutil.copytree(master(layout), folder, symlinks=True)
        return folder, lambda **other: raw(layout, folder, **more | other)

    return get


def raw(layout, folder, **more):
    return RawData(source_options(LAYOUTS[layout].entry(folder) | more))


def shards(data):
    return [data.shard(number, 2) for number in range(2)]


def person_file(layout, folder):
    """A file that is read of the first person, and of nobody else where it can be."""
    first = LAYOUTS[layout].persons[0]
    if layout == "faces_hdf5":
        return folder / "data.h5"
    if layout == "eth_xgaze_hdf5":
        return folder / f"data/train/{first}.h5"
    return folder / "data" / LAYOUTS[layout].photos[0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_that_is_overwritten_is_noticed_in_its_shard(capture, layout):
    folder, opened = capture(layout)
    before = shards(opened())
    assert [one["persons"] for one in before] == [[name] for name in LAYOUTS[layout].persons]
    assert all(one["files"] > 0 and one["bytes"] > 0 for one in before)
    assert shards(opened()) == before
    path = person_file(layout, folder)
    # The same number of bytes, and no later than before.
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns - 1))
    now = shards(opened())
    assert now[0]["sizes"] == before[0]["sizes"] and now[0]["dates"] != before[0]["dates"]
    with open(path, "ab") as file:
        file.write(b" ")
    now = shards(opened())
    assert now[0]["sizes"] != before[0]["sizes"] and now[0]["bytes"] == before[0]["bytes"] + 1
    assert now[1] == before[1] or layout == "faces_hdf5"
    path.rename(path.with_name("away"))
    if layout not in BRING_PATCHES:
        assert shards(opened())[0] not in (before[0], now[0])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_files_are_not_noticed(capture, layout):
    folder, opened = capture(layout)
    before = shards(opened())
    places = [folder / "data" if (folder / "data").is_dir() else folder]
    places += [person_file(layout, folder).parent]
    for place in places:
        (place / "notes.txt").write_text("for myself")
        (place / ".hidden.jpg").touch()
        # Columbia's folders have nothing but photos in them.
        if layout != "columbia":
            (place / "more").mkdir(exist_ok=True)
            (place / "more/notes.txt").touch()
    (places[-1] / "notes.txt").unlink()
    shutil.rmtree(places[0] / "more", ignore_errors=True)
    assert shards(opened()) == before


@pytest.mark.parametrize("layout", ["gazecapture", "gazecapture_json", "mpiifacegaze"])
def test_photos_that_no_label_names_are_not_noticed(capture, layout):
    folder, opened = capture(layout)
    before = shards(opened())
    path = person_file(layout, folder)
    shutil.copy(path, path.with_name("99999.jpg"))
    assert shards(opened()) == before


@pytest.mark.parametrize("layout", ["folder_bare", "columbia", "eth_xgaze"])
def test_photos_that_are_added_are_noticed_in_their_shard(capture, layout):
    folder, opened = capture(layout)
    before = shards(opened())
    path = person_file(layout, folder)
    name = {"columbia": "0001_2m_15P_0V_0H.jpg", "eth_xgaze": "cam13.JPG"}.get(layout, "new.jpg")
    shutil.copy(path, path.with_name(name))
    now = shards(opened())
    assert now[0]["files"] == before[0]["files"] + 1 and now[1] == before[1]


LABELS = {
    "gazecapture_json": [
        f"00002/{name}.json" for name in ("frames", "appleFace", "dotInfo", "info", "screen")
    ],
    "mpiifacegaze": ["p00/p00.txt", "p00/Calibration/Camera.mat"],
    "eth_xgaze": ["data/annotation_train/subject0000.csv", "calibration/cam_calibration/cam03.xml"],
}


@pytest.mark.parametrize(
    ("layout", "name"), [(one, name) for one in LABELS for name in LABELS[one]]
)
def test_labels_of_a_person_are_noticed(capture, layout, name):
    folder, opened = capture(layout)
    before = shards(opened())
    with open(folder / "data" / name, "ab") as file:
        file.write(b"\n")
    assert shards(opened())[0] != before[0]


def test_files_of_virtual_pixels_are_noticed(tmp_path):
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    with h5py.File(tmp_path / "pixels.h5", "w") as file:
        file["x"] = pixels
    (tmp_path / "set").mkdir()
    layout = h5py.VirtualLayout(pixels.shape, np.uint8)
    layout[:] = h5py.VirtualSource("../pixels.h5", "x", shape=pixels.shape)
    with h5py.File(tmp_path / "set/a.h5", "w") as file:
        file.create_virtual_dataset("p/pixels", layout)
        file["p/labels"] = np.zeros((2, 8))
    entry = {"source": "faces_hdf5", "root": str(tmp_path / "set"), "variant": "sted"}
    options = source_options(entry)
    before = RawData(options).shard(0, 1)
    assert before["files"] == 2
    os.utime(tmp_path / "pixels.h5", ns=(0, 0))
    assert RawData(options).shard(0, 1)["dates"] != before["dates"]


def test_manifests_tell_moved_data_sets_as_the_same(capture, tmp_path):
    folder, opened = capture("gazecapture")
    before = shards(opened())
    folder.rename(tmp_path / "there")
    assert shards(raw("gazecapture", tmp_path / "there")) == before


def test_many_files_of_a_folder_are_listed_at_once(tmp_path):
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(b"x" * number)
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")

    class Source:
        root = tmp_path

        def reads(self, persons):
            yield "p", [*(f"{number}.jpg" for number in range(20)), "none.jpg", "loop.jpg"]

    whole = manifest(Source(), ["p"])
    assert (whole.files, whole.bytes) == (20, 190)
    (tmp_path / "loop.jpg").unlink()
    assert manifest(Source(), ["p"]) == whole
    assert photos_manifest(tmp_path).files == 20


def test_folders_of_many_files_may_stand_for_them(tmp_path):
    folder = tmp_path / "photos" / "anna"
    folder.mkdir(parents=True)
    for number in range(20):
        (folder / f"{number}.jpg").touch()
    entry = {"source": "folder", "root": str(tmp_path / "photos")}
    for watch, noticed in (("files", True), ("folders", False)):
        options = source_options(entry | {"watch": watch})
        before = RawData(options).shard(0, 1)
        (folder / "3.jpg").write_bytes(b"other" * (1 + noticed))
        assert (RawData(options).shard(0, 1) != before) == noticed
        (folder / f"new-{watch}.jpg").touch()
        assert RawData(options).shard(0, 1) != before


def write_split(path, **lists):
    path.write_text(json.dumps({"train": [], "val": [], "test": []} | lists))
    return str(path)


def test_gazecapture_in_part(capture, tmp_path):
    folder, opened = capture("gazecapture")
    first, second = LAYOUTS["gazecapture"].persons
    whole = opened()
    assert whole.persons == [first, second] and whole.told() == []
    # A folder that was not unpacked, or has gone.
    (folder / "data" / second).rename(tmp_path / "away")
    data = opened(split={"test": 0.5})
    assert data.persons == [first]
    assert data.left_out == {"with labels but without photos": [second]}
    # The split leaves somebody out, whether there or not.
    split = write_split(tmp_path / "split.json", train=[first])
    data = opened(split=split)
    assert (data.persons, data.left_out) == ([first], {"not in the split": [second]})
    # It wants somebody whom nobody knows.
    split = write_split(tmp_path / "split.json", train=[first], test=["00009", second])
    assert opened(split=split).told() == [
        "1 of 3 persons are left out, in the split but not in the data set: 00009",
        f"1 of 3 persons are left out, with labels but without photos: {second}",
    ]
    # Somebody has photos and no labels.
    (tmp_path / "away").rename(folder / "data" / second)
    with h5py.File(folder / "data/GazeCapture_supplementary.h5", "r+") as file:
        del file[second]
    data = opened(split={"test": 1.0})
    assert (data.persons, data.left_out) == ([first], {"with photos but without labels": [second]})
    split = write_split(tmp_path / "split.json", train=[first, second])
    assert opened(split=split).left_out == data.left_out
    with pytest.raises(SourceError, match=f"expected persons with photos, found none .*{second}"):
        opened(split=write_split(tmp_path / "split.json", train=[second]))


def test_the_split_that_the_data_set_brings_decides_too(capture):
    folder, opened = capture("gazecapture")
    first, second = LAYOUTS["gazecapture"].persons
    for person, part in ((first, "train"), (second, "test")):
        info = {"Dataset": part, "DeviceName": "iPhone 6"}
        (folder / f"data/{person}/info.json").write_text(json.dumps(info))
    before = opened().split()
    (folder / f"data/{second}/info.json").unlink()
    data = opened()
    assert data.left_out == {"not in the split": [second]} and data.split() != before
    write_split(folder / "data/split.json", test=[second])
    assert opened().persons == [second]
    (folder / "data/split.json").write_text("{")
    with pytest.raises(SplitError, match="split.json: expected JSON"):
        opened()


@pytest.mark.parametrize("layout", ["folder_bare", "columbia", "mpiifacegaze"])
def test_without_any_split_everybody_is_dealt(capture, layout):
    _, opened = capture(layout)
    data = opened()
    assert data.persons == list(LAYOUTS[layout].persons) and data.split()["lists"] == ""


@pytest.mark.parametrize(
    ("layout", "place", "person"),
    [
        ("gazecapture", "data", "00002"),
        ("gazecapture_json", "data", "00002"),
        ("mpiifacegaze", "data", "p00"),
        ("columbia", "data", "0001"),
        ("eth_xgaze", "data/data/train", "subject0000"),
    ],
)
@pytest.mark.parametrize("ending", ["tar.gz", "zip"])
def test_archives_come_first(capture, tmp_path, layout, place, person, ending):
    folder, opened = capture(layout, split={"test": 1.0})
    home = folder / place
    packed = home / f"{person}.{ending}"
    packed.touch()
    assert len(opened().persons) == 2, "one that is unpacked may lie there"
    shutil.rmtree(home / person)
    words = rf"expected a folder for each person; found 1 archives .*{packed.name}\): unpack them"
    with pytest.raises(SourceError, match=words):
        opened()
    # A split that leaves the person out does without.
    other = LAYOUTS[layout].persons[1]
    split = write_split(tmp_path / "split.json", test=[other])
    assert opened(split=split).persons == [other]


@pytest.mark.parametrize("layout", [one for one in LAYOUTS if one != "faces_hdf5"])
def test_nothing_but_archives(capture, layout):
    folder, opened = capture(layout)
    for path in (folder / "data").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / "data/everything.tar").touch()
    words = r"found 1 archives that are not unpacked \(everything.tar\): unpack them first"
    with pytest.raises(SourceError, match=words):
        opened()


def test_labels_and_nothing_but_archives(capture):
    folder, opened = capture("gazecapture")
    for person in LAYOUTS["gazecapture"].persons:
        shutil.rmtree(folder / "data" / person)
    (folder / "data/gazecapture.tar").touch()
    with pytest.raises(SourceError, match=r"found none .*archives .*gazecapture.tar\): unpack"):
        opened()


@pytest.mark.parametrize("layout", ["mpiifacegaze", "eth_xgaze"])
def test_other_sets_in_part(capture, tmp_path, layout):
    folder, opened = capture(layout, split={"test": 1.0})
    first, second = LAYOUTS[layout].persons
    place = opened().source.folder(second)
    if layout == "eth_xgaze":
        shutil.rmtree(place)
        assert opened().left_out == {"with labels but without photos": [second]}
        return
    shutil.rmtree(place)
    split = write_split(tmp_path / "split.json", train=[first, second])
    assert opened(split=split).left_out == {"in the split but not in the data set": [second]}


def test_sets_are_opened_when_they_are_asked_for(capture, tmp_path):
    folder, _ = capture("eth_xgaze_hdf5")
    entries = {
        "good": LAYOUTS["eth_xgaze_hdf5"].entry(folder),
        "gone": {"source": "folder", "root": str(tmp_path / "gone")},
        "empty": {"source": "folder", "root": str(tmp_path / "empty")},
        "drawn": {"source": "synthetic"},
    }
    (tmp_path / "empty").mkdir()
    sets = RawSets({name: source_options(entry) for name, entry in entries.items()})
    assert len(sets) == 0
    assert sets["gone"] is None and sets["drawn"] is None
    with being_written(folder / "data/train/subject0000.h5"):
        (fault,) = sets.faults(["good"])
    assert fault.startswith("datasets.good: ") and "in use" in fault
    assert sets.faults(["good", "gone", "drawn"]) == [] and sets.told(["good", "gone"]) == []
    (fault,) = sets.faults(["empty", "good"])
    assert "datasets.empty" in fault and "expected a folder for each person" in fault
    path = folder / "data/train/subject0000.h5"
    with being_written(path), pytest.raises(InUse):
        sets["good"].shard(0, 1)
