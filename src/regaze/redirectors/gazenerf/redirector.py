"""Radiance fields as redirectors: a head is fitted to its source, then drawn from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from regaze.angles import angular_error
from regaze.redirectors.base import Batch, Redirector, State
from regaze.redirectors.gazenerf.adversary import PatchDiscriminator, judged, taken_for_real, warm
from regaze.redirectors.gazenerf.checkpoints import read_checkpoint
from regaze.redirectors.gazenerf.field import HeadField
from regaze.redirectors.gazenerf.fit import borrowed, fitted, tuned
from regaze.redirectors.gazenerf.heads import Head, Learnt, offsets_of, sizes_of
from regaze.redirectors.gazenerf.objective import Objective, Photos, displaced, source_photos
from regaze.redirectors.gazenerf.parts import Prepared
from regaze.redirectors.gazenerf.perceptual import FeatureDistance, Vgg16Distance
from regaze.redirectors.gazenerf.published import read_codes
from regaze.redirectors.gazenerf.rays import Camera, Window, gaze_in_head, patch_camera
from regaze.redirectors.gazenerf.settings import CODE_PARTS
from regaze.training.phases import Phase, Progress
from regaze.weights import load_strictly

_SAME_HEAD = 0.05
"""Radians of pitch and yaw within which two heads are the same."""
_BORDER = 2
"""Pixels of a part of the feature map at whose edge pictures are others than those of the whole."""
_FITTED_SAMPLES = 2**14
"""Samples on rays of sources that are fitted at a time; one source may have more."""


class GazeNerf(Redirector):
    """See :mod:`regaze.redirectors.gazenerf`."""

    def __init__(self, config: Mapping, sampling: Mapping):
        super().__init__()
        self.config, self.sampling, own = config, sampling, config["network"]
        self.variant, self.sizes = config["variant"], sizes_of(own)
        self.objective = Objective(**config["objective"])
        same = ("side", "channels", "hidden", "samples", "fine", "gaze_dim", "near_points")
        same += ("gaze_columns", "gaze_share", "directions", "white", "recompute")
        same += ("bands", "near", "far", "gaze_scale", "gain")
        field = HeadField(
            self.variant,
            size_px=config["size_px"],
            shape=sum(self.sizes[:2]),
            appearance=sum(self.sizes[2:]),
            **{name: own[name] for name in same},
        )
        encoded = config["encoder"] is not None and "checkpoint" not in config
        self.encoded = encoded
        self.net = nn.ModuleDict({"head": Head(field, self.sizes, encoded, own["spread"])})
        if self.objective.adversarial and "checkpoint" not in config:
            self.net["adversary"] = PatchDiscriminator()
        self._estimator: list[nn.Module] = []
        self._seen: list[nn.Module] = []

    @property
    def network(self) -> nn.Module:
        """Field, offsets of the training pictures, and the discriminator if there is one."""
        return self.net

    @property
    def saved(self) -> Head:
        """The field and the spread of codes."""
        return self.net["head"]

    @property
    def field(self) -> HeadField:
        """The field."""
        return self.saved.field

    def attach(self, networks: Mapping[str, nn.Module]) -> None:
        """Take the training estimator.

        Raises:
            ValueError: it reads pictures of another size.
        """
        if (estimator := networks.get("estimator")) is None:
            return
        found = estimator.size_px, estimator.preprocess
        if found != (wanted := (self.config["size_px"], "none")):
            raise ValueError(
                f"training estimator: size_px, preprocess: expected {wanted}, found {found}"
            )
        self._estimator = [estimator]

    def fit_rows(self, count: int) -> None:
        """Make room for what is learnt of every picture; read VGG-16 where it is compared by."""
        if self.objective.offsets:
            self.net["learnt"] = Learnt(count, self.sizes)
        if self.objective.perceptual or self.objective.perceptual_parts:
            path = self.config["vgg16"]
            self._seen = [
                FeatureDistance(self._estimator[0]) if path is None else Vgg16Distance.read(path)
            ]

    def fit_input(self, kind: str, values: Batch) -> None:
        """Learn the spread of codes; masks are read from disk."""
        self.saved.standardise(values["code"])

    def phases(self) -> list[Phase]:
        """The field with its offsets, after what judges it."""
        made = [*self.field.parameters()]
        if self.objective.offsets:
            made += self.net["learnt"].parameters()
        main = Phase("field", [one for one in made if one.requires_grad])
        if "adversary" not in self.net:
            return [main]
        judge = list(self.net["adversary"].parameters())
        return [Phase("adversary", judge, {"weight_decay": 1e-4}), main]

    # Training.

    def losses(self, batch: Batch, phase: str, at: Progress) -> dict[str, Tensor]:
        """Terms of a phase; ``loss`` is minimised."""
        if phase == "adversary":
            with torch.no_grad():
                made, photos, _ = self._drawn(batch, at)
            judge = self.net["adversary"]
            real = photos.cleared(photos.head)
            return {"loss": judged(judge(real), judge(made["image"]))}
        made, photos, offsets = self._drawn(batch, at)
        terms = self.objective.terms(made, photos)
        if offsets is not None:
            terms |= self.objective.offset_terms(offsets)
        if self._seen:
            terms |= self.objective.seen_terms(made, photos, self._seen[0])
        if self.objective.angular:
            terms["angular"] = self._angular(made["image"], photos)
        total = self.objective.total(terms)
        if self.objective.adversarial:
            terms["adversarial"] = taken_for_real(self.net["adversary"], made["image"])
            grown = warm(at.images, self.objective.adversarial_images)
            total = total + min(self.objective.adversarial, grown) * terms["adversarial"]
        return {"loss": total, **{name: value.detach() for name, value in terms.items()}}

    def validation_loss(self, batch: Batch, at: Progress) -> Tensor:
        """Squared colours of targets inside their heads, drawn with the source's own codes."""
        codes = self._codes(batch, "source")
        camera = self._camera(batch["target_head"])
        heads = self._prepared(camera, codes)
        made = self.field(heads, self._gaze(batch), eyes=self._eyes(batch))["image"]
        photos = self._photos(batch)
        return ((made - photos.image).square() * photos.head).sum() / photos.head.sum().clamp(min=1)

    def _drawn(self, batch: Batch, at: Progress):
        """Pictures of targets, what they are compared with, and offsets, in a window if so told."""
        objective, gaze, count = self.objective, self._gaze(batch), len(batch["target"])
        owner = "target" if objective.codes == "own" else "source"
        codes, moved = self._codes(batch, owner), None
        if objective.offsets:
            moved = self.net["learnt"](batch[f"{owner}_row"], batch["target_row"])
            codes = codes + moved[0]
        offsets = None if moved is None else offsets_of(*moved, self.sizes)
        camera = self._camera(batch["target_head"], None if moved is None else moved[1])
        window = self._window(at.generator)
        rays = self.field.side**2 if window is None else window.side**2
        draws = torch.rand(
            (count, rays, self.field.count + 1), generator=at.generator, device=gaze.device
        )
        heads = self._prepared(camera, codes, draws, window)
        asked = {"eyes": self._eyes(batch), "window": window, "names": objective.names()}
        if "template" in asked["names"]:
            noise = torch.randn(gaze.shape, generator=at.generator, device=gaze.device)
            asked["template"] = objective.template_noise * noise
        made = self.field(heads, gaze, **asked)
        if objective.displaced:
            other = displaced(gaze, at.generator)
            again = self.field(heads, other, **{**asked, "names": ("image",)})
            made["displaced"] = again["image"]
        photos = self._photos(batch)
        return *self._cut(made, photos, window), offsets

    def _window(self, generator: torch.Generator) -> Window | None:
        if not self.objective.crop:
            return None
        free = self.field.side - self.objective.crop + 1
        places = torch.randint(free, (2,), generator=generator, device=generator.device)
        return Window(*places.tolist(), self.objective.crop)

    def _cut(self, made: Mapping[str, Tensor], photos: Photos, window: Window | None):
        """Of pictures of a window, and of photos, what is inside of its border."""
        if window is None:
            return made, photos
        scale = self.config["size_px"] // self.field.side
        inner = window.side - 2 * _BORDER
        within = Window(_BORDER * scale, _BORDER * scale, inner * scale)
        left, top = ((one + _BORDER) * scale for one in (window.left, window.top))
        there = Window(left, top, inner * scale)
        calmer = photos.calmer and (there.cut(photos.calmer[0]), photos.calmer[1])
        photos = Photos(*map(there.cut, (photos.image, photos.head, photos.eyes)), calmer)
        return {name: within.cut(value) for name, value in made.items()}, photos

    def _photos(self, batch: Batch) -> Photos:
        image = (batch["target"] + 1) / 2
        head, eyes = (batch["target_masks"][:, number, None] >= 0.5 for number in (0, 1))
        source, gaze = batch["source_gaze"].abs().sum(1), batch["target_gaze"].abs().sum(1)
        still = (batch["source_head"] - batch["target_head"]).abs().amax(1) <= _SAME_HEAD
        calmer = ((batch["source"] + 1) / 2, still & (source < gaze))
        return Photos(image, head, eyes & head, calmer)

    def _angular(self, image: Tensor, photos: Photos) -> Tensor:
        read = self._estimator[0](2 * image - 1)[:, :2].float()
        with torch.no_grad():
            wanted = self._estimator[0](2 * photos.image - 1)[:, :2].float()
        return angular_error(read, wanted).mean()

    # What a field is told.

    def _codes(self, batch: Batch, side: str) -> Tensor:
        if (start := batch.get(f"{side}_start")) is not None:
            return start.float()
        if not self.encoded:
            row = batch["source_head" if side == "source" else "target_head"]
            return row.new_zeros(len(row), sum(self.sizes))
        return self.saved.codes(batch[f"{side}_code"], batch[f"{side}_codes_known"])

    def _eyes(self, batch: Batch) -> Tensor | None:
        """Shares of eyes (B,1,S,S) of sources; none where they are not known."""
        if self.variant != "headnerf_gaze":
            return None
        if "source_masks" not in batch:
            return batch["source"].new_zeros(len(batch["source"]), 1, *batch["source"].shape[2:])
        known = batch["source_masks_known"][:, None, None, None]
        eyes = batch["source_masks"][:, 1:2]
        return torch.where(known, eyes, torch.zeros_like(eyes))

    def _gaze(self, batch: Batch, side: str = "target") -> Tensor | None:
        gaze, head = batch[f"{side}_gaze"], batch[f"{side}_head"]
        if self.config["network"]["gaze_frame"] == "camera":
            return gaze
        with torch.autocast(gaze.device.type, enabled=False):
            return gaze_in_head(gaze.float(), head.float())

    def _camera(self, head: Tensor, offsets: Tensor | None = None) -> Camera:
        own = self.config["network"]
        given = {name: own[name] for name in ("focal", "distance", "unit")}
        with torch.autocast(head.device.type, enabled=False):
            camera = patch_camera(head.float(), self.field.side, **given)
            if offsets is None:
                return camera
            turn, shift = offsets.float().split(3, 1)
            return camera.refined(turn, shift[..., None])

    def _prepared(self, camera: Camera, codes: Tensor, *args) -> Prepared:
        return self.field.prepare(camera, *codes.tensor_split([sum(self.sizes[:2])], 1), *args)

    # Pictures.

    @property
    def code_parts(self) -> dict[str, int]:
        """See :class:`regaze.redirectors.base.Fitting`."""
        return dict(zip(CODE_PARTS, self.sizes, strict=True))

    def read_codes(self, path: str | os.PathLike) -> Tensor:
        """See :class:`regaze.redirectors.base.Fitting` and :func:`.published.read_codes`."""
        found = read_codes(path)
        codes, wanted = (found.shape, found.appearance), (sum(self.sizes[:2]), sum(self.sizes[2:]))
        if (lengths := tuple(one.shape[1] for one in codes)) != wanted:
            raise ValueError(
                f"{path}: expected codes of {wanted[0]} and {wanted[1]} numbers, of form and "
                f"colours, found {lengths[0]} and {lengths[1]}"
            )
        return torch.cat(codes, 1)

    def published_codes(self, state: State) -> Mapping:
        """HeadNeRF's container of codes, of one source."""
        form, colours = state["codes"].detach().cpu().tensor_split([sum(self.sizes[:2])], 1)
        return {"code": {"bg_code": None, "shape_code": form, "appea_code": colours}}

    def invert(self, source: Batch, *, seed: int) -> State:
        """See :meth:`fit`."""
        return self.fit(source, seed=seed)

    def fit(
        self, source: Batch, *, seed: int, told: Callable[[int, float], None] | None = None
    ) -> State:
        """Codes (B,D) and camera offsets (B,6) that draw sources best, and their eyes.

        A descent from the encoder's codes, of every source by its own loss; nothing is drawn at
        random, so ``seed`` does nothing. With ``fine_tune`` every source has weights (B,P) of its
        own too.

        Raises:
            ValueError: codes are not finite, or a camera looks away from the head.
        """
        start, gaze, eyes = (
            self._codes(source, "source"),
            self._gaze(source, "source"),
            self._eyes(source),
        )
        if not start.isfinite().all():
            row = int((~start.isfinite()).any(1).nonzero()[0])
            raise ValueError(f"codes: expected finite numbers, found others in source {row}")
        photos, camera = source_photos(source), source["source_head"]

        def drawing(own: slice):
            shown = {} if eyes is None else {"eyes": eyes[own]}

            def drawn(codes, offsets, names=("image",)):
                heads = self._prepared(self._camera(camera[own], offsets), codes)
                return self.field(heads, gaze[own], **shown, names=names)

            return drawn

        state = self._fitted(drawing, start, photos, told)
        if self.sampling.get("fine_tune", 0):
            state = self._tuned(drawing, state, photos, told)
        return state if eyes is None else {**state, "eyes": eyes}

    def _fitted(self, drawing, start: Tensor, photos: Photos, told) -> State:
        """Codes and cameras, of several sources at a time."""
        options = {name: self.sampling[name] for name in ("steps", "rate") if name in self.sampling}
        samples = self.field.side**2 * (self.field.count + self.field.fine)
        most, found = max(1, _FITTED_SAMPLES // samples), []
        for first in range(0, len(start), most):
            own = slice(first, first + most)
            drawn = drawing(own)
            found.append(
                fitted(
                    lambda *given, drawn=drawn: drawn(*given)["image"],
                    *(start[own], photos.of(own), self.sizes),
                    **options,
                    told=told,
                )
            )
        return dict(zip(("codes", "camera"), map(torch.cat, zip(*found, strict=True)), strict=True))

    def _tuned(self, drawing, state: State, photos: Photos, told) -> State:
        """The same and weights (B,P) that every source has of its own."""
        terms, before = self.objective.alone(), self.sampling["steps"]
        found = []
        for row in range(len(state["codes"])):
            own = slice(row, row + 1)
            drawn = drawing(own)
            codes, camera, weights = tuned(
                list(self.field.parameters()),
                lambda *given, drawn=drawn: drawn(*given, terms.names()),
                *((state["codes"][own], state["camera"][own]), photos.of(own), self.sizes, terms),
                steps=self.sampling["fine_tune"],
                rate=self.sampling["fine_tune_rate"],
                told=told and (lambda step, loss: told(before + step, loss)),
            )
            found.append((codes, camera, weights[None]))
        names = ("codes", "camera", "weights")
        return dict(zip(names, map(torch.cat, zip(*found, strict=True)), strict=True))

    def edit(self, state: State, target: Batch, *, seed: int) -> Tensor:
        """Heads as they look where they are asked to; ``seed`` does nothing.

        What does not depend on the gaze is computed once for all pictures of the same head.
        ``target_roll`` (B,) radians turns the camera about the way it looks, clockwise.
        """
        count, gaze = len(target["target_head"]), self._gaze(target)
        head = target["target_head"].float()
        roll = target.get("target_roll", head.new_zeros(count))
        known = (state[name].expand(count, -1) for name in ("codes", "camera"))
        rows = torch.cat([*known, head, roll.float()[:, None]], 1)
        heads, of = rows.unique(dim=0, return_inverse=True)
        made = rows.new_empty(count, 3, self.config["size_px"], self.config["size_px"])
        for number, one in enumerate(heads.split(1)):
            codes, offsets, head, roll = one.split((sum(self.sizes), 6, 2, 1), 1)
            asked = (of == number).nonzero()[:, 0]
            camera = self._camera(head, offsets).rolled(roll[:, 0])
            eyes = state.get("eyes")
            if eyes is not None:
                eyes = eyes.expand(count, -1, -1, -1)[asked]
            with self._weights(state, int(asked[0])):
                prepared = self._prepared(camera, codes)
                shown = self.field(prepared, gaze[asked], eyes=eyes, of=torch.zeros_like(asked))
            made[asked] = shown["image"].float()
        return (2 * made - 1).clamp(-1, 1)

    def _weights(self, state: State, row: int):
        """A block in which the field has the weights of a row, if rows have their own."""
        if (weights := state.get("weights")) is None:
            return nullcontext()
        return borrowed(list(self.field.parameters()), weights[min(row, len(weights) - 1)])

    def bytes_per_image(self, weights: int = 1) -> int:
        """About how much memory a picture takes: the rays' weights, maps and the last layers.

        And the source's own weights, where it has some.
        """
        own, size = self.config["network"], self.config["size_px"]
        rays = own["side"] ** 2 * (own["samples"] + own["fine"]) * 4 * len(self.field.streams)
        tuned = self.sampling.get("fine_tune", 0) > 0
        held = sum(one.numel() for one in self.field.parameters()) if tuned else 0
        return 4 * (rays + size**2 * 256 + held)

    def describe_sampling(self) -> dict[str, str | float | int]:
        """The fit's steps, and how fast it goes."""
        return {"sampler": "fit", "guidance": 0.0, **self.sampling}

    # Published weights.

    def read_reference(self, path: str) -> Mapping:
        """See :func:`regaze.redirectors.gazenerf.checkpoints.read_checkpoint`."""
        return read_checkpoint(path, self.config)

    def reference_state(self) -> Mapping:
        """The field's own weights."""
        return self.field.state_dict()

    def load_reference(self, state: Mapping[str, Tensor], config: Mapping) -> None:
        """Load a published field.

        Raises:
            ValueError: keys are missing or unexpected, or shapes differ; all are listed.
        """
        load_strictly(self.field, state)


def build(config: dict, sampling: dict) -> GazeNerf:
    """Build the redirector of a resolved configuration."""
    return GazeNerf(config, sampling)
