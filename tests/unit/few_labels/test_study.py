"""The study's numbers, its settings, and what it says when redirected pictures do not help."""

import copy
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import save_file

from regaze.estimators.build import build_estimator
from regaze.faces import FacesAttributes, FacesWriter
from regaze.few_labels.estimator import SCHEMA, read_errors, write_errors
from regaze.few_labels.page import report_study, summary
from regaze.few_labels.settings import Draw, estimator_entry, redirector_entry
from regaze.few_labels.study import Measured, collect, summarise, verdict
from regaze.settings import ConfigurationError, load_settings

DEFAULT = yaml.safe_load((Path(__file__).parents[3] / "config.yaml").read_text())


def configured(**changes):
    config = copy.deepcopy(DEFAULT)
    for path, value in changes.items():
        *parents, last = path.split("__")
        here = config
        for key in parents:
            here = here.setdefault(key, {})
        here[last] = value
    return load_settings(config)


def write(folder, maker, draw, labels, gaze, people="abcd"):
    """Errors of an estimator: two rows per person, gaze as given plus the person's own part."""
    path = folder / maker / draw / "errors.parquet"
    path.parent.mkdir(parents=True)
    persons = np.repeat(list(people), 2)
    own = np.repeat(np.arange(len(people)), 2)
    columns = {
        "person": persons,
        "row": np.tile([0, 1], len(people)),
        "gaze_deg": gaze + own,
        "head_deg": np.full(len(persons), 2.0),
    }
    schema = SCHEMA.with_metadata({b"labels": str(labels).encode()})
    pq.write_table(pa.Table.from_pydict(columns, schema=schema), path)
    return Measured.at(path)


@pytest.fixture
def measured(tmp_path):
    return [
        write(tmp_path, "real", "n10-s0", 10, 6.0),
        write(tmp_path, "real", "n10-s1", 10, 7.0),
        write(tmp_path, "net", "n10-s0", 10, 5.0),
        write(tmp_path, "net", "n10-s1", 10, 7.0),
        write(tmp_path, "real", "nall-s0", 64, 3.0),
        write(tmp_path, "net", "nall-s0", 64, 3.0),
    ]


def test_errors_and_changes_are_means_over_pictures_and_seeds(measured):
    table = summarise(collect(measured), resamples=200).set_index(["labels", "data"])
    # Every person's own part is 0 to 3 degrees, 1.5 in the mean.
    assert table.loc[(10, "real"), "gaze_deg"] == pytest.approx(8.0)
    assert table.loc[(10, "real"), "gaze_by_seed"] == "7.500 8.500"
    assert table.loc[(10, "net"), "gaze_change"] == pytest.approx(-0.5)
    # It is the same for everybody, so that drawing other people changes nothing.
    assert table.loc[(10, "net"), "gaze_change_low"] == pytest.approx(-0.5)
    # One seed changes by a degree, the other not at all.
    assert table.loc[(10, "net"), "gaze_verdict"] == "seeds disagree"
    assert table.loc[(64, "net"), "gaze_verdict"] == "no difference shown"
    low, high = table.loc[(10, "real"), ["gaze_low", "gaze_high"]]
    assert 6.5 <= low < 8.0 < high <= 9.5


def test_verdicts_and_the_sentence_are_honest():
    assert verdict(-2, -1) == "helps" and verdict(0.1, 2) == "harms"
    assert verdict(-1, 1) == "no difference shown" and "one person" in verdict(None, None)
    assert verdict(-2, -1, [-3.0, 0.2]) == "seeds disagree"
    assert verdict(0.1, 2, [0.5, 1.0]) == "harms"
    rows = pd.DataFrame(
        {
            "labels": [10, 10, 64],
            "data": ["real", "net", "net"],
            "gaze_change": [np.nan, 0.7, 0.1],
            "gaze_verdict": [None, "harms", "no difference shown"],
        }
    )
    said = summary(rows)
    assert "harm gaze with net at 10 (+0.70 degrees)" in said and "help" not in said
    assert "1 of 2 comparisons show no difference in gaze." in said
    rows = rows.assign(gaze_verdict=[None, "seeds disagree", "one person, no interval"])
    assert summary(rows) == (
        "1 of 2 comparisons do not go the same way with every seed. "
        "1 of 2 comparisons are of one person, from whom nothing follows."
    )


