"""One face in one frame of a video: seen, and redirected as far as it is to be."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from regaze.face3d.photo_faces import PhotoFace, stem
from regaze.redirect.angles import Request
from regaze.redirect.effect import Ramp, eye_areas, fading, level_seams
from regaze.redirect.inverted import outline
from regaze.redirect.one_eye import EYES
from regaze.redirect.paste import MODES
from regaze.redirect.place import Lens, Place, face_place
from regaze.redirect.run import Redirection

_LEAST = 0.01
"""Share of the effect below which a frame is left as it is."""


@dataclass(frozen=True, eq=False)
class InFrames:
    """What is done to faces of videos.

    Attributes:
        engine: the model.
        request: where to.
        ramp: how much of it is done.
        lens, mode, eyes: as for photos.
        source_gaze: pitch, yaw in degrees of all faces, instead of the estimator's reading.

    Raises:
        ValueError: a head direction of a model that has none, or an unknown mode or eye.
    """

    engine: Redirection
    request: Request
    ramp: Ramp = field(default_factory=Ramp)
    lens: Lens | None = None
    source_gaze: Sequence[float] | None = None
    mode: str = "difference"
    eyes: str = "both"

    def __post_init__(self):
        self.engine.check([self.request])
        if self.eyes not in EYES:
            raise ValueError(f"eyes: expected one of {', '.join(EYES)}, found {self.eyes!r}")
        if self.eyes != "both" and self.request.head is not None:
            raise ValueError(f"eyes: expected both where the head turns, found {self.eyes}")
        if self.mode not in MODES:
            raise ValueError(f"paste: expected one of {', '.join(MODES)}, found {self.mode!r}")

    def place(
        self,
        path: str | os.PathLike | int,
        picture: np.ndarray,
        landmarks: np.ndarray,
        pose: np.ndarray | None = None,
        points: np.ndarray | None = None,
    ) -> Place:
        """A face (68, 2) of a frame (H, W, 3) uint8 as the model sees it; see
        :func:`regaze.redirect.place.face_place`. ``points``: of its mesh, where they are known.

        Raises:
            ValueError: it cannot be normalised.
        """
        face = PhotoFace(stem(str(path)), 0, picture, landmarks, Path(str(path)).name)
        engine = self.engine
        place = face_place(
            path,
            face,
            size_px=engine.size_px,
            trained_on=engine.view,
            lens=self.lens,
            adjust=engine.adjust,
            read_in=engine.read_in,
            pose=pose,
        )
        return replace(place, points=points)

    def gaze(self, place: Place) -> np.ndarray:
        """Where a face looks, (2,) radians.

        Raises:
            ValueError: nothing tells.
        """
        return self.engine.source_gaze(place, self.source_gaze)[0]

    def redirect(
        self, place: Place, gaze: np.ndarray, share: float = 1.0
    ) -> tuple[np.ndarray, dict]:
        """The frame (H, W, 3) uint8 with the face redirected.

        Gaze and head go the share of their way that the effect is; where little is left of it
        the picture fades into the source. Where the head stays the eyes' surroundings alone are
        changed, in light that is the source's along their seam.

        Args:
            place: of :meth:`place`.
            gaze: (2,) radians, where the face looks.
            share: of the effect, 0 to 1, besides the ramp's.

        Returns:
            The frame, and degrees and the share for records.
        """
        engine, request = self.engine, self.request
        share = share * self.ramp.share(gaze, place.head)
        facts = {
            "source_gaze_deg": np.degrees(gaze).tolist(),
            "source_head_deg": np.degrees(place.head).tolist(),
            "share": share,
        }
        (target,), (asked,) = engine.targets(place, gaze, [request])
        if share < _LEAST:
            return place.photo, facts
        wanted = [
            source + share * (end - source)
            for source, end in zip((gaze, place.head), target, strict=True)
        ]
        known = engine.invert(place, np.degrees(gaze))
        made = engine.changed(place, known, [wanted], codes=[request.codes])
        mask, facts["mask"] = outline(place, wanted[1])
        areas = [mask]
        if facts["mask"] == "face" and place.view is not None:
            areas = [mask * one for one in eye_areas(place.landmarks, place.view.patch_size,
                                                     self.eyes)]  # fmt: skip
            facts["mask"] = "eyes"
        made.levels[0] = level_seams(made.levels[0], made.shown, areas)
        weights = fading(share) * np.max(areas, axis=0)
        for name, angles in zip(("gaze", "head"), wanted, strict=True):
            facts[f"target_{name}_deg"] = np.degrees(angles).tolist()
        return made.pasted(place, 0, weights, self.mode), {**facts, **asked}
