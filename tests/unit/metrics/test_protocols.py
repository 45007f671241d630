"""GazeNeRF's protocol: its pairs, its numbers under names of their own, faces that are lost."""

import logging

import h5py
import numpy as np
import pandas as pd
import pytest

from regaze.faces import FacesReader
from regaze.factors import KINDS, LISTED, compared_kinds
from regaze.metrics.columns import columns
from regaze.metrics.protocols import NOT_DETECTED, PAPER, not_detected, paper_entry
from regaze.metrics.sweeps import per_apparent_gaze, step_errors, sweep_entries
from regaze.pairs import draw_pairs
from regaze.paper_pairs import listed_pairs, listed_persons, listed_split, published_name
from regaze.samples import Samples

OPTIONS = {"seed": 0, "resamples": 100, "level": 0.95}


def faces_of(path, persons, source="test", index=None):
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["source"] = source
        for person, rows in persons.items():
            file[f"{person}/labels"] = rng.uniform(-0.3, 0.3, (rows, 8)).astype(np.float32)
            file[f"{person}/pixels"] = np.zeros((rows, 4, 4, 3), np.uint8)
            if index is not None:
                file[f"{person}/source_index"] = np.asarray(index, np.int32)[:rows]
    return FacesReader(path)


def draw(reader, count, **counts):
    options = {"seed": 0, "dataset": "d"}
    return draw_pairs(reader, reader.persons, {LISTED: count, **counts}, **options)


def test_it_is_compared_with_nothing():
    assert LISTED in KINDS and LISTED not in compared_kinds()


def test_everybody_has_the_same_list(tmp_path):
    reader = faces_of(tmp_path / "f.h5", {"a": 12, "b": 9, "c": 10})
    pairs = draw(reader, 100, gaze_and_head=5)
    listed = pairs[pairs["kind"] == LISTED]
    # Other pairs are those that they were without it.
    plain = draw_pairs(reader, reader.persons, {"gaze_and_head": 5}, seed=0, dataset="d")
    pd.testing.assert_frame_equal(pairs[pairs["kind"] != LISTED], plain)
    by_person = [
        list(zip(part["source_index"], part["target_index"], strict=True))
        for _, part in listed.groupby("person")
    ]
    assert len(by_person) == 3 and by_person[0] == by_person[1] == by_person[2]
    sources, targets = zip(*by_person[0], strict=True)
    # Half of the fewest pictures, and the other half in an order of chance.
    assert sources == (0, 1, 2, 3) and sorted(targets) == [4, 5, 6, 7]
    few = draw(reader, 2)
    assert len(few) == 6 and few["target_index"].tolist()[:2] == list(targets[:2])


def test_published_lists_are_of_rows_as_they_were(tmp_path, caplog):
    """Persons are those of the list, and rejected rows are left out with what they were in."""
    index = [0, 1, 3, 53, 56, 80, 99]
    persons = {"0001": 7, "0002": 7}
    reader = faces_of(tmp_path / "f.h5", persons, "columbia", index)
    with caplog.at_level(logging.WARNING):
        pairs = draw(reader, 52)
    assert "d: 6 of 104 listed pairs are there" in caplog.text
    places = [
        (index[s], index[t])
        for s, t in zip(pairs["source_index"], pairs["target_index"], strict=True)
    ]
    # 0 goes to 99, 1 to 53, 2 was rejected, 3 goes to 80.
    assert places == [(0, 99), (1, 53), (3, 80)] * 2
    xgaze = faces_of(
        tmp_path / "x.h5", {"subject0012": 3, "subject0013": 3}, "eth_xgaze", [0, 111, 5]
    )
    assert set(draw(xgaze, 1)["person"]) == {"subject0012"}


def test_lists_by_name():
    assert len(listed_pairs("mpii", 0, 100)) == 100 and listed_pairs("mpii", 0, 1) == [(0, 165)]
    assert published_name("gazecapture") == "gaze_capture" and published_name("folder") is None
    assert published_name("gazenerf_hdf5", ["mpii_subject0001"]) == "mpii"
    assert published_name("gazenerf_hdf5", ["mpii_subject0001", "xgaze_subject0001"]) is None
    assert listed_persons("columbia", "test", ["0001"]) == ["0001"]
    split = listed_split("xgaze", [f"xgaze_subject{n:04d}" for n in (0, 12, 1, 3)])
    assert split == {"train": ["xgaze_subject0000", "xgaze_subject0003"], "val": [],
                     "test": ["xgaze_subject0012"]}  # fmt: skip
    assert listed_split("mpii", ["mpii_subject0000"])["test"] == ["mpii_subject0000"]
    assert listed_split(None, ["anna"])["train"] == ["anna"]


