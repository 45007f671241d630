"""What a photo is shown to a model like: as the patches that the model was trained on.

Places of eyes, colours and the range of directions in training are those of ``model.json``
(:mod:`regaze.redirectors.patches`). Rows of data sets are not adjusted: they are such patches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from regaze.normalise.warp import transform_points
from regaze.redirect.angles import Request
from regaze.redirect.paste import View
from regaze.redirectors.patches import OUTER_CORNERS, TrainedPatches, central

BEYOND = ("clip", "keep", "refuse")
"""What becomes of a direction beyond the trained range: the nearest in it, itself, an error."""

_SCALES = (0.7, 1.4)
_MOST_ROLL = np.radians(15.0)
_MOST_SHIFT = 0.15
"""Of the patch's width. Landmarks that want more than these are not those of a face."""
_GAINS = (0.4, 2.5)
_SAME = np.radians(0.05)
"""What is clipped by less is not worth telling."""


@dataclass(frozen=True, eq=False)
class ColourMatch:
    """Grey levels as a model wants them: ``gain * own + offset``, (3,) each for R, G, B."""

    gain: np.ndarray
    offset: np.ndarray

    def apply(self, patch: np.ndarray) -> np.ndarray:
        """A patch (h, w, 3) uint8 as the model wants it."""
        levels = patch * self.gain + self.offset
        return np.clip(np.rint(levels), 0, 255).astype(np.uint8)

    def restore(self, made: np.ndarray, shown: np.ndarray, own: np.ndarray) -> np.ndarray:
        """What a model made, in the photo's own colours, float32 grey levels.

        Only the model's change is scaled back, so that what it left as it was is the photo's own,
        also where matched levels had to be clipped.

        Args:
            made, shown: (..., 3) grey levels of the model's output and of its input.
            own: those of its input before they were matched.
        """
        return (own + (made - shown) / self.gain).clip(0, 255).astype(np.float32)

    def facts(self) -> dict:
        """For records."""
        return {"gain": self.gain.tolist(), "offset": self.offset.tolist()}


@dataclass(frozen=True)
class Adjustment:
    """How photos are adjusted to a model.

    Attributes:
        trained: of the model; None where its record does not tell: then nothing is done.
        align: put the outer eye corners where training has them.
        match_colours: give the face training's mean colour and spread.
        beyond: one of :data:`BEYOND`.
    """

    trained: TrainedPatches | None = None
    align: bool = True
    match_colours: bool = True
    beyond: str = "clip"

    def __post_init__(self):
        if self.beyond not in BEYOND:
            raise ValueError(f"beyond: expected one of {', '.join(BEYOND)}, found {self.beyond!r}")

    def aligned(
        self, view: View, landmarks: np.ndarray, head: np.ndarray
    ) -> tuple[View, np.ndarray, dict | None]:
        """A view in which the eyes lie where training has them.

        The similarity is part of the homography: the patch is sampled once, and pasting inverts it.

        Args:
            view: of the face as it was normalised.
            landmarks: (68, 2) patch pixels in that view.
            head: (2,) pitch, yaw in radians; how the eyes lie depends on it.

        Returns:
            The view, landmarks in it, and what was done; None where nothing was, and the
            ``reason`` where the eyes lie too far off.
        """
        eyes = None if self.trained is None else self.trained.eyes
        if not self.align or eyes is None:
            return view, landmarks, None
        heads = self.trained.head
        ratio = np.array(view.patch_size) / self.trained.patch_size
        wanted = (eyes.at(head if heads is None else heads.clip(head)) + 0.5) * ratio - 0.5
        found = landmarks[OUTER_CORNERS]
        matrix = similarity(found, wanted)
        scale, roll = np.hypot(*matrix[:2, 0]), np.arctan2(matrix[1, 0], matrix[0, 0])
        shift = wanted.mean(axis=0) - found.mean(axis=0)
        facts = {
            "scale": float(scale),
            "roll_deg": float(np.degrees(roll)),
            "shift_px": shift.tolist(),
        }
        too_far = not _SCALES[0] <= scale <= _SCALES[1] or abs(roll) > _MOST_ROLL
        if too_far or np.abs(shift).max() > _MOST_SHIFT * view.patch_size[0]:
            return view, landmarks, {"reason": "eyes too far from where training has them", **facts}
        moved = replace(view, homography=matrix @ view.homography)
        return moved, transform_points(matrix, landmarks), facts

    def colours_of(self, patch: np.ndarray) -> ColourMatch | None:
        """How the colours of a patch (h, w, 3) uint8 become those of training.

        Each channel gets its mean, all together their spread: with a gain for each of them, white
        that a model puts where an iris was would come back blue where skin has little blue.
        """
        colours = None if self.trained is None else self.trained.colours
        if not self.match_colours or colours is None:
            return None
        middle = central(patch).reshape(-1, 3).astype(np.float64)
        spread = max(float(middle.std(axis=0).mean()), 1e-3)
        gain = np.full(3, np.clip(np.mean(colours.spread) / spread, *_GAINS))
        return ColourMatch(gain, np.array(colours.mean) - gain * middle.mean(axis=0))

    def kept(
        self, request: Request, gaze: np.ndarray, head: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict]:
        """Targets in the trained range; what stays as in the source is not touched.

        Args:
            request: what was asked for.
            gaze, head: (2,) targets in radians that it resolved to.

        Returns:
            Gaze and head (2,), and for records what was asked for where it is another.

        Raises:
            ValueError: a target is beyond the range, and such are refused.
        """
        made, facts = [], {}
        for name, target, wish in (("gaze", gaze, request.gaze), ("head", head, request.head)):
            known = None if self.trained is None else getattr(self.trained, name)
            if known is None or wish is None:
                made.append(target)
                continue
            nearest = known.clip(target)
            outside = np.abs(nearest - target).max() > _SAME
            if outside and self.beyond == "refuse":
                raise ValueError(
                    f"{name}: expected a direction that the model was trained on, {known}; found "
                    f"{_angles(target)}"
                )
            if outside:
                facts[f"asked_{name}_deg"] = np.degrees(target).tolist()
                facts[f"trained_{name}"] = str(known)
            made.append(nearest if outside and self.beyond == "clip" else target)
        return made[0], made[1], facts


def told_beyond(facts: dict) -> list[str]:
    """Lines about directions that lie beyond the trained range, from a result's facts."""
    lines = []
    for name in ("gaze", "head"):
        if f"asked_{name}_deg" in facts:
            asked, used = (facts[f"{which}_{name}_deg"] for which in ("asked", "target"))
            lines.append(
                f"{name} {asked[0]:.1f} {asked[1]:.1f} asked for, {used[0]:.1f} {used[1]:.1f} "
                f"used: the model was trained on {facts[f'trained_{name}']}"
            )
    return lines


def similarity(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The similarity (3, 3) that takes two points (2, 2) to two others."""
    (a, b), (c, d) = (np.array(points) @ [1, 1j] for points in (found, wanted))
    turn = (d - c) / (b - a)
    move = c - turn * a
    return np.array(
        [[turn.real, -turn.imag, move.real], [turn.imag, turn.real, move.imag], [0.0, 0.0, 1.0]]
    )


def _angles(target: np.ndarray) -> str:
    pitch, yaw = np.degrees(target)
    return f"{pitch:.1f} {yaw:.1f}"
