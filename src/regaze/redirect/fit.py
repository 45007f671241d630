"""One call of ``regaze fit``: a face is fitted once, then seen from elsewhere and edited."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from regaze.angles import angles_from_vector, rotation_from_angles, vector_from_angles
from regaze.animation import tiled
from regaze.face3d.photo_faces import is_row
from regaze.images import reduce_patches, to_uint8
from regaze.normalise.photo import read_photo
from regaze.outputs import replacing
from regaze.redirect.angles import Request, checked, sweep
from regaze.redirect.animate import write_animation
from regaze.redirect.fits import Told, read_fit, write_fit
from regaze.redirect.place import Place
from regaze.redirect.run import Redirection, write_png

ROUND = 32
"""Pictures of an animation."""
_SHOWN = 256
"""Side in pixels to which pictures are enlarged by whole numbers."""

Bar = Callable[[str], AbstractContextManager[Told]]
"""A progress bar for the fit of what is named."""


@dataclass(frozen=True)
class Taken:
    """A part of a code that is taken from another fit.

    Attributes:
        part: its name.
        share: of the other's, 0 to 1 or beyond; the rest stays.
        place: a photo, a row, a ``.safetensors`` of a fit, or codes of a published head.
    """

    part: str
    share: float
    place: str

    @classmethod
    def of(cls, text: str) -> Taken:
        """``PART=PLACE`` or ``PART@SHARE=PLACE``.

        Raises:
            ValueError: another form.
        """
        told, equals, place = text.partition("=")
        part, at, share = told.partition("@")
        try:
            number = float(share) if at else 1.0
        except ValueError:
            number = float("nan")
        if not (equals and part and place and np.isfinite(number)):
            raise ValueError(f"take: expected PART=FILE or PART@SHARE=FILE, found {text!r}")
        return cls(part, number, place)


@dataclass(frozen=True)
class Asked:
    """How the head is drawn: None and 0 keep what the photo shows.

    Attributes:
        gaze, head: pitch and yaw in degrees.
        camera: degrees by which the camera walks up and to the picture's right around the head,
            and rolls clockwise; the eyes stay in the head as they are.
        taken: parts of other fits.
        relative: gaze and head are offsets.
    """

    gaze: tuple[float, float] | None = None
    head: tuple[float, float] | None = None
    camera: tuple[float, float, float] = (0.0, 0.0, 0.0)
    taken: Sequence[Taken] = ()
    relative: bool = False

    def __post_init__(self):
        checked("gaze", self.gaze)
        checked("head", self.head)
        checked("camera", self.camera[:2])
        if not np.isfinite(self.camera[2]):
            raise ValueError(f"camera roll: expected degrees, found {self.camera[2]:g}")

    @property
    def anything(self) -> bool:
        """Whether anything is asked for besides the fit."""
        return any((self.gaze, self.head, any(self.camera), self.taken))


class FaceFit:
    """A fitted face and what is drawn of it.

    Args:
        engine: the model, one that fits.
        place: the face.
        source_gaze: pitch and yaw in degrees, where labels and estimators know none.
        bar: shows the progress.
        start: file of the codes to start at, in place of the encoder's.

    Attributes:
        known: as the engine knows it.
        psnr: dB of the fit against the photo, inside the mask.

    Raises:
        ValueError: the gaze or an input of the model is unknown, codes are not finite, or the
            camera looks away from the head.
    """

    def __init__(
        self,
        engine: Redirection,
        place: Place,
        source_gaze: Sequence[float] | None = None,
        bar: Bar | None = None,
        start: Path | None = None,
    ):
        self.engine, self.place = engine, place
        if bar is None:
            self.known = engine.invert(place, source_gaze, keep=True, start=start)
        else:
            with bar(place.source) as told:
                self.known = engine.invert(place, source_gaze, keep=True, told=told, start=start)
        self.psnr = self._psnr()

    @property
    def own(self) -> tuple[np.ndarray, np.ndarray]:
        """Gaze and head (2,) radians, as the photo shows them."""
        return self.known.gaze, self.place.head

    def drawn(self, targets: Sequence, state: Mapping | None = None, roll: float = 0.0):
        """Pictures (n, S, S, 3) uint8 of gazes and heads, of this fit or another state."""
        known = self.known if state is None else replace(self.known, state=state)
        return to_uint8(self.engine.edited(known, targets, roll=roll)[0])

    def _psnr(self) -> float:
        source, made = self.known.source, self.engine.edited(self.known, [self.own])[0]
        wanted, made = source["source"].cpu().float(), made.float()
        mask = torch.ones_like(wanted[:, :1], dtype=torch.bool)
        if "source_masks" in source:
            mask = source["source_masks"][:, :1].cpu() >= 0.5
        apart = ((made - wanted) / 2).square()[mask.expand_as(wanted)]
        return float(-10 * torch.log10(apart.mean().clamp(min=1e-10)))

    def views(self, reach: tuple[float, float]) -> np.ndarray:
        """A round of the camera about the head; half axes are pitch and yaw in degrees."""
        gaze, head = self.own
        path = sweep("ellipse", ROUND, reach, relative=True)
        heads = [one.resolve(np.zeros(2), np.zeros(2))[0] + head for one in path]
        return self.drawn([(carried(gaze, head, one), one) for one in heads])

    def gazes(self, reach: tuple[float, float]) -> np.ndarray:
        """A round of the gaze, the head as it is."""
        path = sweep("ellipse", ROUND, reach)
        return self.drawn([one.resolve(*self.own) for one in path])

    def morph(self, other: FaceFit) -> np.ndarray:
        """From this fit to another and back."""
        shares = (1 - np.cos(2 * np.pi * np.arange(ROUND) / ROUND)) / 2
        frames = []
        for share in shares:
            state = {
                name: torch.lerp(value, other.known.state[name], float(share))
                for name, value in self.known.state.items()
            }
            pair = zip(self.own, other.own, strict=True)
            frames.append(self.drawn([[a + share * (b - a) for a, b in pair]], state)[0])
        return np.stack(frames)

    def edited(self, asked: Asked, others: Sequence[Mapping]) -> np.ndarray:
        """The picture (S, S, 3) uint8 that is asked for; ``others``: states, one per part taken.

        Raises:
            ValueError: no such part, or a camera that looks away from the head.
        """
        state = self.mixed(asked.taken, others)
        gaze, head = Request(asked.gaze, asked.head, asked.relative).resolve(*self.own)
        walked = head + np.radians([-asked.camera[0], asked.camera[1]])
        target = (carried(gaze, head, walked), walked)
        return self.drawn([target], state, float(np.radians(asked.camera[2])))[0]

    def mixed(self, taken: Sequence[Taken], others: Sequence[Mapping]) -> dict:
        """The state with parts of others.

        Raises:
            ValueError: no such part.
        """
        parts = self.engine.redirector.code_parts
        codes = list(self.known.state["codes"].split(list(parts.values()), 1))
        for one, other in zip(taken, others, strict=True):
            if one.part not in parts:
                raise ValueError(f"take: expected one of {', '.join(parts)}, found {one.part!r}")
            number = list(parts).index(one.part)
            theirs = other["codes"].split(list(parts.values()), 1)[number]
            codes[number] = torch.lerp(codes[number], theirs.to(codes[number]), one.share)
        return {**self.known.state, "codes": torch.cat(codes, 1)}

    def write(self, out: Path, reach: tuple[float, float]) -> list[str]:
        """Files of the fit in a folder; their names."""
        name = self.place.name
        shown = reduce_patches(self.place.shown[None], self.engine.size_px)
        pair = np.concatenate([to_uint8(shown), self.drawn([self.own])])
        files = [f"{name}.fit.png"]
        write_png(out / files[0], np.asarray(tiled(pair, 2, _times(pair))))
        files += self.animate(out, "views", self.views((reach[0] / 2, reach[1])))
        files += self.animate(out, "gaze", self.gazes(reach))
        files += [f"{name}.latents.pth", f"{name}.fit.safetensors"]
        held = io.BytesIO()
        torch.save(self.engine.redirector.published_codes(self.known.state), held)
        with replacing(out / files[-2]) as part:
            part.write_bytes(held.getvalue())
        steps = int(self.engine.sampling.get("steps", 0))
        write_fit(out / files[-1], self.known.state, self.engine.fingerprint, steps)
        return files

    def animate(self, out: Path, kind: str, pictures: np.ndarray) -> list[str]:
        """Write an animation; its name."""
        name = f"{self.place.name}.{kind}.gif"
        scale = _times(pictures)
        write_animation(out / name, [p.repeat(scale, 0).repeat(scale, 1) for p in pictures])
        return [name]

    def show(self, out: Path, picture: np.ndarray) -> str:
        """Write the picture that was asked for; its name."""
        name, scale = f"{self.place.name}.png", _times(picture[None])
        write_png(out / name, picture.repeat(scale, 0).repeat(scale, 1))
        return name

    def facts(self) -> dict:
        """What is known of the fit, for its record."""
        gaze, head = self.own
        return {
            "source": self.place.source,
            "source_gaze_deg": np.degrees(gaze).tolist(),
            "source_gaze_from": self.known.gaze_from,
            "source_head_deg": np.degrees(head).tolist(),
            "psnr_in_mask": self.psnr,
            **{f"source_{kind}_from": where for kind, where in self.known.made_from.items()},
            **self.place.facts,
        }


def carried(gaze: np.ndarray, head: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The gaze (2,) of eyes that stay in a head (2,) which is turned to another; radians."""
    turn = rotation_from_angles(other) @ rotation_from_angles(head).T
    return angles_from_vector(turn @ vector_from_angles(gaze))


