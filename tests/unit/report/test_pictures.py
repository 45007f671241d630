"""Grids and sweeps: the right pictures in the right places, the same bytes every time."""

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
            kind="free",
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


def test_choice_takes_every_person_once_before_any_twice():
    pairs = pd.DataFrame({"pair": range(9), "person": list("aaaaabbcc"), "kind": "free"})
    assert sorted(grids.choose_pairs(pairs, "free", 3)["person"]) == ["a", "b", "c"]
    assert sorted(grids.choose_pairs(pairs, "free", 5)["person"]) == ["a", "a", "b", "b", "c"]
    assert list(grids.choose_pairs(pairs, "free", 2)["person"]) == ["a", "c"]
    assert len(grids.choose_pairs(pairs, "sweep", 2)) == 0


def test_grid_without_pairs_is_an_error(finished, tmp_path):
    pairs = finished.pairs[finished.pairs["kind"] != "free"]
    with pytest.raises(ValueError, match="kind 'free'"):
        grids.redirection_grid(finished.reader, pairs, {}, tmp_path / "grid.png", kind="free")


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


def test_sweep_needs_samples_and_a_known_suffix(finished, tmp_path):
    few = finished.pairs[finished.pairs["kind"] == "free"]
    with pytest.raises(ValueError, match="kind 'sweep'"):
        sweeps.sweep_animation(finished.reader, few, {}, tmp_path / "a.gif")
    with pytest.raises(ValueError, match="'gif' or 'webp'"):
        sweeps.sweep_animation(
            finished.reader, finished.pairs, samples_of(finished, "xunet"), tmp_path / "a.mp4"
        )