def test_the_sentence_when_there_is_nothing_to_compare_or_all_is_clear():
    rows = pd.DataFrame({"labels": [10, 10], "data": ["real", "net"], "gaze_change": [np.nan, -1]})
    assert summary(rows).startswith("No redirector was asked to make pictures")
    said = summary(rows.assign(gaze_verdict=[None, "helps"]))
    assert said == "Redirected pictures help gaze with net at 10 (-1.00 degrees)."


def test_a_redirector_that_made_no_pictures_for_a_number_of_labels_has_no_row(measured):
    rows = summarise(collect(measured[:5]), resamples=100, seed=0)
    assert [(row["labels"], row["data"]) for row in rows.to_dict("records")] == [
        (10, "real"),
        (10, "net"),
        (64, "real"),
    ]


def test_page_table_and_figure_are_the_same_twice(measured, tmp_path):
    made = []
    for name in ("one", "two"):
        files = {key: tmp_path / name / key for key in ("table", "figure", "page")}
        report_study(measured, **files, about={"Data set": "<synthetic>"}, resamples=100)
        made.append([path.read_bytes() for path in files.values()])
    assert made[0] == made[1]
    page = made[0][2].decode()
    assert "&lt;synthetic&gt;" in page and "<script" not in page and "http" not in page
    assert "1 of 2 comparisons show no difference in gaze." in page
    assert "1 of 2 comparisons do not go the same way with every seed." in page


def test_one_person_alone_has_numbers_without_intervals(tmp_path):
    for maker, gaze in (("real", 6.0), ("net", 5.0)):
        write(tmp_path, maker, "n10-s0", 10, gaze, people="a")
    files = {key: tmp_path / key for key in ("table", "figure", "page")}
    paths = sorted(tmp_path.glob("*/*/errors.parquet"))
    report_study([Measured.at(path) for path in paths], **files, about={})
    page = files["page"].read_text()
    assert "<td>6.00</td>" in page and "<td>5.00</td>" in page
    assert "<td>-1.00</td><td>one person, no interval</td>" in page


def test_a_list_without_pictures_cannot_be_measured_on(tmp_path):
    network = build_estimator("resnet", "tiny")
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    record = {"name": "judge", "kind": "estimator", "config": network.config()}
    (tmp_path / "model.json").write_text(json.dumps(record))
    attributes = FacesAttributes("sted", (32, 32), 125.0, 600.0, "none", "test")
    with FacesWriter(tmp_path / "faces.h5", attributes) as writer:
        writer.add_person("a", np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 8), np.float32))
    (tmp_path / "split.json").write_text(json.dumps({"test": ["b"]}))
    with pytest.raises(ValueError, match=r"split.json: list 'test' has no pictures in .*faces.h5"):
        write_errors(
            tmp_path,
            faces=[tmp_path / "faces.h5"],
            split=tmp_path / "split.json",
            persons="test",
            threads=1,
            output=tmp_path / "errors.parquet",
        )