def masked(place: Place, path: Path, photo: str) -> Place:
    """A face with the user's mask of its photo, or of a row's patch.

    Raises:
        FileNotFoundError, ValueError: no readable picture, or one of another size.
    """
    mask = read_photo(path)
    there = place.patch if place.photo is None else place.photo
    if mask.shape[:2] != there.shape[:2]:
        found, wanted = ("{1} x {0}".format(*one.shape[:2]) for one in (mask, there))
        raise ValueError(
            f"{path}: mask: expected one of the size of {photo}, {wanted} pixels, found {found}"
        )
    seen = mask if place.photo is None else place.view.take(mask)
    grey = cv2.cvtColor(seen, cv2.COLOR_BGR2GRAY)
    if not (grey >= 128).any():
        raise ValueError(f"{path}: mask: expected white where the head of {photo} is, found none")
    return replace(place, mask=grey)


def state_of(fit: Path, engine: Redirection) -> dict:
    """The state of a file of a fit; see :func:`regaze.redirect.fits.read_fit`."""
    state, _ = read_fit(fit, engine.fingerprint)
    wanted = sum(engine.redirector.code_parts.values())
    if state["codes"].shape != (1, wanted):
        raise ValueError(f"{fit}: codes: expected (1, {wanted}), found {state['codes'].shape}")
    return state


def is_fit(place: str) -> bool:
    """Whether a text names a file of a fit, and no photo or row."""
    return not is_row(place) and Path(place).suffix.lower() == ".safetensors"


def _times(pictures: np.ndarray) -> int:
    return max(1, _SHOWN // pictures.shape[1])
