"""``regaze gcgan``: what is drawn for which gazes, and what is refused."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from regaze.cli import app
from regaze.estimators.build import build_estimator
from regaze.estimators.settings import EstimatorSettings
from regaze.faces import FacesReader
from regaze.redirectors.bench import Bench, _write_model
from regaze.redirectors.gcgan.latents import write_latent
from regaze.redirectors.gcgan.settings import ModelSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Untrained models and faces."""
    bench = Bench(
        "drawing",
        {"drawing": ModelSettings(**{"class": "gcgan"})},
        {"vgg": EstimatorSettings(arch="vgg", persons="train-redirector", preprocess="none")},
        tmp_path_factory.mktemp("c"),
    )
    bench.write_untrained()
    config = {"arch": "vgg", "preset": "tiny", "size_px": 32, "preprocess": "none"}
    _write_model(bench.folder / "vgg", build_estimator(**config), kind="estimator", config=config)
    return bench.folder


def called(folder, command, *options):
    arguments = ["gcgan", command, str(folder / "models/drawing"), *map(str, options)]
    return CliRunner().invoke(app, arguments)


def sampled(folder, out, *options):
    return called(folder, "sample", "--out", out, "--estimator", folder / "vgg", *options)


def test_gazes_are_those_asked_for(folder, tmp_path):
    table = tmp_path / "gazes.csv"
    table.write_text("pitch,yaw\n5,-10\n0,20\n")
    faces = folder / "faces-32.h5"
    for name, options, rows in (
        ("one", ("--gaze", "5,-10", "--count", 2), 2),
        ("listed", ("--gaze", table, "--count", 2), 4),
        ("drawn", ("--faces", faces, "--count", 3), 3),
        ("grid", ("--gaze", "grid", "--count", 1), 25),
    ):
        result = sampled(folder, tmp_path / name, *options)
        assert result.exit_code == 0, result.output
        found = np.degrees(FacesReader(tmp_path / name / "faces.h5").labels[:, :2])
        assert len(found) == rows
        if name in ("one", "listed"):
            np.testing.assert_allclose(found[0], [5, -10], atol=1e-4)
        if name == "grid":
            assert len({tuple(row) for row in found.round(3)}) == 25
    again = sampled(folder, tmp_path / "one", "--gaze", "0,0")
    assert again.exit_code and "new or empty" in str(again.exception)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "--faces: gazes are drawn from labels"),
        (("--gaze", "500,0"), "expected pitch and yaw from -90 to 90 degrees, found [[500.0, 0.0]"),
        (("--gaze", "nan,0"), "expected pitch and yaw from -90 to 90 degrees"),
        (("--gaze", "up"), "--gaze: expected faces, grid, PITCH,YAW in degrees or a .csv"),
    ],
)
def test_gazes_that_are_none_are_refused(folder, tmp_path, options, told):
    result = sampled(folder, tmp_path / "out", *options)
    assert result.exit_code and told in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_saved_code_is_begun_at(folder, tmp_path):
    write_latent(tmp_path / "code.npy", torch.zeros(32))
    out = tmp_path / "way.gif"
    options = ("--component", "eye_shape", "--latent", tmp_path / "code.npy", "--frames", 2)
    result = called(folder, "interpolate", "--out", out, *options)
    assert result.exit_code == 0, result.output
    assert out.read_bytes()[:4] == b"GIF8"
    moving = tmp_path / "way.mp4"
    result = called(folder, "interpolate", "--out", moving, *options)
    assert result.exit_code == 0, result.output
    assert moving.read_bytes()[4:8] == b"ftyp"
    result = called(folder, "interpolate", "--out", tmp_path / "way.png", *options)
    assert result.exit_code and "way.png" in str(result.exception)
    write_latent(tmp_path / "code.npy", torch.zeros(13, 32))
    result = called(folder, "interpolate", "--out", out, *options)
    assert "expected finite numbers of shape (1, 32) or (1, 14, 32)" in str(result.exception)
