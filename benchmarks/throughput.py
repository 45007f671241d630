"""Training of this tree against another one's: CPU seconds per image of one thread, in turn.

    git worktree add --detach ../old bb447d8
    OMP_NUM_THREADS=1 python benchmarks/throughput.py --against ../old --what xunet_lite sted

Each network of the embedded default is trained by each tree's own training loop, with its
optimiser and averages, by the batches that its ``config.yaml`` says, on pairs of noise held in
memory. The two processes take turns, one stretch of ``--images`` images each, so that a change of
the machine's load meets both; what is told are medians over ``--turns`` stretches, and the median
of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NETWORKS = ("xunet", "xunet_deca", "xunet_lite", "sted", "vgg", "resnet")
ROOT = Path(__file__).parents[1]
CODES = 156


class Noise:
    """The same pairs at every step; before each stretch of them it waits to be told to go on."""

    def __init__(self, batch, size: int, stretch: int):
        import torch

        draw = torch.Generator().manual_seed(0)
        self.stretch, self.began = stretch, 0.0
        names = ("source", "target", "image")
        shape = (batch, 3, size, size)
        self.pictures = {
            name: torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8) for name in names
        }
        angles = [f"{side}_{kind}" for side in ("source", "target") for kind in ("gaze", "head")]
        self.labels = {
            name: torch.rand(batch, 2, generator=draw) * 0.6 - 0.3
            for name in (*angles, "gaze", "head")
        }
        self.labels["source_code"] = torch.randn(batch, CODES, generator=draw)

    def load(self, step: int):
        """The pairs."""
        if step % self.stretch == 0:
            if step:
                print(time.process_time() - self.began, flush=True)
            if not sys.stdin.readline():
                raise SystemExit("stopped: nobody asks for more")
            self.began = time.process_time()
        return self.pictures | self.labels

    def finish(self, batch):
        """Pictures from -1 to 1."""
        made = dict(batch)
        for name in self.pictures:
            made[name] = batch[name].float() * (2 / 255) - 1
        return made


def work(name: str, images: int, turns: int) -> None:
    """Train network ``name`` of the tree that is imported, a stretch at a time."""
    import torch
    import yaml

    from regaze.redirectors.base import build_redirector
    from regaze.training.loop import train
    from regaze.training.settings import TrainSettings

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = yaml.safe_load(Path("config.yaml").read_text(encoding="utf-8"))
    if name in config["estimators"]:
        from regaze.estimators.build import build_estimator
        from regaze.estimators.objective import EstimatorTask

        entry = config["estimators"][name]
        network = build_estimator(entry["arch"], entry["preset"], entry["size_px"])
        task = EstimatorTask(network, entry["loss"])
    else:
        entry = config["models"][name]
        if entry["class"] == "sted":
            from regaze.redirectors.sted.settings import ModelSettings
        else:
            from regaze.redirectors.xunet.settings import ModelSettings
        told = {key: value for key, value in entry.items() if key not in ("sampling", "train")}
        task = build_redirector(ModelSettings(**told).resolve())
    batch = entry["train"]["batch"]
    stretch = -(-images // batch)
    settings = TrainSettings(
        **entry["train"]
        | {
            "images": (turns * stretch + 1) * batch,
            "tensorboard": False,
            "log_every_images": 10**9,
            "state_every_images": 10**9,
        }
    )
    with tempfile.TemporaryDirectory() as state:
        noise = Noise(batch, entry["size_px"], stretch)
        train(task, lambda rank, world: noise, settings, seed=0, state=state, config={})


def compare(name: str, trees: list[Path], images: int, turns: int) -> str:
    """Train ``name`` in turn in both trees; a row of the table."""
    running = []
    for tree in trees:
        environment = os.environ | {"PYTHONPATH": str(tree.resolve() / "src")}
        command = [sys.executable, str(Path(__file__).resolve()), "--work", name]
        command += ["--images", str(images), "--turns", str(turns + 1)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, cwd=tree, env=environment, **pipes))
    spent: list[list[float]] = [[], []]
    for _ in range(turns + 1):
        for one, seconds in zip(running, spent, strict=True):
            one.stdin.write("go\n")
            one.stdin.flush()
            seconds.append(float(next(line for line in one.stdout if not line[:1].isalpha())))
    for one in running:
        one.communicate()
        if one.returncode:
            raise SystemExit(f"{name}: training ended with status {one.returncode}")
    ours, theirs = (seconds[1:] for seconds in spent)  # the first stretch warms up
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    told = [f"{1000 * statistics.median(one) / images:.1f}" for one in (theirs, ours)]
    return f"| `{name}` | {told[0]} | {told[1]} | {ratio:.2f} |"


def main() -> None:
    """Print a row per network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, default=ROOT, help="a tree of another version")
    parser.add_argument("--what", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--images", type=int, default=64, help="per stretch, of whole batches")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--work", choices=NETWORKS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.images, given.turns)
        return
    print(f"load {os.getloadavg()[0]:.1f}; CPU ms per image: theirs, ours, ratio", flush=True)
    for name in given.what:
        print(compare(name, [ROOT, given.against], given.images, given.turns), flush=True)


if __name__ == "__main__":
    main()
