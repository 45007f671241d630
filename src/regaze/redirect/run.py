"""Redirect faces with a trained model, paste them back, and say what was done."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from regaze.angles import angular_error
from regaze.estimators.base import GazeHeadEstimator, estimate
from regaze.estimators.preprocess import prepare
from regaze.estimators.quality import PARTS, blind, warn_of_blind
from regaze.images import reduce_patches, to_uint8
from regaze.landmarks.gaze import Unreadable
from regaze.outputs import replacing
from regaze.provenance import fingerprint
from regaze.redirect.adjust import Adjustment
from regaze.redirect.angles import Request
from regaze.redirect.fits import Fits, Told
from regaze.redirect.looks import SOURCES, Looks, agreed
from regaze.redirect.one_eye import one_eye, only_there
from regaze.redirect.paste import Motion, eye_mask, face_mask, paste, window_mask
from regaze.redirect.place import Place
from regaze.redirect.wplus import generator_of, read_code
from regaze.redirectors.base import CodeEditor, Fitting, Moves, Moving, State
from regaze.redirectors.batches import BatchBuilder
from regaze.redirectors.declaration import declared_by
from regaze.redirectors.inputs import maker_of
from regaze.redirectors.patches import read_patches
from regaze.redirectors.sample import channels_last, chunk_size, load_redirector
from regaze.views import why_another
from regaze.weights import models_folder

log = logging.getLogger("regaze.redirect")

FITS = "fits"
"""Folder of fits below the folder of results, beside the folder of models."""
_SAME_HEAD = np.radians(0.5)
"""Largest turn of a head that keeps its outline where it is."""


@dataclass(frozen=True, eq=False)
class Result:
    """One redirected picture of a face.

    Attributes:
        patch: (S, S, 3) uint8 RGB at the model's size.
        pasted: (H, W, 3) uint8 RGB, None without a photo.
        facts: degrees asked for and measured.
    """

    patch: np.ndarray
    pasted: np.ndarray | None
    facts: dict


@dataclass(frozen=True, eq=False)
class Inverted:
    """A face as a model knows it.

    Attributes:
        state: of :meth:`regaze.redirectors.base.Redirector.invert`.
        source, builder: the batch of the face, and what makes batches of targets.
        gaze, gaze_from: (2,) radians, and where it is from.
        made_from: where the model's inputs are from, by kind.
        code: (rows, numbers) float32, the W+ code; None where nobody asked or the model has none.
        picture: (S, S, 3) uint8, what the generator makes of it; None likewise.
    """

    state: State
    source: dict
    builder: BatchBuilder
    gaze: np.ndarray
    gaze_from: str
    made_from: dict
    code: np.ndarray | None = None
    picture: np.ndarray | None = None


class Redirection:
    """A trained redirector with an estimator, ready for faces.

    Args:
        folder: model folder.
        sampling: options of sampling, the workflow's and the entry's.
        estimator: for the gaze of faces without labels, and to measure what came out; or None.
        device: ``auto``, ``cpu`` or ``cuda``.
        published: files of published 3-D encoders, see
            :class:`regaze.redirect.codes.SourceCodes`.
        match_colours: see :class:`regaze.redirect.adjust.Adjustment`; None: unless the model learnt
            from pictures of changed colours.
        read_gaze: one of :data:`regaze.redirect.looks.SOURCES`: what tells first where a face of a
            photo looks.
        options: of the same: what else is done to photos.

    Attributes:
        adjust: how faces of photos are adjusted to the model.
        read_in: the estimator's view, where it is another than the model's: then it reads photos,
            and no patches.

    Raises:
        FileNotFoundError, ValueError: the model cannot be loaded, or needs what a photo has not.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        sampling: Mapping,
        estimator=None,
        device: str = "auto",
        published: Mapping[str, Mapping[str, str]] | None = None,
        match_colours: bool | None = None,
        read_gaze: str = SOURCES[0],
        **options,
    ):
        if read_gaze not in SOURCES:
            raise ValueError(
                f"read-gaze: expected one of {', '.join(SOURCES)}, found {read_gaze!r}"
            )
        self._looks = Looks() if read_gaze == SOURCES[0] else None
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device: expected auto, cpu or cuda, found {device!r}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.redirector, self.record = load_redirector(folder, sampling, device)
        trained = read_patches(self.record, Path(folder) / "model.json")
        if match_colours is None:
            match_colours = not _saw_colours(self.record["config"])
        self.adjust = Adjustment(trained, match_colours=match_colours, **options)
        self.declaration = declared_by(self.record["config"]).making()
        self._makers = {}
        for one in self.declaration.inputs:
            maker = maker_of(one.kind)
            if maker is None:
                raise ValueError(
                    f"{folder}: this model also needs {one.kind} of the source, which `regaze "
                    "redirect` does not make; choose a model that does without"
                )
            identity = self.record["inputs"][one.kind]["identity"]
            self._makers[one.kind] = maker(one.options, folder, identity, published, device)
        channels_last(self.redirector)
        theirs = None if estimator is None else estimator.record.get("view")
        fault = why_another(self.view, theirs)
        self.read_in = theirs if fault else None
        if fault:
            log.warning(
                "the estimator knows faces in another view, pasted photos alone are measured: %s",
                fault,
            )
        if estimator is not None:
            warn_of_blind(log, estimator.record, "what it reads of that is left out")
        self.sampling, self.device, self.estimator = dict(sampling), device, estimator
        self.fingerprint = fingerprint(Path(folder) / "model.safetensors")
        self._fits = None
        if isinstance(self.redirector, Fitting):
            own = {**self.redirector.describe_sampling(), "seed": self.sampling.get("seed", 0)}
            self._fits = Fits(models_folder(folder).parent / FITS, self.fingerprint, own)

    @property
    def size_px(self) -> int:
        """Side of the model's pictures in pixels."""
        return int(self.record["config"]["size_px"])

    @property
    def turns_heads(self) -> bool:
        """Whether the model can be asked for a head direction."""
        return "head" in self.declaration.factors

    @property
    def view(self) -> dict[str, Any] | None:
        """The view of faces that the model was trained on, None where its record does not say."""
        return self.record.get("view")

    def describe(self) -> dict:
        """What decides the pictures: model, sampling, device, estimator."""
        estimator = None
        if self.estimator is not None:
            record = self.estimator.record
            held_out = record.get("held_out") or {}
            estimator = {"name": record.get("name"), "fingerprint": self.estimator.fingerprint}
            for name in ("gaze_deg", "gaze_pitch_slope", "gaze_yaw_slope"):
                estimator[f"held_out_{name}"] = held_out.get(name)
        return {
            "model": {"name": self.record["name"], "fingerprint": self.fingerprint},
            "sampling": self.redirector.describe_sampling(),
            "seed": self.sampling.get("seed", 0),
            "device": self.device,
            "estimator": estimator,
            "beyond": self.adjust.beyond,
        }

    def measure(self, patches: np.ndarray) -> np.ndarray | None:
        """Gaze and head (N, 4) radians of patches (N, h, w, 3) uint8, as the estimator sees them;
        None without one, or where it knows faces otherwise or reads larger pictures than these."""
        return None if self.read_in is not None else self._read(patches)

    def measure_photo(self, place: Place, photo: np.ndarray) -> np.ndarray | None:
        """Gaze and head (1, 4) radians of a face of a photo (H, W, 3) uint8, None as above."""
        if self.read_in is None:
            return self._read(place.matched(place.view.take(photo))[None])
        return None if place.reading is None else self._read(place.reading.take(photo)[None])

    def _read(self, patches: np.ndarray) -> np.ndarray | None:
        network = self.estimator
        if network is None or patches.shape[1] < network.size_px:
            return None
        return read_angles(network, patches)

    def source_gaze(self, place: Place, given: Sequence[float] | None) -> tuple[np.ndarray, str]:
        """Gaze (2,) radians of a face and where it is from: given (degrees), labels, read from the
        irises of a photo, or estimated.

        Raises:
            ValueError: none of these is possible.
        """
        if given is not None:
            return np.radians(np.asarray(given, np.float64)), "given"
        if np.isfinite(place.gaze).all():
            return place.gaze, "labels"
        seen = self.read_in is None or place.photo is None
        found = self.measure(place.shown[None]) if seen else self.measure_photo(place, place.photo)
        name = None if found is None else self.estimator.record.get("name")
        if self._looks is not None and place.per_mm is not None:
            try:
                reading = self._looks.of(place)
            except Unreadable as reason:
                log.info("%s: irises tell no gaze: %s", place.source, reason)
            else:
                known = None if found is None else (self.estimator.record.get("held_out") or {})
                error = known and known.get("gaze_deg")
                theirs = found[0, :2].astype(np.float64) if error else None
                gaze, both = agreed(reading, theirs, np.radians(error or 0.0))
                return gaze, f"irises and {name}" if both else "irises"
        if found is None:
            raise ValueError(
                f"{place.source}: the gaze of the source is unknown and no trained estimator was "
                "found beside the model: give --source-gaze PITCH YAW"
            )
        return found[0, :2].astype(np.float64), f"estimated by {name}"

    def redirect(
        self,
        place: Place,
        requests: Sequence[Request],
        *,
        source_gaze: Sequence[float] | None = None,
        mode: str = "difference",
        eyes: str = "both",
        batch: int | None = None,
        finish: Callable[[np.ndarray], np.ndarray | None] | None = None,
        inverted: Inverted | None = None,
    ) -> tuple[list[Result], dict]:
        """Redirect one face to several directions.

        Every picture is made from the same noise, so that a sweep moves the gaze alone.

        Args:
            place: the face.
            requests: where to.
            source_gaze: pitch, yaw in degrees, instead of labels or an estimate.
            mode: see :func:`regaze.redirect.paste.paste`.
            eyes: one of :data:`regaze.redirect.one_eye.EYES`: which of the person's own are
                changed; of one alone nothing is measured, for estimators read both.
            batch: pictures at a time, default as many as the section ``sampling`` allows; no
                influence on the result.
            finish: what becomes of a pasted photo once it is measured; large photos, for example,
                are shrunk here when many of them are held.
            inverted: of :meth:`invert`, where that is done already.

        Returns:
            The results in order, and what is known of the source.

        Raises:
            ValueError: a direction that cannot be used, or one eye of a face without landmarks or
                whose head turns.
        """
        if any(one.head is not None for one in requests) and not self.turns_heads:
            raise ValueError(
                f"head: expected no direction of the head, since {self.record['name']!r} moves "
                "eyes alone; choose another model for it"
            )
        side = one_eye(place, requests, eyes)
        known = inverted or self.invert(place, source_gaze)
        gaze = known.gaze
        targets, asked = [], []
        for request in requests:
            target, other = request.resolve(gaze, place.head), {}
            if place.faces is None:
                try:
                    *target, other = self.adjust.kept(request, *target)
                except ValueError as error:
                    raise ValueError(f"{place.source}: {error}") from None
            targets.append(target)
            asked.append(other)
        codes = [request.codes for request in requests]
        pictures, motions = self.edited(known, targets, batch, codes=codes)
        patches = to_uint8(pictures)
        measured = self.measure(patches) if side is None else None
        shown, levels = _levels(known.source["source"].cpu())[0], _levels(pictures)
        if place.colours is not None:
            levels, shown = self._restored(place, levels, shown)
            patches = np.rint(levels).astype(np.uint8)
        if side is not None:
            levels = only_there(levels, shown, side)
            patches = np.rint(levels).astype(np.uint8)
        results = []
        for number, (target_gaze, target_head) in enumerate(targets):
            facts = {
                "target_gaze_deg": np.degrees(target_gaze).tolist(),
                "target_head_deg": np.degrees(target_head).tolist(),
                **asked[number],
            }
            if measured is not None:
                facts["measured_patch"] = self._errors(measured[number], target_gaze, target_head)
            pasted = None
            if place.photo is not None and place.view is not None:
                turned = np.abs(target_head - place.head).max() > _SAME_HEAD
                size = place.view.patch_size
                if turned or place.landmarks is None:
                    mask, facts["mask"] = window_mask(size), "patch"
                else:
                    mask, facts["mask"] = face_mask(place.landmarks, size), "face"
                mask = mask if side is None else mask * side
                lids = None if place.landmarks is None else eye_mask(place.landmarks, size)
                motion = motions[number] if motions else None
                pasted = paste(
                    *(place.photo, place.view, shown, levels[number], mask, mode, lids, motion)
                )
                again = self.measure_photo(place, pasted) if side is None else None
                if again is not None:
                    facts["measured_photo"] = self._errors(again[0], target_gaze, target_head)
                if finish is not None:
                    pasted = finish(pasted)
            results.append(Result(patches[number], pasted, facts))
        about = {
            "source": place.source,
            "source_gaze_deg": np.degrees(gaze).tolist(),
            "source_gaze_from": known.gaze_from,
            "source_head_deg": np.degrees(place.head).tolist(),
            "eyes": eyes,
            **place.facts,
        }
        about |= {f"source_{kind}_from": where for kind, where in known.made_from.items()}
        return results, about

    def edited(
        self,
        known: Inverted,
        targets: Sequence,
        batch: int | None = None,
        *,
        roll: float = 0.0,
        codes: Sequence[Mapping[str, np.ndarray]] = (),
    ) -> tuple[torch.Tensor, list[Motion]]:
        """Pictures (n, 3, S, S) of targets (gaze, head), and how their pixels were moved, if so.

        ``roll``: radians by which a model that has a camera turns it; ``codes``: of other factors,
        of each target.
        """
        made, motions, seed = [], [], self.sampling.get("seed", 0)
        batch = batch or chunk_size(self.redirector, {"batch": "auto", **self.sampling})
        with torch.no_grad():
            for start in range(0, len(targets), batch):
                labels = np.array(targets[start : start + batch], np.float32).reshape(-1, 4)
                nobody = np.full(len(labels), -1)
                wanted = known.builder.load("target", nobody, labels, picture=False)
                wanted["pair"] = torch.zeros(len(labels), dtype=torch.int64)
                wanted |= _told(codes[start : start + batch])
                if roll:
                    wanted["target_roll"] = torch.full((len(labels),), roll)
                wanted = known.builder.finish({k: v.to(self.device) for k, v in wanted.items()})
                if isinstance(self.redirector, Moving):
                    moves = self.redirector.moves(known.state, wanted, seed=seed)
                    made.append(moves.pictures.cpu())
                    motions += _motions(moves)
                else:
                    made.append(self.redirector.edit(known.state, wanted, seed=seed).cpu())
        return torch.cat(made), motions

    def invert(
        self,
        place: Place,
        source_gaze: Sequence[float] | None = None,
        code: str | os.PathLike | None = None,
        *,
        shown: bool = False,
        keep: bool = False,
        told: Told | None = None,
    ) -> Inverted:
        """What the model needs of a face, computed once however often it is redirected.

        Args:
            place: the face.
            source_gaze: see :meth:`redirect`.
            code: file of a W+ code in place of the face's own, see :mod:`regaze.redirect.wplus`.
            shown: also tell the code and draw it, where the model edits codes.
            keep: use the fit of the same face again, and keep it, where the model fits faces.
            told: given every step of such a fit; see :class:`regaze.redirectors.base.Fitting`.

        Raises:
            FileNotFoundError, ValueError: the gaze is unknown, or the code cannot be used.
        """
        redirector, numbers, picture = self.redirector, None, None
        edits = isinstance(redirector, CodeEditor)
        if code is not None and not edits:
            raise ValueError(
                f"{code}: model {self.record['name']!r} edits no codes of a generator; leave the "
                "code out, or choose a model that does"
            )
        gaze, gaze_from = self.source_gaze(place, source_gaze)
        source, builder, made_from = self._source(place, gaze)
        with torch.no_grad():
            state, fit_from = self._inverted(source, keep, told)
            made_from |= {} if fit_from is None else {"fit": fit_from}
            if code is not None:
                own = redirector.w_plus(state)
                given = read_code(code, tuple(own.shape[1:]), self.code_fingerprint)
                state = redirector.of_w_plus(torch.from_numpy(given)[None].to(own))
                made_from = {**made_from, "code": str(code)}
            if shown and edits:
                numbers = redirector.w_plus(state)[0].float().cpu().numpy()
                levels = _levels(redirector.inversion(state).cpu())
                if place.colours is not None:
                    seen = _levels(source["source"].cpu())[0]
                    levels, _ = self._restored(place, levels, seen)
                picture = np.rint(levels[0]).astype(np.uint8)
        return Inverted(state, source, builder, gaze, gaze_from, made_from, numbers, picture)

    def _inverted(self, source, keep: bool, told: Told | None) -> tuple[State, str | None]:
        """The state of a source, and where its fit is from."""
        seed = self.sampling.get("seed", 0)
        if self._fits is None:
            return self.redirector.invert(source, seed=seed), None
        if not keep:
            return self.redirector.fit(source, seed=seed, told=told), "made"
        return self._fits.of(source, lambda: self.redirector.fit(source, seed=seed, told=told))

    @property
    def code_fingerprint(self) -> str:
        """The fingerprint of the generator that the model's W+ codes belong to."""
        return generator_of(self.record, self.fingerprint)

    def _restored(self, place: Place, levels: np.ndarray, shown: np.ndarray):
        """Grey levels that the model made, and was shown, in the photo's own colours."""
        own = _levels(reduce_patches(place.patch[None], self.size_px))[0]
        return place.colours.restore(levels, shown, own), own

    def _errors(self, measured: np.ndarray, gaze: np.ndarray, head: np.ndarray) -> dict:
        """What was read, in degrees; of the gaze null, with the reason, what the estimator hardly
        reads on people it has not seen."""
        unread = blind(self.estimator.record)
        degrees = np.degrees(measured).tolist()
        error = float(angular_error(measured[:2].astype(np.float64), gaze))
        seen = [
            None if which in unread else one for which, one in zip(PARTS, degrees[:2], strict=True)
        ]
        return {
            "gaze_deg": seen,
            "head_deg": degrees[2:],
            "gaze_error_deg": None if unread else error,
            "head_error_deg": float(angular_error(measured[2:].astype(np.float64), head)),
            **({"unread": unread} if unread else {}),
        }

    def _source(self, place: Place, gaze: np.ndarray):
        """The batch of one face, the builder of its requests, and where its inputs are from."""
        place = replace(place, patch=place.shown, colours=None)
        made = {kind: maker.of(place) for kind, maker in self._makers.items()}
        inputs = {kind: _Single(values) for kind, (values, _) in made.items()}
        builder = BatchBuilder(
            self.size_px, self.declaration, inputs, lambda rows: place.patch[None]
        )
        label = np.concatenate([gaze, place.head])[None].astype(np.float32)
        loaded = builder.load("source", np.zeros(1, np.int64), label)
        # The picture is of no data set that the model could know it by.
        loaded["source_row"] = torch.full((1,), -1)
        source = builder.finish({key: value.to(self.device) for key, value in loaded.items()})
        return source, builder, {kind: where for kind, (_, where) in made.items()}


