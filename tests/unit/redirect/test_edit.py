"""``regaze edit``: what of a face is taken from another one, and what is refused."""

import shutil

import cv2
import pandas as pd
import pytest
from PIL import Image, ImageChops
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from regaze.cli import app
from regaze.redirectors.bench import Bench
from regaze.redirectors.diffusionrig.settings import ModelSettings


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results with an untrained model, and faces with codes that it was trained with."""
    root = tmp_path_factory.mktemp("results")
    entry = {"class": "diffusionrig", "preset": "tiny", "size_px": 32}
    for name, variant in (("gazing", "gaze"), ("plain", "published")):
        models = {name: ModelSettings(**entry, variant=variant)}
        bench = Bench(name, models, {}, root)
        bench.write_untrained()
        weights = root / "models" / name / "model.safetensors"
        # As if it had learnt from what it is told: else grey levels hardly change.
        state = load_file(weights)
        state["denoisingUNet.out.2.weight"] *= 40
        save_file(state, weights)
    data = root / "synthetic"
    for kind, to in (("crops", "faces/shard-000.h5"), ("codes", "latents/deca/part-000.parquet")):
        (data / to).parent.mkdir(parents=True)
        shutil.copy(bench.input_files[kind][0], data / to)
    return root


def edit(results, *arguments):
    given = [*map(str, arguments), "--models", str(results / "models"), "--steps", "2"]
    return CliRunner().invoke(app, ["edit", *given])


def row(results, name):
    return f"{results}/synthetic/faces/shard-000.h5:{name}"


def test_a_picture_and_a_line_of_the_table_for_every_mode(results, tmp_path):
    like = ["--like", row(results, "b/1"), "--like", row(results, "c/0")]
    modes = ["--modes", "exp,pose+light"]
    told = edit(results, row(results, "a/0"), *like, *modes, "--out", tmp_path / "a")
    assert told.exit_code == 0, told.output
    table = pd.read_csv(tmp_path / "a/edits.csv")
    assert table["mode"].tolist() == ["exp", "pose+light"] * 2
    assert table["seed"].tolist() == [0] * 4 and table["file"].is_unique
    pictures = [Image.open(tmp_path / "a" / file) for file in table["file"]]
    assert all(ImageChops.difference(pictures[0], one).getbbox() for one in pictures[1:])


def test_numbers_replace_the_first_of_a_code(results, tmp_path):
    common = [row(results, "a/0"), "--gaze", "5", "-10", "--model", "gazing"]
    made = []
    for number, told in enumerate((["--jaw", "0.4"], ["--jaw", "0.4,0,0"], [])):
        out = tmp_path / str(number)
        done = edit(results, *common, *told, "--out", out)
        assert done.exit_code == 0, done.output
        (line,) = pd.read_csv(out / "edits.csv").itertuples()
        assert (line.gaze_pitch, line.gaze_yaw) == (5, -10)
        made.append(Image.open(out / line.file))
    assert ImageChops.difference(made[0], made[2]).getbbox()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "expected what to edit"),
        (["--like", "b/1", "--modes", "exp+smile"], "modes: expected different ones of exp, pose"),
        (["--jaw", "a"], "jaw: expected numbers with commas between, found 'a'"),
        (["--jaw", "1,2,3,4"], "jaw: expected at most 3 numbers, found 4"),
        (["--gaze", "0", "0", "--model", "plain"], "'plain' edits head, expression, jaw, light"),
        (["--gaze", "95", "0"], "gaze pitch: expected degrees from -90 to 90"),
        (["--paste", "half"], "paste: expected one of difference, full"),
        (["--jaw", "1", "--sweep", "avi"], "sweep: expected one of gif, mp4, found 'avi'"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told(results, arguments, told, tmp_path):
    given = [row(results, one) if one == "b/1" else one for one in arguments]
    found = edit(results, row(results, "a/0"), *given, "--out", tmp_path / "out")
    assert found.exit_code not in (0, 2) and "Traceback" not in found.output
    assert told in found.output
    assert not (tmp_path / "out").exists()


def test_a_table_of_targets_has_a_picture_per_line(results, tmp_path):
    lines = [
        f"{row(results, 'b/1')},light",
        f"{row(results, 'c/0')},exp",
        f"{row(results, 'b/1')},exp",
    ]
    (tmp_path / "t.csv").write_text("\n".join(["like,mode", *lines]))
    told = edit(
        results, row(results, "a/0"), "--targets", tmp_path / "t.csv", "--out", tmp_path / "a"
    )
    assert told.exit_code == 0, told.output
    table = pd.read_csv(tmp_path / "a/edits.csv")
    assert [
        f"{like},{mode}" for like, mode in zip(table["like"], table["mode"], strict=True)
    ] == lines


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("like,mode\nROW,exp\nmissing.jpg,light\n", "line 3: like: expected a photo or a row"),
        ("like,mode\nROW,smile\n", "line 2: modes: expected different ones of exp"),
        ("like\nROW\n", "expected the columns like and mode, found like"),
        ("like,mode\n", "expected a line per edit, found none"),
        (None, "targets: no such file"),
    ],
)
def test_targets_that_cannot_be_read_write_nothing(results, tmp_path, content, told):
    if content is not None:
        (tmp_path / "t.csv").write_text(content.replace("ROW", row(results, "b/1")))
    given = ["--targets", tmp_path / "t.csv", "--out", tmp_path / "made"]
    found = edit(results, row(results, "a/0"), *given)
    assert found.exit_code == 1 and told in found.output
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_a_sweep_goes_to_the_edit_and_back_with_a_line_per_frame(results, tmp_path, kind):
    given = ["--like", row(results, "c/0"), "--modes", "exp", "--gaze", "5", "-10"]
    sweep = ["--sweep", kind, "--frames", "6", "--out", tmp_path / "a"]
    told = edit(results, row(results, "a/0"), *given, *sweep)
    assert told.exit_code == 0, told.output
    (line,) = pd.read_csv(tmp_path / "a/edits.csv").itertuples()
    assert line.file.endswith(f".{kind}") and (line.gaze_pitch, line.gaze_yaw) == (5, -10)
    frames = pd.read_csv((tmp_path / "a" / line.file).with_suffix(".csv"))
    assert frames["share"].tolist() == [0, 0.25, 0.75, 1, 0.75, 0.25]
    changed = frames["expression_changed_rms"]
    assert changed[0] == 0 and changed[1] == pytest.approx(changed[3] / 4, abs=1e-4)
    assert changed[3] > 0 and frames["gaze_yaw"][3] == -10 != frames["gaze_yaw"][0]
    if kind == "gif":
        with Image.open(tmp_path / "a" / line.file) as made:
            assert made.n_frames == 6
            first = made.convert("RGB")
            made.seek(3)
            assert ImageChops.difference(first, made.convert("RGB")).getbbox()
    else:
        film = cv2.VideoCapture(str(tmp_path / "a" / line.file))
        assert int(film.get(cv2.CAP_PROP_FRAME_COUNT)) == 6
    assert not list((tmp_path / "a").glob("*.png")), "a sweep is one file"


def test_a_photo_without_a_face_to_take_from_writes_nothing(results, tmp_path):
    Image.new("RGB", (200, 160), (90, 120, 90)).save(tmp_path / "meadow.png")
    given = ["--like", tmp_path / "meadow.png", "--out", tmp_path / "made"]
    found = edit(results, row(results, "a/0"), *given)
    assert found.exit_code == 1 and "meadow.png" in found.output and "face" in found.output
    assert not (tmp_path / "made").exists()
