"""Grids and sweeps: the right pictures in the right places, the same bytes every time."""

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from regaze.report import drawing, grids, sweeps


def samples_of(finished, *names):
    return {name: finished.root / "evaluation" / name / "samples.h5" for name in names}


def test_grid_png_is_deterministic_and_as_wide_as_its_columns(finished, tmp_path):
    for name in ("one.png", "two.png"):
        grids.redirection_grid(
            finished.reader,
            finished.pairs,
            samples_of(finished, "xunet", "lite"),
            tmp_path / name,
            kind="gaze_and_head",
            n=2,
            per_pair_by_model={"lite": finished.root / "evaluation" / "lite" / "per_pair.parquet"},
        )
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.width > 5 * 128 and image.height > 2 * 128


def test_grid_rows_hold_the_pictures_of_their_pair(finished):
    rows = grids.collect(
        finished.reader, finished.pairs, samples_of(finished, "xunet"), "gaze_only", 4
    )
    stored = grids.Samples(samples_of(finished, "xunet")["xunet"]).pictures([rows[1].pair])
    np.testing.assert_array_equal(rows[1].pictures["xunet"], stored[rows[1].pair])
    record = finished.pairs.set_index("pair").loc[rows[1].pair]
    source = finished.reader.pixels(
        [finished.reader.global_index(record.person, record.source_index)]
    )[0]
    expected = source.reshape(16, 2, 16, 2, 3).astype(float).mean((1, 3))
    assert np.abs(rows[1].source - expected).max() <= 0.5
    assert rows[1].target is not None
    assert np.allclose(rows[1].directions["target_gaze"], np.rad2deg(record.target_gaze))


def test_what_a_grid_lacks_is_written_in_its_place(finished):
    samples = samples_of(finished, "xunet")
    rows = grids.collect(finished.reader, finished.pairs, samples, "sweep", 1)
    assert rows[0].target is None
    image = grids.draw_grid(rows, ["xunet", "lite"], "sweep", cell=64)
    source, target, made, absent = (
        np.asarray(image)[42 : 42 + 64, x : x + 64] for x in (128, 196, 270, 338)
    )
    np.testing.assert_array_equal(source, drawing.fitted(rows[0].source, (64, 64)))
    np.testing.assert_array_equal(made, drawing.fitted(rows[0].pictures["xunet"], (64, 64)))
    for empty in (target, absent):
        assert (empty[0] == (221, 225, 231)).all() and (empty[2:20, 2:-2] == 255).all()
    # "no picture" and "not sampled"
    assert target[20:44].min() < 150 > absent[20:44].min() and (target != absent).any()


def test_a_picture_of_the_size_wanted_is_left_alone():
    picture = np.random.default_rng(0).integers(0, 256, (4, 8, 3), np.uint8)
    assert drawing.fitted(picture, (8, 4)) is picture
    assert (
        drawing.fitted(picture, (4, 2)).tolist()
        == np.rint(picture.reshape(2, 2, 4, 2, 3).mean((1, 3))).astype(int).tolist()
    )


def test_choice_takes_every_person_once_before_any_twice():
    pairs = pd.DataFrame({"pair": range(9), "person": list("aaaaabbcc"), "kind": "gaze_and_head"})
    assert sorted(grids.choose_pairs(pairs, "gaze_and_head", 3)["person"]) == ["a", "b", "c"]
    assert sorted(grids.choose_pairs(pairs, "gaze_and_head", 5)["person"]) == [
        "a",
        "a",
        "b",
        "b",
        "c",
    ]
    assert list(grids.choose_pairs(pairs, "gaze_and_head", 2)["person"]) == ["a", "c"]
    assert len(grids.choose_pairs(pairs, "sweep", 2)) == 0


def test_grid_without_pairs_is_an_error(finished, tmp_path):
    pairs = finished.pairs[finished.pairs["kind"] != "gaze_and_head"]
    with pytest.raises(ValueError, match="kind 'gaze_and_head'"):
        grids.redirection_grid(
            finished.reader, pairs, {}, tmp_path / "grid.png", kind="gaze_and_head"
        )


def test_dial_points_where_the_picture_looks():
    up_left = drawing.dial_position((10.0, 10.0))
    assert up_left[0] < 0 and up_left[1] < 0
    assert np.hypot(*drawing.dial_position((80.0, -80.0))) == pytest.approx(1)


def test_sweep_runs_are_consecutive_pairs_of_one_source(finished):
    runs = sweeps.sweep_runs(finished.pairs)
    assert [len(run.pairs) for run in runs] == [6, 6]
    assert runs[0].pairs == tuple(range(runs[0].pairs[0], runs[0].pairs[0] + 6))
    assert np.abs(runs[0].gaze[:, 1]).max() == pytest.approx(20)


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_sweep_is_an_endless_deterministic_animation(finished, tmp_path, suffix):
    for name in ("one", "two"):
        out = tmp_path / f"{name}.{suffix}"
        sweeps.sweep_animation(
            finished.reader, finished.pairs, samples_of(finished, "xunet", "lite"), out
        )
    assert (tmp_path / f"one.{suffix}").read_bytes() == out.read_bytes()
    with Image.open(out) as image:
        assert image.n_frames == 6 and image.info["loop"] == 0


def test_sweep_shrinks_to_its_limit(finished, tmp_path):
    sizes = []
    for limit in (10**7, 40_000):
        out = tmp_path / f"{limit}.gif"
        sweeps.sweep_animation(
            finished.reader,
            finished.pairs,
            samples_of(finished, "xunet"),
            out,
            max_bytes=limit,
        )
        sizes.append(out.stat().st_size)
    assert sizes[1] < sizes[0] and sizes[1] <= 40_000


def test_sweep_is_never_smaller_than_its_smallest_pictures(finished, tmp_path):
    out = tmp_path / "a.gif"
    samples = samples_of(finished, "xunet")
    sweeps.sweep_animation(finished.reader, finished.pairs, samples, out, persons=1, max_bytes=1)
    with Image.open(out) as image:
        assert image.height == 2 * 48 + 2


def test_sweep_holds_the_picture_before_one_that_is_missing(finished, tmp_path):
    run = sweeps.sweep_runs(finished.pairs)[0]
    with h5py.File(tmp_path / "some.h5", "w") as file:
        file["pixels"] = np.array([200, 90], np.uint8).repeat(16 * 16 * 3).reshape(2, 16, 16, 3)
        file["pair"] = [run.pairs[1], run.pairs[3]]
    stores = [grids.Samples(tmp_path / "some.h5")]
    frames = sweeps.sweep_frames(finished.reader, [run], stores, 32)
    assert [frame.getpixel((16, 50))[0] for frame in frames] == [255, 200, 200, 90, 90, 90]


def test_sweep_needs_samples_and_a_known_suffix(finished, tmp_path):
    few = finished.pairs[finished.pairs["kind"] == "gaze_and_head"]
    with pytest.raises(ValueError, match="kind 'sweep'"):
        sweeps.sweep_animation(finished.reader, few, {}, tmp_path / "a.gif")
    with pytest.raises(ValueError, match="'gif' or 'webp'"):
        sweeps.sweep_animation(
            finished.reader, finished.pairs, samples_of(finished, "xunet"), tmp_path / "a.mp4"
        )
