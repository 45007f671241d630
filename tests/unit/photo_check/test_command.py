"""``regaze photo-check`` as a user types it, with tiny networks and a public portrait."""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage import data
from typer.testing import CliRunner

from regaze.cli import app
from regaze.estimators.build import build_estimator
from regaze.estimators.xgaze import XGazeResnet
from regaze.identity.store import build_recogniser
from regaze.redirectors.base import build_redirector
from regaze.redirectors.xunet.settings import ModelSettings

KINDS = ["redirected", "moved irises"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder without a configuration, with a portrait."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(data.astronaut()).save("portrait.png")
    return tmp_path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model of drawn weights, which changes every picture, an estimator and a recogniser."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    entry = {"class": "xunet", "preset": "tiny", "size_px": 32}
    objective = {"parameterization": "regression", "base": "source"}
    config = ModelSettings(**entry, objective=objective).resolve()
    network = build_redirector(config, {}).network
    for value in network.parameters():
        if value.ndim == 4 and not value.any():
            value.data = 0.1 * torch.randn_like(value)
    save(folder / "restless", network, "redirector", config)
    judge = build_estimator("resnet", "tiny", 32, "none")
    slopes = {"gaze_deg": 2.0, "gaze_pitch_slope": 0.3, "gaze_yaw_slope": 0.95}
    save(folder / "judge", judge, "estimator", judge.config(), held_out=slopes)
    config = {"network": "tiny", "size_px": 32}
    save(folder / "identity", build_recogniser("tiny", 32), "identity", config)
    return folder


def save(folder, network, kind, config, **more):
    folder.mkdir()
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    record = {"name": folder.name, "kind": kind, "config": config, **more}
    (folder / "model.json").write_text(json.dumps(record))


def run(*arguments):
    return CliRunner().invoke(app, ["photo-check", *(str(one) for one in arguments)])


def asked(models, *more):
    return ("--model", "restless", "--models", models, "--device", "cpu", *more)


def refused(*arguments):
    result = run(*arguments)
    assert result.exit_code not in (0, 2) and "Traceback" not in result.output
    return result.output


def test_a_portrait(here, models):
    torch.manual_seed(0)
    network = XGazeResnet(18)
    torch.save({"model_state": network.resnet.state_dict()}, "published.pth")
    result = run("portrait.png", *asked(models, "--estimator", "judge", "--judge", "published.pth"))
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "restless: 1 photos, 8 redirections; 0 left out"
    assert "told: judge reads 0.30 of a change of gaze in pitch" in lines[1]
    heads = (
        "|  | published.pth, pitch / yaw (R2) | judge, pitch / yaw (R2) | iris, pitch / yaw (R2)"
    )
    assert lines[2].startswith(heads)
    assert [line.split(" | ")[0] for line in lines[4:8]] == [
        "| redirected", "| moved irises", "| portrait.png", "| portrait.png, moved irises",
    ]  # fmt: skip
    content = json.loads((here / "photo-check/check.json").read_text())
    assert content["model"]["name"] == "restless" and not content["left_out"]
    assert content["judges"]["judge"]["held_out_gaze_pitch_slope"] == 0.3
    assert content["judges"]["published.pth"]["kind"] == "eth-xgaze"
    control, made = content["measured"]["moved irises"], content["measured"]["redirected"]
    # Irises that were moved by hand are seen where they went, half of the way up and down.
    assert 0.2 < control["iris"]["slope"][0] < 1.2 and 0.4 < control["iris"]["slope"][1] < 1.2
    assert min(control["iris"]["r2"]) > 0.9 and control["iris"]["unread"] == 0
    assert control["by_photo"]["portrait.png"]["iris"] == control["iris"]
    assert control["identity_distance"] < made["identity_distance"]
    assert 0.8 < control["eye_sharpness"] < 1.2
    for one in (control, made):
        assert np.isfinite(one["judge"]["slope"] + one["published.pth"]["slope"]).all()
    rows = pd.read_csv(here / "photo-check/check.csv")
    assert rows["kind"].tolist() == [KINDS[0]] * 8 + [KINDS[1]] * 8
    assert rows["direction"].tolist() == [*range(8)] * 2
    source = content["photos"][0]["source_gaze_deg"]
    np.testing.assert_allclose(
        rows[["asked_pitch", "asked_yaw"]] + source, rows[["target_pitch", "target_yaw"]], atol=1e-3
    )
    np.testing.assert_allclose(rows["asked_pitch"].abs().max(), 10, atol=0.01)
    np.testing.assert_allclose(rows["asked_yaw"].abs().max(), 15, atol=0.01)
    assert rows.notna().all().all()
    sheet = np.asarray(Image.open(here / "photo-check/sheet.png"))
    assert sheet.shape[1] > 1800 and sheet.std() > 20
    assert sorted(one.name for one in (here / "photo-check").iterdir()) == [
        "check.csv", "check.json", "sheet.png",
    ]  # fmt: skip


def test_photos_that_cannot_be_used_are_listed(here, models):
    folder = here / "photos"
    folder.mkdir()
    portrait = data.astronaut()
    cv2.imwrite("photos/deep.png", portrait[..., ::-1].astype(np.uint16) * 257)
    Image.fromarray(data.coffee()).save("photos/empty.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    large = cv2.resize(portrait, (3200, 3200), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite("photos/large.jpg", large[..., ::-1])
    result = run("photos", *asked(models, "--out", "out"))
    assert result.exit_code == 0, result.output
    assert "left out: photos/empty.png: no face found" in result.output
    assert "restless: 2 photos, 16 redirections; 2 left out" in result.output
    content = json.loads((here / "out/check.json").read_text())
    assert [one["photo"] for one in content["photos"]] == ["deep.png", "large.jpg"]
    assert [one["source"] for one in content["left_out"]] == ["broken.jpg", "empty.png"]
    assert "not a picture" in content["left_out"][0]["reason"]
    slopes = content["measured"]["moved irises"]["by_photo"]
    small, big = (slopes[name]["iris"]["slope"] for name in ("deep.png", "large.jpg"))
    np.testing.assert_allclose(small, big, atol=0.25)


def test_what_is_refused(here, models):
    Image.fromarray(data.coffee()).save("empty.png")
    said = refused("empty.png", *asked(models))
    assert "none of 1 photos could be checked; the first: empty.png: no face found" in said
    assert "judge: absent.pth: expected the weights" in refused(
        "portrait.png", *asked(models, "--judge", "absent.pth")
    )
    assert "estimator: no trained 'other'" in refused(
        "portrait.png", *asked(models, "--estimator", "other")
    )
    assert "reach: expected degrees above 0" in refused(
        "portrait.png", *asked(models, "--reach", 0, 10)
    )
    assert "absent.png: expected a photo" in refused("absent.png", *asked(models))
    assert not (here / "photo-check").exists()


def test_without_a_recogniser_or_an_estimator(here, models, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(models / "restless", bare / "restless")
    said = refused("portrait.png", *asked(bare), "--read-gaze", "estimator")
    assert "gaze of the source is unknown" in said
    result = run("portrait.png", *asked(bare), "--out", "irises")
    assert result.exit_code == 0, result.output
    (photo,) = json.loads((here / "irises/check.json").read_text())["photos"]
    assert photo["source_gaze_from"] == "irises"
    shutil.copytree(models / "judge", bare / "judge")
    result = run("portrait.png", *asked(bare))
    assert result.exit_code == 0, result.output
    assert "identity distance unknown: no identity network" in result.output
    content = json.loads((here / "photo-check/check.json").read_text())
    assert content["measured"]["redirected"]["identity_distance"] is None
    assert content["identity"] is None