@pytest.fixture
def rows():
    """Four pairs of two persons; of the second identity and errors are bad."""
    table = columns().empty_table().to_pandas()
    given = {
        "pair": [3, 4, 5, 6],
        "person": ["a", "a", "b", "b"],
        "kind": LISTED,
        "gaze_vs_truth_deg": [1.0, 30.0, 2.0, 3.0],
        "head_vs_truth_deg": 4.0,
        "identity_similarity": [0.5, -0.1, 0.6, 0.7],
        "ssim": [0.5, 0.1, 0.5, 0.5],
        "psnr": 20.0,
        "l1": 0.1,
    }
    return pd.concat([table, pd.DataFrame(given)], ignore_index=True)


def default_of():
    names = {*PAPER.values(), "fid"}
    made = {name: {"mean": 0.0, "n": 9, "estimator": "e"} for name in names}
    made["lpips_vgg"] = {"mean": None, "n": 0, "reason": "no weights"}
    return made | {"fid": {"mean": None, "reason": "no weights"}}


def test_faces_that_are_lost_are_counted_apart(rows):
    entry = paper_entry(rows, {4}, default_of(), OPTIONS)
    assert entry["paper_gaze_deg"]["mean"] == pytest.approx(2.0)
    assert entry["paper_gaze_deg"]["n"] == 3 and entry["paper_gaze_deg"]["estimator"] == "e"
    assert entry["paper_identity"]["mean"] == pytest.approx(60.0)
    low, high = entry["paper_identity"]["interval"]
    assert low <= 60.0 <= high
    # Likeness needs no face.
    assert entry["paper_ssim"]["mean"] == pytest.approx(0.4)
    assert entry[NOT_DETECTED] == {"mean": 25.0, "n": 4, "count": 1}
    assert entry["paper_lpips"] == {**entry["paper_lpips"], "mean": None, "reason": "no weights"}
    assert not set(entry) & {"gaze_error_deg", "gaze_vs_truth_deg", "ssim", "psnr", "fid"}
    every = paper_entry(rows, {3, 4, 5, 6}, default_of(), OPTIONS)
    assert every["paper_gaze_deg"]["reason"] == "no face was found in any of the pictures"


def test_small_pictures_are_enlarged_for_the_detector(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["pixels"] = np.stack([np.full((32, 32, 3), one, np.uint8) for one in (10, 200)])
        file["pair"] = np.array([7, 9])
    seen = []

    def find(picture):
        seen.append(picture.shape)
        return [1] if picture.mean() > 100 else []

    assert not_detected(Samples(tmp_path / "s.h5"), [7, 9], find) == {7}
    assert seen == [(256, 256, 3)] * 2


def test_steps_and_what_grows_with_the_gaze():
    asked = np.array([[0.0, 0.0], [0.1, 0.0], [0.2, 0.0]])
    read = asked + [[0.3, 0.3], [0.3, 0.3], [0.3, 0.4]]
    np.testing.assert_allclose(step_errors(read, asked), [0.0, 0.1], atol=1e-12)
    apparent = np.array([0.6, 0.0, 0.3])
    assert per_apparent_gaze(apparent, 0.2 + 0.5 * apparent) == pytest.approx(0.5)
    rows = pd.DataFrame({"person": "a", "source_index": [1, 1, 1, 4, 4, 4]})
    rows[["read_gaze_pitch", "read_gaze_yaw"]] = np.concatenate([asked, read])
    rows["head_error_deg"] = [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    found = sweep_entries(rows, np.tile(asked, (2, 1)), OPTIONS)
    assert found["step_error_deg"]["n"] == 4 and found["head_error_per_gaze"]["mean"] == 0
    assert found["step_error_deg"]["mean"] == pytest.approx(np.rad2deg(0.1) / 4)
    assert sweep_entries(rows[:0], asked[:0], OPTIONS)["step_error_deg"]["mean"] is None
