"""Images per second of the training loop itself, on this machine, without loading from files.

    python benchmarks/training_speed.py --preset modern --size 64 --batch 128 --compile

Pairs are noise held in memory; everything else is the loop of a real training: the network of the
preset in the training precision, optimiser, averages. The first half of the steps is not counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import torch

from regaze.redirectors.base import build_redirector
from regaze.redirectors.xunet.settings import ModelSettings
from regaze.training.loop import train
from regaze.training.settings import TrainSettings


class Noise:
    """The same pairs at every step, stored as uint8 pictures are; notes when each is asked for."""

    def __init__(self, count: int, size: int, told: list[float]):
        generator = torch.Generator().manual_seed(0)
        self.told = told
        shape = (count, 3, size, size)
        self.batch = {
            side: torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
            for side in ("source", "target")
        }
        for name in ("source_gaze", "target_gaze", "source_head", "target_head"):
            self.batch[name] = torch.rand(count, 2, generator=generator) * 0.6 - 0.3

    def load(self, step: int) -> dict[str, torch.Tensor]:
        """The pairs."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.told.append(time.perf_counter())
        return self.batch

    def finish(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Pictures from -1 to 1."""
        done = dict(batch)
        for side in ("source", "target"):
            done[side] = batch[side].float() * (2 / 255) - 1
        return done


def measure(preset: str, size: int, batch: int, steps: int, **options) -> dict[str, float]:
    """Images per second and seconds until the first step had ended."""
    entry = {"class": "xunet", "preset": preset, "size_px": size}
    torch.manual_seed(0)
    redirector = build_redirector(ModelSettings(**entry).resolve())
    settings = TrainSettings(
        images=steps * batch,
        batch=batch,
        tensorboard=False,
        log_every_images=10**9,
        state_every_images=10**9,
        **options,
    )
    told: list[float] = []
    with tempfile.TemporaryDirectory() as state:
        train(
            redirector,
            lambda rank, world: Noise(batch, size, told),
            settings,
            seed=0,
            state=state,
            config={},
        )
    half = len(told) // 2
    rate = batch * (len(told) - 1 - half) / (told[-1] - told[half])
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    return {"images_per_second": rate, "first_step": told[1] - told[0], "gpu_gib": memory}


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true")
    given = vars(parser.parse_args())
    torch.set_num_threads(1)
    found = measure(**given)
    told = " ".join(f"{key} {value}" for key, value in given.items())
    print(f"{told}: " + ", ".join(f"{key} {value:.4g}" for key, value in found.items()))


if __name__ == "__main__":
    main()
