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

from regaze.estimators.quality import warn_of_blind
from regaze.images import reduce_patches, to_uint8
from regaze.landmarks.gaze import Unreadable
from regaze.outputs import replacing
from regaze.provenance import fingerprint
from regaze.redirect.adjust import Adjustment
from regaze.redirect.angles import Request
from regaze.redirect.fits import Fits, Told
from regaze.redirect.inverted import (
    Changed,
    Inverted,
    SingleInput,
    grey_levels,
    motions_of,
    outline,
    told_codes,
)
from regaze.redirect.looks import SOURCES, Looks, agreed
from regaze.redirect.measuring import Measuring
from regaze.redirect.one_eye import one_eye, only_there
from regaze.redirect.paste import Motion
from regaze.redirect.place import Place
from regaze.redirect.wplus import generator_of, read_code
from regaze.redirectors.base import CodeEditor, Fitting, Moving, State
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


class Redirection(Measuring):
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
        self.check(requests)
        side = one_eye(place, requests, eyes)
        known = inverted or self.invert(place, source_gaze)
        targets, asked = self.targets(place, known.gaze, requests)
        codes = [request.codes for request in requests]
        made = self.changed(place, known, targets, batch=batch, codes=codes, side=side)
        measured = self.measure(made.raw) if side is None else None
        patches = np.rint(made.levels).astype(np.uint8)
        results = []
        for number, (target_gaze, target_head) in enumerate(targets):
            facts = {
                "target_gaze_deg": np.degrees(target_gaze).tolist(),
                "target_head_deg": np.degrees(target_head).tolist(),
                **asked[number],
            }
            if measured is not None:
                facts["measured_patch"] = self.errors(measured[number], target_gaze, target_head)
            pasted = None
            if place.photo is not None and place.view is not None:
                mask, facts["mask"] = outline(place, target_head)
                mask = mask if side is None else mask * side
                pasted = made.pasted(place, number, mask, mode)
                again = self.measure_photo(place, pasted) if side is None else None
                if again is not None:
                    facts["measured_photo"] = self.errors(again[0], target_gaze, target_head)
                if finish is not None:
                    pasted = finish(pasted)
            results.append(Result(patches[number], pasted, facts))
        about = {
            "source": place.source,
            "source_gaze_deg": np.degrees(known.gaze).tolist(),
            "source_gaze_from": known.gaze_from,
            "source_head_deg": np.degrees(place.head).tolist(),
            "eyes": eyes,
            **place.facts,
        }
        about |= {f"source_{kind}_from": where for kind, where in known.made_from.items()}
        return results, about

    def check(self, requests: Sequence[Request]) -> None:
        """Refuse directions of the head of a model that moves eyes alone, with a ValueError."""
        if any(one.head is not None for one in requests) and not self.turns_heads:
            raise ValueError(
                f"head: expected no direction of the head, since {self.record['name']!r} moves "
                "eyes alone; choose another model for it"
            )

    def targets(
        self, place: Place, gaze: np.ndarray, requests: Sequence[Request]
    ) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[dict]]:
        """Gaze and head (2,) radians of each request, within what the model was trained on.

        Args:
            place: the face.
            gaze: (2,) radians, where it looks.
            requests: where to.

        Returns:
            The targets, and for records what was asked for where it is another.

        Raises:
            ValueError: a direction that cannot be used.
        """
        targets, asked = [], []
        for request in requests:
            target, other = request.resolve(gaze, place.head), {}
            if place.faces is None:
                try:
                    *target, other = self.adjust.kept(request, *target)
                except ValueError as error:
                    raise ValueError(f"{place.source}: {error}") from None
            targets.append(tuple(target))
            asked.append(other)
        return targets, asked

    def changed(
        self,
        place: Place,
        known: Inverted,
        targets: Sequence,
        *,
        batch: int | None = None,
        codes: Sequence[Mapping[str, np.ndarray]] = (),
        side: np.ndarray | None = None,
    ) -> Changed:
        """What the model makes of a face for targets (gaze, head), in the photo's own colours.

        ``side``: weights of :func:`regaze.redirect.one_eye.one_eye`; else as :meth:`redirect`.
        """
        pictures, motions = self.edited(known, targets, batch, codes=codes)
        shown, levels = grey_levels(known.source["source"].cpu())[0], grey_levels(pictures)
        if place.colours is not None:
            levels, shown = self._restored(place, levels, shown)
        if side is not None:
            levels = only_there(levels, shown, side)
        return Changed(to_uint8(pictures), levels, shown, motions)

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
                wanted |= told_codes(codes[start : start + batch])
                if roll:
                    wanted["target_roll"] = torch.full((len(labels),), roll)
                wanted = known.builder.finish({k: v.to(self.device) for k, v in wanted.items()})
                if isinstance(self.redirector, Moving):
                    moves = self.redirector.moves(known.state, wanted, seed=seed)
                    made.append(moves.pictures.cpu())
                    motions += motions_of(moves)
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
        start: str | os.PathLike | None = None,
    ) -> Inverted:
        """What the model needs of a face, computed once however often it is redirected.

        Args:
            place: the face.
            source_gaze: see :meth:`redirect`.
            code: file of a W+ code in place of the face's own, see :mod:`regaze.redirect.wplus`.
            shown: also tell the code and draw it, where the model edits codes.
            keep: use the fit of the same face again, and keep it, where the model fits faces.
            told: given every step of such a fit; see :class:`regaze.redirectors.base.Fitting`.
            start: file of the codes that such a fit starts at, in place of the encoder's.

        Raises:
            FileNotFoundError, ValueError: the gaze is unknown, or a code cannot be used.
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
        if start is not None:
            source["source_start"] = redirector.read_codes(start).to(self.device)
            made_from = {**made_from, "codes": str(start)}
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
                levels = grey_levels(redirector.inversion(state).cpu())
                if place.colours is not None:
                    seen = grey_levels(source["source"].cpu())[0]
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
        own = grey_levels(reduce_patches(place.patch[None], self.size_px))[0]
        return place.colours.restore(levels, shown, own), own

    def _source(self, place: Place, gaze: np.ndarray):
        """The batch of one face, the builder of its requests, and where its inputs are from."""
        place = replace(place, patch=place.shown, colours=None)
        made = {kind: maker.of(place) for kind, maker in self._makers.items()}
        inputs = {kind: SingleInput(values) for kind, (values, _) in made.items()}
        builder = BatchBuilder(
            self.size_px, self.declaration, inputs, lambda rows: place.patch[None]
        )
        label = np.concatenate([gaze, place.head])[None].astype(np.float32)
        loaded = builder.load("source", np.zeros(1, np.int64), label)
        # The picture is of no data set that the model could know it by.
        loaded["source_row"] = torch.full((1,), -1)
        source = builder.finish({key: value.to(self.device) for key, value in loaded.items()})
        return source, builder, {kind: where for kind, (_, where) in made.items()}


def _saw_colours(config: Mapping[str, Any]) -> bool:
    """Whether training changed the colours of its pictures: such a model takes any."""
    jitter = config.get("train", {}).get("jitter") or {}
    return any(jitter.get(name) for name in ("gain", "white", "offset"))


def write_png(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Write a picture (H, W, 3) uint8 RGB as PNG, under its name only when it is whole."""
    with replacing(path) as part:
        Image.fromarray(picture).save(part, format="PNG")