def _told(codes: Sequence[Mapping[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """Columns of targets for codes by factor, NaN where a picture is told none."""
    told = {}
    for name in dict.fromkeys(name for one in codes for name in one):
        size = len(next(one[name] for one in codes if name in one))
        rows = [one.get(name, np.full(size, np.nan)) for one in codes]
        told[f"target_{name}"] = torch.from_numpy(np.array(rows, np.float32))
    return told


class _Single:
    """An input of one photo, which is known of no target."""

    in_memory, identity = True, {}

    def __init__(self, values: Mapping[str, torch.Tensor]):
        self.values, self.columns, self.known = values, tuple(values), np.ones(1, bool)

    def read(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        return {name: v.expand(len(rows), *v.shape[1:]) for name, v in self.values.items()}

    @staticmethod
    def finish(values, size_px, flip):
        return values


def _saw_colours(config: Mapping[str, Any]) -> bool:
    """Whether training changed the colours of its pictures: such a model takes any."""
    jitter = config.get("train", {}).get("jitter") or {}
    return any(jitter.get(name) for name in ("gain", "white", "offset"))


def read_angles(network: GazeHeadEstimator, patches: np.ndarray) -> np.ndarray:
    """Gaze and head (N, 4) radians of patches (N, h, w, 3) uint8 as an estimator sees them."""
    return estimate(network, prepare(patches, network.size_px, network.preprocess)).numpy()


def _motions(moves: Moves) -> list[Motion]:
    flows = moves.flow.float().permute(0, 2, 3, 1).cpu().numpy()
    shares = moves.share.float()[:, 0].cpu().numpy()
    return [Motion(flow, share) for flow, share in zip(flows, shares, strict=True)]


def _levels(pictures: torch.Tensor) -> np.ndarray:
    """Grey levels (N, H, W, 3) float32 of pictures (N, 3, H, W) in [-1, 1], not rounded."""
    return ((pictures.float() + 1.0) * 127.5).clamp(0, 255).permute(0, 2, 3, 1).numpy()


def write_png(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Write a picture (H, W, 3) uint8 RGB as PNG, under its name only when it is whole."""
    with replacing(path) as part:
        Image.fromarray(picture).save(part, format="PNG")
