"""Facts of methods: docs in step with them, and published numbers apart from measured ones."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from regaze.methods import methods
from regaze.redirectors.facts import METRICS, Published, facts_file, facts_of, read_facts
from regaze.report.citations import WORKS
from regaze.report.published import methods_table, published_section

ROOT = Path(__file__).parents[3]


def results(name, kind, role="method"):
    return SimpleNamespace(name=name, role=role, model={"class": kind})


@pytest.mark.parametrize("name", [n for n, p in methods().items() if p.startswith("regaze.")])
def test_every_method_has_facts_that_can_be_cited(name):
    facts = facts_of(name)
    assert facts.works and set(facts.works) <= set(WORKS)
    assert str(facts.year) in WORKS[facts.works[0]].venue or WORKS[facts.works[0]].arxiv
    assert facts.published or facts.without
    for one in facts.published:
        assert one.where and one.protocol and one.trained and one.tested and one.values
    assert facts.upstream in (ROOT / "docs/methods.md").read_text()


def test_the_table_of_the_docs_is_that_of_the_facts():
    page = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    assert methods_table() in page, "write it again: python -m regaze.report.published"


def test_numbers_stand_for_a_class_and_say_what_they_are_of():
    shown = published_section([results(n, "sted") for n in "ab"] + [results("c", "xunet")])
    assert [row["title"] for row in shown["rows"]] == ["ST-ED"] * 5
    first = shown["rows"][0]
    assert first["data"] == "GazeCapture → GazeCapture test" and first["cells"][0] == "2.195"
    assert set(first["cells"][1:]) == {"—"}
    # Every row has where its numbers stand and by which protocol.
    assert [row["note"] for row in shown["rows"]] == [1, 2, 2, 2, 2]
    assert all("Protocol: " in text for text in shown["notes"])
    assert shown["columns"] == list(METRICS.values())
    assert [text.partition(":")[0] for text in shown["without"]] == ["3D-aware X-UNet"]


def test_methods_without_facts_have_no_section():
    assert published_section([results("x", "mine"), results("copy", None, "ceiling")]) is None
    with pytest.raises(ValueError, match="unknown method 'mine'; expected one of"):
        facts_of("mine")


def test_a_metric_of_no_heading_is_refused():
    with pytest.raises(ValueError, match="expected metrics of gaze, .*found gase"):
        Published(where="a", protocol="b", trained="c", tested="d", values={"gase": 1.0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("year: soon", "facts.yaml: year: Input should be a valid integer.*found 'soon'"),
        ("years: 3", "facts.yaml: years: Extra inputs"),
        ("works: []", "facts.yaml: works: .* at least 1 item"),
        ("title: [", "facts.yaml: expected YAML, found"),
    ],
)
def test_faults_of_a_file_are_named(tmp_path, change, message):
    text = "".join(
        line for line in facts_file("xunet").read_text().splitlines(keepends=True)
        if not line.startswith(change.partition(":")[0] + ":")
    )  # fmt: skip
    (tmp_path / "facts.yaml").write_text(f"{text}{change}\n")
    with pytest.raises(ValueError, match=message):
        read_facts(tmp_path / "facts.yaml")
