"""A student that makes in one to four steps what a trained X-UNet makes in many.

The teacher's deterministic sampler maps a noisy start to a picture. Its path is cut into as many
parts as the student has steps, and each step of the student is regressed on where the teacher
arrives at the end of that part, with targets made anew for every batch::

    z = start, or data + sigma n within the path      the teacher runs from sigma to sigma'
    x~ = (z' - (sigma'/sigma) z) / (1 - sigma'/sigma)  loss = w |D(z, sigma) - x~|^2

x~ is the estimate with which one Euler (DDIM) step lands on the teacher's z'. This is the
regression of Salimans & Ho 2022 (progressive distillation), without its halvings in between:
with one step it is Luhman & Luhman 2021, with several one round of Salimans & Ho whose teacher
takes more than two steps per step of the student. The teacher's guidance is folded in as in
Meng et al. 2023 (on distillation of guided diffusion models), for one fixed weight.

Why not consistency distillation (Song et al. 2023), which needs two evaluations of the teacher at
most per step of training: its targets are the student's own estimates, wrong at first, and reach
the noisy end only after many updates, while here the first step already sees the teacher's
pictures. A teacher of the embedded run takes two steps, so nothing would be saved there. Halvings
pay where a guided teacher of many steps is far too dear to be run within training; per image of
training the teacher costs ``teacher_steps / steps`` evaluations forwards, twice with guidance.

A student that starts at random may have any network with the teacher's conditioning, so one that
is small enough to answer at once on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from regaze.diffusion.guidance import guided
from regaze.diffusion.noise import image_noise
from regaze.diffusion.samplers import euler, evaluations, sample
from regaze.diffusion.schedules import karras_sigmas
from regaze.redirectors.base import Batch, Progress, State
from regaze.redirectors.xunet.objective import SOURCE_LOGSNR
from regaze.redirectors.xunet.redirector import XUNetRedirector
from regaze.redirectors.xunet.sampling import NOISE
from regaze.redirectors.xunet.settings import teacher_faults
from regaze.weights import load_strictly

Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class XUNetStudent(XUNetRedirector):
    """An X-UNet that learns a teacher's sampler; its few steps are a part of the model.

    Args:
        config: resolved configuration with ``distil``; see
            :class:`regaze.redirectors.xunet.settings.DistilSettings`.
        sampling: options of sampling, of which it uses ``precision`` alone.
    """

    def __init__(self, config: dict, sampling: dict):
        super().__init__(config, {**sampling, "guidance": 0.0})
        self.options = config["distil"]
        self._teacher: list[XUNetRedirector] = []
        grid = karras_sigmas(
            self.options["teacher_steps"], self.options["sigma_min"], self.options["sigma_max"]
        )
        self.grid = [float(sigma) for sigma in grid]

    @property
    def stride(self) -> int:
        """Steps of the teacher per step of the student."""
        return self.options["teacher_steps"] // self.options["steps"]

    def attach(self, networks: Mapping[str, nn.Module]) -> None:
        """Take the teacher, and its weights where the student starts from them.

        Raises:
            ValueError: not one that this student can learn from; all reasons are listed.
        """
        super().attach(networks)
        teacher = networks.get("teacher")
        if teacher is None:
            return
        faults = teacher_faults(self.config, teacher.config)
        if faults:
            raise ValueError("; ".join(faults))
        if self.options["start"] == "teacher":
            load_strictly(self.net, teacher.network.state_dict())
        # In a list, so that it is no submodule: neither trained, averaged nor saved.
        self._teacher = [teacher.eval().requires_grad_(False)]

    def fit_input(self, kind: str, values: Batch) -> None:
        """Keep the codes' statistics; those of the teacher where its weights are taken."""
        if self.options["start"] == "random":
            super().fit_input(kind, values)

    def losses(self, batch: Batch, phase: str, at: Progress) -> dict[str, torch.Tensor]:
        """The error of one step of the student against the teacher's steps in its place.

        Raises:
            ValueError: no teacher was attached.
        """
        if not self._teacher:
            name = self.options["teacher"]
            raise ValueError(f"distil.teacher: expected {name!r}, found none attached")
        source = batch["source"]
        count, device, generator = len(source), source.device, at.generator
        noise = torch.randn(source.shape, generator=generator, device=device)
        blank = torch.randn(source.shape, generator=generator, device=device)
        part = int(torch.rand((), generator=generator, device=device) * self.options["steps"])
        sigmas = self.grid[part * self.stride : (part + 1) * self.stride + 1]
        inputs = self._inputs(batch)
        # Later steps begin on noised data, as the teacher was trained; the first where it samples.
        start = batch["target"] + sigmas[0] * noise if part else self._start(inputs, noise)
        with torch.no_grad():
            denoise = self._guided(batch, blank)
            end = sample(self.options["sampler"], denoise, start, sigmas)
            ratio = sigmas[-1] / sigmas[0]
            wanted = (end - ratio * start) / (1 - ratio)
        sigma = torch.full((count,), sigmas[0], device=device)
        keep = torch.ones(count, dtype=torch.bool, device=device)
        network = self._network(inputs, keep)
        estimate = self.objective.denoise(network, start, sigma, inputs.get("base"))
        return {"loss": self.objective.loss(estimate, wanted, sigma, self._weight(sigma))}

    def _weight(self, sigma: torch.Tensor) -> torch.Tensor:
        """Weights (B,) of squared image errors.

        Of the network's output as in other trainings, but for ``eps``: its SNR weight vanishes at
        the first step, where a student decides most (Salimans & Ho 2022, section 4); SNR + 1.
        """
        precondition = self.objective.precondition
        if precondition.kind == "eps":
            return 1 + sigma**-2
        return precondition.image_weight(sigma)

    def _start(self, inputs: dict[str, torch.Tensor], noise: torch.Tensor) -> torch.Tensor:
        first = self.grid[0] * noise
        return inputs["base"] + first if "base" in inputs else first

    def _guided(self, batch: Batch, blank: torch.Tensor) -> Denoiser:
        """The teacher's denoiser; ``blank`` (B,3,H,W) is the source of its unguided half."""
        teacher, weight = self._teacher[0], self.options["guidance"]
        inputs = teacher._inputs(batch)
        conditioned = _denoiser(teacher, inputs, True)
        if weight == 0:
            return conditioned
        unconditioned = _denoiser(teacher, {**inputs, "x": blank}, False)
        return lambda z, sigma: guided(conditioned(z, sigma), unconditioned(z, sigma), weight)

    def edit(self, state: State, target: Batch, *, seed: int) -> torch.Tensor:
        """Pictures in the student's own steps; see :class:`regaze.redirectors.base.Redirector`."""
        branch = self.sampler.branch(state, target)
        source = branch.inputs["x"]
        noise = target.get(NOISE)
        if noise is None:
            noise = image_noise(seed, target["pair"].tolist(), source.shape[1:]).to(source.device)
        network = self._network(branch.inputs, None, branch.prepared)
        base = branch.inputs.get("base")

        def denoise(z, sigma):
            return self.objective.denoise(network, z, sigma, base).clamp(-1, 1)

        sigmas = self.grid[:: self.stride]
        # As what its branch holds was computed.
        with self.sampler.autocast():
            return euler(denoise, self._start(branch.inputs, noise), sigmas).clamp(-1, 1)

    def record_path(self, state: State, target: Batch, *, seed: int) -> torch.Tensor:
        """The pictures alone: few steps are not worth recording."""
        return self.edit(state, target, seed=seed)[None]

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        """The noise that pictures start from."""
        return {NOISE: (3, self.config["size_px"], self.config["size_px"])}

    def evaluations_per_image(self) -> int:
        """One per step: guidance is learnt."""
        return self.options["steps"]

    def describe_sampling(self) -> dict[str, str | float | int]:
        """Its own steps, and what of the teacher they stand for."""
        once = evaluations(self.options["sampler"], self.options["teacher_steps"])
        return {
            "sampler": "distilled",
            "steps": self.options["steps"],
            "sigma_min": self.options["sigma_min"],
            "sigma_max": self.options["sigma_max"],
            "guidance": 0.0,
            "teacher": self.options["teacher"],
            "teacher_guidance": self.options["guidance"],
            "teacher_evaluations": once * (2 if self.options["guidance"] > 0 else 1),
        }


def _denoiser(redirector: XUNetRedirector, inputs: dict, conditioned: bool) -> Denoiser:
    """A denoiser of noisy images, with what does not depend on them computed once."""
    count, device = len(inputs["x"]), inputs["x"].device
    keep = torch.full((count,), conditioned, dtype=torch.bool, device=device)
    levels = torch.full((count, 2), SOURCE_LOGSNR, device=device)
    prepared = redirector.net.prepare({**inputs, "z": inputs["x"], "logsnr": levels}, keep)
    network = redirector._network(inputs, keep, prepared)

    def denoise(z, sigma):
        return redirector.objective.denoise(network, z, sigma, inputs.get("base")).clamp(-1, 1)

    return denoise
