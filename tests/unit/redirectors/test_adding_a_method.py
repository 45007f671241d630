"""The worked example of docs/adding-a-method.md is a working method."""

import re
import sys
from pathlib import Path

import pytest
import torch

import regaze.redirectors
from regaze.settings import Settings
from regaze.training.phases import Progress

ROOT = Path(__file__).parents[3]


@pytest.fixture
def blend(tmp_path, monkeypatch):
    """The folder of the page's example, found as if it lay beside the other methods."""
    text = (ROOT / "docs/adding-a-method.md").read_text()
    folder = tmp_path / "blend"
    folder.mkdir()
    for name, code in re.findall(r"```python file=(\S+)\n(.*?)```", text, re.DOTALL):
        (folder / name).write_text(code)
    (folder / "__init__.py").touch()
    path = [*regaze.redirectors.__path__, str(tmp_path)]
    monkeypatch.setattr(regaze.redirectors, "__path__", path)
    yield "blend"
    for name in [name for name in sys.modules if name.startswith("regaze.redirectors.blend")]:
        del sys.modules[name]


def test_example_is_configured_trained_and_sampled_like_any_method(blend):
    from regaze.redirectors.base import build_redirector, divided

    entry = {"class": "blend", "size_px": 64}
    resnet = {"arch": "resnet", "persons": "train-evaluator"}
    settings = Settings(
        datasets={"synthetic": {"source": "synthetic"}},
        estimators={"resnet": resnet},
        models={"blend": entry},
    )
    assert settings.rows == ["copy", "truth", "blend"]
    redirector = build_redirector(settings.models["blend"].resolve())
    batch = {
        name: torch.rand(4, 2, generator=torch.Generator().manual_seed(n)) - 0.5
        for n, name in enumerate(("source_gaze", "target_gaze", "source_head", "target_head"))
    }
    batch["source"] = torch.rand(4, 3, 64, 64) * 2 - 1
    batch["pair"] = torch.arange(4)
    torch.testing.assert_close(
        redirector.redirect(batch, seed=0), batch["source"], atol=1e-4, rtol=0
    )
    # One source stands for as many targets as there are.
    source, target = divided({k: v[:1] if "source" in k else v for k, v in batch.items()})
    many = redirector.edit(redirector.invert(source, seed=0), target, seed=0)
    torch.testing.assert_close(many, source["source"].expand(4, -1, -1, -1), atol=1e-4, rtol=0)
    assert settings.declarations["blend"].condition == "gaze and head angles"
    moved = batch | {"target": batch["source"].roll(2, 3)}
    optimiser = torch.optim.Adam(redirector.network.parameters(), 1e-2)
    first = None
    for _ in range(30):
        loss = redirector.losses(moved, "main", Progress(0, 0, torch.Generator()))["loss"]
        first = first or float(loss.detach())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < first


def test_example_refuses_what_it_does_not_know(blend):
    from regaze.settings import ConfigurationError, load_settings

    with pytest.raises(ConfigurationError, match="models.blend.widht: unknown key"):
        load_settings(
            {
                "datasets": {"synthetic": {"source": "synthetic"}},
                "estimators": {"resnet": {"arch": "resnet", "persons": "train-evaluator"}},
                "models": {"blend": {"class": "blend", "widht": 3}},
            }
        )
