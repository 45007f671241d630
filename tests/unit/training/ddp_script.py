"""A training that the tests of several processes start; a script as those of the rules."""

import os
import signal
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from regaze.jobs import start
from regaze.outputs import write_json
from regaze.training.draws import whole_batch
from regaze.training.launch import launch
from regaze.training.loop import train
from regaze.training.phases import Phase
from regaze.training.settings import TrainSettings


class Net(nn.Module):
    """Convolutions, dropout, attention-free; a branch that no loss uses."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.norm, self.unused = nn.GroupNorm(2, 8), nn.Linear(2, 2)

    def forward(self, x):
        return self.second(F.dropout(F.silu(self.norm(self.first(x))), 0.2, self.training))


class Denoising:
    """Draws of every kind in its loss, and a stratified one that depends on the whole batch."""

    def __init__(self, act=None, at=None):
        torch.manual_seed(0)
        self.network, self.act, self.at, self.calls = Net(), act, at, 0

    def phases(self):
        return [
            Phase("a", list(self.network.parameters())),
            Phase("b", [self.network.second.weight]),
        ]

    def losses(self, batch, phase, at):
        generator = at.generator
        self.calls += 1
        if self.act and self.calls == self.at:
            self.act()
        x, count = batch["x"], len(batch["x"])
        whole, mine = whole_batch(count)
        shift = torch.rand((), generator=generator)
        order = torch.randperm(whole, generator=generator)
        level = ((torch.arange(whole) / whole + shift) % 1)[order][mine][:, None, None, None]
        noise = torch.randn(x.shape, generator=generator)
        noise = noise + 0.1 * torch.randn_like(x) + 0.1 * torch.rand(count, 1, 1, 1)
        noise = noise + 0.1 * torch.randint(0, 2, (count, 1, 1, 1), generator=generator)
        noise = noise + 0.1 * torch.empty_like(x).uniform_(generator=generator)
        error = self.network(x + level * noise) - x
        return {"loss": (error**2).mean(), "size": error.abs().mean()}


def xunet():
    """The smallest X-UNet, with dropout."""
    from regaze.redirectors.base import build_redirector
    from regaze.redirectors.xunet.settings import ModelSettings

    torch.manual_seed(0)
    changes = {"preset": "tiny", "size_px": 32, "network": {"dropout": 0.1}}
    objective = {"parameterization": "eps", "noise": "uniform_t", "base": "none"}
    settings = ModelSettings(**{"class": "xunet", "objective": objective} | changes)
    return build_redirector(settings.resolve())


class Pairs:
    """Pairs of noise with angles, by position."""

    def __init__(self, batch, rank, world):
        self.batch, self.first, self.stride = batch, rank * batch, world * batch

    def load(self, step):
        rows = []
        for position in range(self.batch):
            seed = step * self.stride + self.first + position
            one = torch.Generator().manual_seed(seed)
            row = {name: torch.rand(3, 32, 32, generator=one) for name in ("source", "target")}
            for name in ("source_gaze", "target_gaze", "source_head", "target_head"):
                row[name] = torch.rand(2, generator=one) * 0.6 - 0.3
            rows.append(row)
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def finish(self, batch):
        return batch


class Pictures:
    """Pictures by position; processes take consecutive parts of a batch."""

    def __init__(self, batch, rank, world):
        self.batch, self.rank, self.world = batch, rank, world

    def load(self, step):
        first = (step * self.world + self.rank) * self.batch
        each = [torch.Generator().manual_seed(first + place) for place in range(self.batch)]
        return {"x": torch.stack([torch.rand(3, 6, 6, generator=one) for one in each])}

    def finish(self, batch):
        return batch


def main(job):
    start(job)
    torch.set_num_threads(1)
    settings = TrainSettings(**job.params.config["train"])
    rank, act = int(os.environ.get("RANK", 0)), None
    if job.params.get("act") == "fail" and rank == 1:

        def act():
            raise ValueError("the second process has had enough")
    elif job.params.get("act") == "sigterm":

        def act():
            if rank == 0:
                os.kill(int(job.params["launcher"]), signal.SIGTERM)

    toy = job.params.get("network") != "xunet"
    source = Pictures if toy else Pairs
    weights, curve = train(
        Denoising(act, job.params.get("at")) if toy else xunet(),
        lambda rank, world: source(settings.batch // world, rank, world),
        settings,
        seed=3,
        state=job.params.state,
        config=job.params.config,
    )
    Path(job.output.model).parent.mkdir(exist_ok=True)
    torch.save(weights, job.output.model)
    write_json(
        job.output.curve,
        {"rank": rank, "loss": [row.get("a/loss", row.get("loss")) for row in curve]},
    )


if "snakemake" in globals():
    launch(main, snakemake)  # noqa: F821
