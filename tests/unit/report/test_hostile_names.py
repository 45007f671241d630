"""Text from data and configurations is shown on the page and never becomes a part of it."""

from html.parser import HTMLParser

import pytest

from regaze.normalise.rejections import Rejection, write_rejected
from regaze.report.across import DatasetEntry
from regaze.report.page import write_report

HOSTILE = (
    "<script>alert(1)</script>",
    "</td></table><img src=x onerror=alert(1)>",
    "\"><svg onload='alert(1)'>",
    "' onmouseover='alert(1)",
    "</style><style>body{display:none}",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    '=HYPERLINK("http://example.org")',
    "line\nbreak\u202e",
)


class Dangers(HTMLParser):
    """What a browser would run or load."""

    def __init__(self):
        super().__init__()
        self.found, self.texts, self.styles = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.styles += tag == "style"
        if tag in ("script", "iframe", "object", "embed", "base", "form"):
            self.found.append(tag)
        for name, value in attrs:
            if name.startswith("on"):
                self.found.append(name)
            loads = name in ("src", "href", "xlink:href", "action", "data")
            if loads and not str(value).startswith(("#", "data:image/", "https://arxiv.org/")):
                self.found.append(f"{name}={value}")

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def hostile_page(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    rejected = [Rejection(name, 0, f"{name}/{name}.jpg", name, name) for name in HOSTILE]
    write_rejected(folder / "rejected.parquet", rejected, 40)
    entry = next(one for one in finished.models if one.name == "xunet")
    write_report(
        folder / "index.html",
        folder / "comparison.csv",
        [
            DatasetEntry(
                HOSTILE[0],
                [type(entry)(name="xunet", metrics=entry.metrics, samples=entry.samples)],
                finished.root / "shard-000.h5",
                finished.root / "pairs.parquet",
                [folder / "rejected.parquet"],
                finished.root / "sheet.png",
            )
        ],
        estimators=finished.estimators,
        config={"seed": 0, "datasets": {name: {"root": name} for name in HOSTILE}},
        versions={HOSTILE[0]: HOSTILE[1]},
        grid_rows=1,
    )
    return (folder / "index.html").read_text(encoding="utf-8")


def test_nothing_on_the_page_runs_or_loads(hostile_page):
    found = Dangers()
    found.feed(hostile_page)
    assert found.found == []
    # The page's own style sheet; those of plots are part of their SVG.
    assert found.styles == hostile_page.count("<style") and "body{display:none}" not in "".join(
        hostile_page.split("<style")[1].split("</style>")[0]
    )


def test_the_names_are_shown_as_text(hostile_page):
    found = Dangers()
    found.feed(hostile_page)
    shown = "".join(found.texts)
    for name in (HOSTILE[0], HOSTILE[1], HOSTILE[5]):
        assert name in shown
    assert "<script>alert" not in hostile_page and "<img src=x" not in hostile_page
    assert "49" not in [text.strip() for text in found.texts]
