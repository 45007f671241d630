"""Methods that tests write: found as if they lay beside the others, or installed from outside."""

import sys

import regaze.methods
import regaze.redirectors

SETTINGS = """
from typing import Literal

from pydantic import Field

from regaze.redirectors.declaration import Declaration, Input, MethodSettings, Network
from regaze.training.settings import RedirectorTraining


class ModelSettings(MethodSettings):
    class_: Literal["NAME"] = Field(alias="class")
    size_px: int = 16
    train: RedirectorTraining = RedirectorTraining()

    def options(self):
        return {**super().options(), "objective": {"flip": False}}

    @staticmethod
    def declare(config):
        return Declaration(inputs=(Input("masks", {"names": ["eyes"]}),))
"""

REDIRECTOR = """
import torch
from torch import nn

from regaze.redirectors.base import Redirector
from regaze.training.phases import Phase


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.angles, self.colours = nn.Linear(4, 3), nn.Conv2d(4, 3, 1)

    def forward(self, source, shares, angles):
        x = self.colours(torch.cat([source, shares], 1))
        return torch.tanh(x + self.angles(angles)[..., None, None])


class Method(Redirector):
    def __init__(self, config, sampling):
        super().__init__()
        self.net = Net()

    @property
    def network(self):
        return self.net

    def losses(self, batch, phase, at):
        made = self._made(batch, batch)
        return {"loss": (made - batch["target"]).abs().mean()}

    def invert(self, source, *, seed):
        return dict(source)

    def edit(self, state, target, *, seed):
        return self._made(state, target)

    def _made(self, state, target):
        angles = torch.cat([target["target_gaze"], target["target_head"]], 1)
        known = state["source_masks_known"][:, None, None, None]
        shares = torch.where(known, state["source_masks"], 0)
        source = state["source"].expand(len(angles), -1, -1, -1)
        return self.net(source, shares.expand(len(angles), -1, -1, -1), angles)


def build(config, sampling):
    return Method(config, sampling)
"""


def write(folder, name, settings=SETTINGS, redirector=REDIRECTOR):
    """Write a method's package into a folder."""
    place = folder / name
    place.mkdir(parents=True)
    (place / "__init__.py").touch()
    (place / "settings.py").write_text(settings.replace("NAME", name))
    (place / "redirector.py").write_text(redirector)
    return place


def beside(monkeypatch, folder):
    """Let the methods of a folder be found as if they lay beside the others."""
    path = [*regaze.redirectors.__path__, str(folder)]
    monkeypatch.setattr(regaze.redirectors, "__path__", path)


def forget(prefix):
    """Forget modules, so that the next test's of the same names are read."""
    for name in [one for one in sys.modules if one == prefix or one.startswith(f"{prefix}.")]:
        del sys.modules[name]


def install(monkeypatch, folder, package, names, version="1.2", **sources):
    """Write a distribution of methods into a folder of ``sys.path``, as an installer would."""
    for name in names:
        write(folder / package, name, **sources)
    (folder / package / "__init__.py").touch()
    about = folder / f"{package}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    points = [f"{name} = {package}.{name}" for name in names]
    (about / "entry_points.txt").write_text("\n".join(["[regaze.methods]", *points, ""]))
    monkeypatch.syspath_prepend(str(folder))
    look_again()


def look_again():
    """Let distributions that came and went be noticed."""
    regaze.methods._outer.cache_clear()
    regaze.methods._below.cache_clear()
