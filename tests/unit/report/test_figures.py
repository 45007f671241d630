"""Figures are reproducible SVG, and fit into a page without touching each other."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from regaze.report import figures


def curve(rows=60):
    images = np.arange(1, rows + 1) * 100
    return pd.DataFrame({"step": images // 8, "images": images, "loss": 1 / images})


def series():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "pair": range(60),
            "person": [f"p{n % 6}" for n in range(60)],
            "kind": "gaze_and_head",
            "angle_deg": rng.uniform(0, 30, 60),
            "gaze_error_deg": rng.uniform(3, 6, 60),
        }
    )
    return [
        figures.Series("true image", table, "floor"),
        figures.Series("net <1>", table, "method", 1),
        figures.Series("source", table.assign(gaze_error_deg=table["angle_deg"]), "ceiling"),
    ]


def drawn(which):
    if which == "curve":
        return figures.training_curve(curve(), "net", 2)
    if which == "angles":
        return figures.error_against_angle(
            series(),
            error="gaze_error_deg",
            angle="angle_deg",
            kind="gaze_and_head",
            title="Gaze error",
            xlabel="turned by",
        )
    rows = [{"title": "net", "slot": 0, "mean": 4.0, "low": 3.5, "high": 4.6}]
    rows.append({"title": "other", "slot": 1, "mean": 5.0})
    return figures.dots(rows, title="t", xlabel="degrees", better="lower", floor=3, ceiling=16)


@pytest.mark.parametrize("which", ["curve", "angles", "dots"])
def test_svg_is_reproducible_and_undated(which):
    figure = drawn(which)
    text = figures.svg_text(figure, "salt")
    assert text == figures.svg_text(figure, "salt") == figures.svg_text(drawn(which), "salt")
    assert "<dc:date>" not in text and "matplotlib.org" not in text


def test_users_settings_do_not_matter():
    import matplotlib

    plain = figures.svg_text(drawn("dots"), "salt")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert figures.svg_text(drawn("dots"), "salt") == plain


def test_inline_svg_takes_the_pages_colours_and_fonts():
    text = figures.inline_svg(drawn("angles"), "x", 'a "b" <c>')
    assert text.startswith("<svg") and text.rstrip().endswith("</svg>")
    assert "var(--s1, #c4570c)" in text and "var(--muted, #5d6675)" in text
    assert "font-family" not in text and "<metadata>" not in text and "<style" not in text
    assert 'aria-label="a &quot;b&quot; &lt;c>"' in text
    assert "http://" not in text
    assert text.count("<text") == len(re.findall(r'<text style="[^"]*fill: var\(', text))


def test_two_figures_share_no_identifiers():
    first, second = (figures.inline_svg(drawn("curve"), salt, "") for salt in ("a", "b"))
    ids = [set(re.findall(r'id="([^"]+)"', text)) for text in (first, second)]
    assert ids[0] and ids[0].isdisjoint(ids[1])


def test_validation_is_drawn_only_in_the_units_of_the_loss():
    checked = curve().assign(val_score=np.nan)
    checked.loc[[30, 59], "val_score"] = [0.4, 0.3]
    degrees, unchecked = checked.assign(val_gaze_deg=4.0), checked.assign(val_score=np.nan)
    curves = (checked, degrees, unchecked)
    texts = [figures.svg_text(figures.training_curve(c, "a"), "a") for c in curves]
    assert [">validation<" in text for text in texts] == [True, False, False]


def test_numbers_of_images_are_written_short():
    axes = figures.training_curve(curve(), "net").axes[0]
    written = [axes.xaxis.get_major_formatter()(value) for value in (800, 40_000, 2_500_000)]
    assert written == ["800", "40k", "2.5M"]


def test_running_mean_keeps_constants_and_ends():
    assert figures.running_mean(np.full(9, 2.0)) == pytest.approx(np.full(9, 2.0))
    values = np.arange(100.0)
    assert figures.running_mean(values) == pytest.approx(values)


def test_all_pairs_at_one_angle_can_be_drawn():
    one = series()[1]
    flat = figures.Series("net", one.per_pair.assign(angle_deg=0.0), "method", 0)
    figure = figures.error_against_angle(
        [flat],
        error="gaze_error_deg",
        angle="angle_deg",
        kind="gaze_and_head",
        title="",
        xlabel="",
    )
    assert "<svg" in figures.svg_text(figure, "a")


def test_methods_that_share_a_title_keep_their_own_numbers():
    first = series()[1]
    worse = first.per_pair.assign(gaze_error_deg=first.per_pair["gaze_error_deg"] + 2)
    figure = figures.error_against_angle(
        [first, figures.Series(first.title, worse, "method", 2)],
        error="gaze_error_deg",
        angle="angle_deg",
        kind="gaze_and_head",
        title="",
        xlabel="",
    )
    one, other = (line.get_ydata() for line in figure.axes[0].lines)
    np.testing.assert_allclose(other, one + 2)


def labels(figure):
    """Extents of the names of the two bounds, as they are drawn."""
    figures.svg_text(figure, "a")
    (axes,) = figure.axes
    found = {text.get_text(): text.get_window_extent() for text in axes.texts}
    return found["true image"], found["source"]


BOUNDS = [(3.0, 15.0), (14.6, 15.1), (15.0, 15.0), (15.1, 14.6)]


@pytest.mark.parametrize(("floor", "ceiling"), BOUNDS)
def test_names_of_bounds_beside_each_other_do_not_overlap(floor, ceiling):
    rows = [{"title": "a", "slot": 0, "mean": mean} for mean in (9.0, 12.0)]
    options = {"title": "t", "xlabel": "degrees", "better": "lower"}
    figure = figures.dots(rows, floor=floor, ceiling=ceiling, **options)
    first, second = labels(figure)
    assert not first.overlaps(second)
    across = figure.axes[0].transData.transform([(floor, 0), (ceiling, 0)])[:, 0]
    # Each is still at its own line.
    for box, place in zip((first, second), across, strict=True):
        assert min(abs(box.x0 - place), abs(box.x1 - place), abs((box.x0 + box.x1) / 2 - place)) < 8


@pytest.mark.parametrize(("floor", "ceiling"), [*BOUNDS, (8.1, 8.0), (0.0, 0.2)])
def test_names_of_bounds_above_each_other_do_not_overlap(floor, ceiling):
    @figures.styled
    def draw():
        figure = Figure(figsize=(4.4, 2.4))
        axes = figure.subplots()
        axes.plot([1, 2, 4], [9, 7, 16])
        bounds = {"floor": floor, "ceiling": ceiling}
        figures.bound_lines(axes, bounds, upright=False, linewidth=1)
        return figure

    first, second = labels(draw())
    assert not first.overlaps(second)