def test_estimators_measured_on_different_pictures_are_not_compared(measured, tmp_path):
    other = write(tmp_path / "other", "net", "n10-s2", 10, 5.0, people="abc")
    with pytest.raises(ValueError, match=r"n10-s2.*measured on other pictures"):
        collect([*measured, other])
    (tmp_path / "bad.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="measured: expected at least one"):
        collect([])
    pq.write_table(pa.table({"person": ["a"]}), tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match="bad.parquet: expected columns person"):
        read_errors(tmp_path / "bad.parquet")


def test_names_of_draws():
    for draw in (Draw(100, 0), Draw("all", 12)):
        assert Draw.parse(draw.name) == draw
    assert Draw("all", 1).subset is None and Draw(5, 1).plain == {"count": 5, "seed": 1}


def test_entries_of_the_study():
    settings = configured()
    vgg = estimator_entry(settings.estimators["resnet"], Draw(50, 1), 640, "augmented")
    assert vgg["labels"] == {"count": 50, "seed": 1} and vgg["train"]["images"] == 640
    assert vgg["persons"] == "train-redirector" and vgg["data"] == "augmented"
    plain = estimator_entry(settings.estimators["vgg"], Draw("all", 1), None, "labelled")
    assert "labels" not in plain and plain["train"] == settings.estimators["vgg"].train.model_dump()
    lite = redirector_entry(settings.models["xunet_lite"], Draw(50, 1), None, "vgg")
    assert lite["labels"] == {"count": 50, "seed": 1, "estimator": "vgg", "targets": "labelled"}
    whole = redirector_entry(settings.models["xunet_lite"], Draw("all", 1), None, None)
    assert whole == settings.models["xunet_lite"].resolve() and "labels" not in whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation__redirectors": ["gan"]}, "augmentation.redirectors: 'gan' is not defined"),
        ({"augmentation__estimator": "x"}, "augmentation.estimator: 'x' is not defined"),
        ({"augmentation__estimator": None}, "augmentation.estimator: expected one of vgg"),
        ({"augmentation__counts": [100, 100]}, "augmentation.counts: expected different values"),
        ({"augmentation__counts": ["half"]}, "augmentation.counts"),
        ({"augmentation__counts": []}, "augmentation.counts"),
        ({"augmentation__seeds": [0, -1]}, "augmentation.seeds: expected no negative numbers"),
        ({"augmentation__sedes": [1]}, "augmentation.sedes: unknown key"),
        (
            {
                "augmentation__redirectors": ["xunet_lite"],
                "models__xunet_lite__train__transfer": "latest.pt",
            },
            "'xunet_lite' starts from the weights 'latest.pt', which may know labels outside",
        ),
        (
            {"augmentation__redirectors": ["xunet_student"]},
            "'xunet_student' learns from its teacher 'xunet_lite'",
        ),
        (
            {"augmentation__redirectors": ["sted"], "models__sted__preprocess": "equalise"},
            "augmentation.estimator: '.*' has preprocess 'none', but .* 'sted' .* 'equalise'",
        ),
        ({"models__xunet_lite__labels": {"count": 0}}, "models.xunet_lite.labels.count"),
        ({"models__xunet_lite__labels": {"cuont": 5}}, "labels.cuont: unknown key"),
        ({"estimators__vgg__labels": {"count": 5, "estimator": "vgg"}}, "unknown key"),
        (
            {"models__xunet_lite__labels": {"count": 5, "estimator": "no"}},
            "models.xunet_lite.labels.estimator: 'no' is not defined",
        ),
    ],
)
def test_faults_are_named(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        configured(**changes)


@pytest.mark.parametrize(
    ("estimator", "leaks"),
    [
        ({}, True),
        ({"labels": {"count": 100}}, False),
        ({"labels": {"count": 60}}, False),
        ({"labels": {"count": 101}}, True),
        ({"labels": {"count": 100, "seed": 1}}, True),
        ({"labels": {"count": 100}, "persons": "train"}, True),
    ],
)
def test_labels_do_not_leak_through_an_estimator(estimator, leaks):
    changes = {"models__xunet_lite__labels": {"count": 100, "estimator": "vgg"}}
    changes |= {f"estimators__vgg__{key}": value for key, value in estimator.items()}
    if not leaks:
        configured(**changes)
        return
    message = r"models.xunet_lite: .*100 labels of seed 0, but .*estimators.vgg learns .*leak"
    with pytest.raises(ConfigurationError, match=message):
        configured(**changes)
