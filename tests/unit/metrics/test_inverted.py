"""Pictures compared with inversions, and the section of the report that shows it."""

import json

import numpy as np
import pytest
from PIL import Image

from regaze.estimators.settings import EstimatorSettings
from regaze.metrics.generated import measure_inverter
from regaze.metrics.inverted import InvertedFaces
from regaze.metrics.measure import measure_samples
from regaze.pairs import write_pairs
from regaze.redirectors.batches import rows_of
from regaze.redirectors.bench import Bench
from regaze.redirectors.declaration import Sampling
from regaze.redirectors.inversion.settings import ModelSettings as Inversion
from regaze.redirectors.redirtrans_gan.settings import ModelSettings
from regaze.redirectors.sample import sample_redirector, write_samples
from regaze.report.inputs import ModelEntry, read_results
from regaze.report.inverted import inverted_files, inverted_section, inverter_parts

TINY = {"preset": "tiny", "size_px": 32}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A model of inversions with its networks, pairs and an estimator."""
    gan = {"class": "redirtrans_gan", "inverter": "inverter", **TINY}
    models = {
        "inverter": Inversion(**{"class": "inversion", **TINY}),
        "gan": ModelSettings(**gan),
    }
    estimators = {
        "vgg": EstimatorSettings(arch="vgg", preset="tiny", size_px=32, persons="train-redirector")
    }
    made = Bench("gan", models, estimators, tmp_path_factory.mktemp("inverted"))
    write_pairs(made.folder / "pairs.parquet", made.table)
    return made


def measured(bench, samples, inversions=None):
    data = samples, bench.folder / "pairs.parquet", bench.faces, bench.networks["estimator"]
    return measure_samples(*data, resamples=10, inversions=inversions)


def test_an_inverter_draws_what_faces_are_compared_with(bench, tmp_path):
    folder = bench.networks["inverter"]
    files = {"samples": tmp_path / "samples.h5", "speed": tmp_path / "speed.json"}
    sampling = Sampling().model_dump()
    pairs = bench.folder / "pairs.parquet"
    sample_redirector(folder, faces=bench.faces, pairs=pairs, sampling=sampling, **files)
    faces = InvertedFaces(bench.faces, folder)
    table = bench.table[bench.table["kind"] == "gaze_and_head"]
    drawn = {
        side: faces.pixels(rows_of(bench.reader, table, side)) for side in ("source", "target")
    }
    targets = tmp_path / "targets.h5"
    write_samples(targets, drawn["target"], table["pair"].to_numpy(), {"model": "targets"})
    for path, near in ((targets, True), (files["samples"], False)):
        metrics, rows = measured(bench, path, faces)
        rows = rows[rows["kind"] == "gaze_and_head"]
        assert (rows["psnr"].min() > 45) == near and (rows["gaze_vs_truth_deg"].max() < 0.1) == near
        assert metrics["pixels"]["truth"] == "inversions of the stored patches"
        plain, theirs = measured(bench, path)
        assert plain["pixels"]["truth"].startswith("mean over blocks")
        assert theirs["psnr"].max() < 40
    with pytest.raises(ValueError, match="class: expected inversion, found 'redirtrans_gan'"):
        bench.write_untrained()
        InvertedFaces(bench.faces, bench.folder / "models" / "gan")


def test_an_inverter_is_measured_and_drawn(bench, tmp_path):
    faces = InvertedFaces(bench.faces, bench.networks["inverter"])
    told, sheet = tmp_path / "inverter.json", tmp_path / "inverter.png"
    files = {"told": told, "sheet": sheet}
    judge = bench.networks["estimator"]
    measure_inverter(faces, bench.split, judge, persons="test", seed=0, **files)
    found = json.loads(told.read_text())
    rows = faces.rows(["f", "g"])
    apart = (faces.pixels(rows).astype(float) - faces.originals(rows)) / 255
    each = -10 * np.log10(np.square(apart).mean((1, 2, 3)))
    assert found["faces"] == 12 and found["psnr"] == pytest.approx(each.mean(), rel=1e-4)
    assert found["frechet"]["inversions"] > 0 < found["frechet"]["chance"] and found["warning"]
    with Image.open(sheet) as picture:
        assert picture.size == (130, 262)
    chance = faces.chance(4, 0)
    assert np.array_equal(chance, faces.chance(4, 0))
    assert not np.array_equal(chance, faces.chance(4, 1))
    folder = tmp_path / "inverter" / "example"
    folder.mkdir(parents=True)
    told.rename(folder / "inverter.json")
    sheet.rename(folder / "inverter.png")
    (part,) = inverter_parts([folder / "inverter.json"])
    assert part["name"] == "inverter" and "12 faces: PSNR" in part["words"]
    assert part["uri"].startswith("data:image")
    with pytest.raises(ValueError, match="test: expected somebody with faces, found none"):
        split = tmp_path / "split.json"
        split.write_text(json.dumps({"test": []}))
        measure_inverter(faces, split, judge, persons="test", seed=0, **files)


def test_the_report_has_a_section_where_something_was_inverted(tmp_path):
    entries, names = {}, ("gan", "inverter")
    for number, name in enumerate(names):
        value = {"mean": 2.5 + number, "interval": [2.0, 4.0], "n": 4, "standard_error": 0.1}
        kinds = {"gaze_only": {"pairs": 4, "gaze_vs_truth_deg": value, "psnr": {**value}}}
        kinds["gaze_only"]["lpips"] = {"mean": None, "reason": "no weights"}
        (tmp_path / f"{name}.json").write_text(json.dumps({"kinds": kinds}))
        entries[name] = ModelEntry(name, tmp_path / f"{name}.json")
    results = read_results(list(entries.values()))
    files = [entries[name].metrics for name in names]
    found = inverted_files(dict.fromkeys(names, "inverter"), files)
    section = inverted_section(results, found)
    assert [head["title"] for head in section["columns"]] == ["Gaze difference", "PSNR"]
    (group,) = section["groups"]
    assert [row["cells"][0]["text"] for row in group["rows"]] == ["2.50", "3.50"]
    assert {row["told"] for row in group["rows"]} == {"inversions of inverter"}
    assert inverted_section(results, {}) is None and inverted_files({}, None) == {}
