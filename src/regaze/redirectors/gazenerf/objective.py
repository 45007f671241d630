"""What fields learn from: the weighted terms of HeadNeRF, of its gaze branch and of GazeNeRF.

Pictures are in [0,1] here. Means are over the pixels that masks choose, of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from regaze.redirectors.gazenerf.settings import ObjectiveOptions

Pictures = Mapping[str, Tensor]
"""Pictures (B,3,S,S) by name, see :meth:`regaze.redirectors.gazenerf.field.HeadField.forward`;
``displaced`` is the picture of another gaze, ``background`` (1,3,S,S)."""


@dataclass(frozen=True)
class Photos:
    """What pictures are compared with.

    Attributes:
        image: (B,3,S,S).
        head, eyes: (B,1,S,S) bool.
        calmer: photos (B,3,S,S) of the same heads with less gaze, and which rows (B,) bool are
            such; None without any.
        outside: (B,1,S,S) bool, where certainly no head is; None: where ``head`` is not.
    """

    image: Tensor
    head: Tensor
    eyes: Tensor
    calmer: tuple[Tensor, Tensor] | None = None
    outside: Tensor | None = None

    def of(self, rows: slice) -> Photos:
        """Some of them, without calmer ones."""
        image, head, eyes, outside = (
            one if one is None else one[rows]
            for one in (self.image, self.head, self.eyes, self.outside)
        )
        return Photos(image, head, eyes, outside=outside)

    def cleared(self, mask: Tensor) -> Tensor:
        """The photos, white outside a mask."""
        return torch.where(mask, self.image, torch.ones_like(self.image))


def source_photos(source: Mapping[str, Tensor]) -> Photos:
    """Photos of a batch's sources, their heads, eyes, and where there is certainly no head.

    Without masks all is head; where masks are in doubt (``source_masks_doubt``) a pixel is neither.
    """
    image = (source["source"].float() + 1) / 2
    head = torch.ones_like(image[:, :1], dtype=torch.bool)
    outside = eyes = ~head
    if "source_masks" in source:
        known = source["source_masks_known"][:, None, None, None]
        found, eyes = ((source["source_masks"][:, n, None] >= 0.5) & known for n in (0, 1))
        head, outside = ~known | found, known & ~found
    if "source_masks_doubt" in source:
        outside = outside & (source["source_masks_doubt"] < 0.5)
    return Photos(image, head, eyes & head, outside=outside)


@dataclass(frozen=True)
class Offsets:
    """What was learnt of pictures besides what was told: (B,3), (B,3,1), and three of codes."""

    turn: Tensor
    shift: Tensor
    identity: Tensor
    expression: Tensor
    appearance: Tensor


def inside(difference: Tensor, mask: Tensor) -> Tensor:
    """The mean of differences (B,C,H,W) where a mask (B,1,H,W) is; 0 where it is nowhere."""
    chosen = mask.expand_as(difference)
    total = torch.where(chosen, difference, torch.zeros_like(difference)).sum()
    return total / chosen.sum().clamp(min=1)


_OF_MORE = ("template", "template_eyes", "displaced", "perceptual", "perceptual_parts")
_OF_MORE += ("angular", "adversarial")


class Objective(ObjectiveOptions):
    """The losses of one step, weighted as ``objective:`` says."""

    def alone(self) -> Objective:
        """The terms of colours of one photo by itself: without other gazes and networks."""
        return Objective(**{**self.model_dump(), **dict.fromkeys(_OF_MORE, 0.0)})

    def apart(self, picture: Tensor, photo: Tensor) -> Tensor:
        """How different colours are."""
        difference = picture - photo
        return difference.abs() if self.distance == "l1" else difference.square()

    def names(self) -> tuple[str, ...]:
        """Pictures that the terms need."""
        parts = self.perceptual_parts
        wanted = {
            "image": True,
            "background": self.background,
            "face": self.face or parts,
            "eyes": self.eyes or parts,
            "template": self.template or self.template_eyes,
        }
        return tuple(name for name, on in wanted.items() if on)

    def terms(self, made: Pictures, photos: Photos) -> dict[str, Tensor]:
        """Terms of colours that have a weight, without it."""
        image, photo, head, eyes = made["image"], photos.image, photos.head, photos.eyes
        rest, outside = head & ~eyes, ~head if photos.outside is None else photos.outside
        found: dict[str, Callable[[], Tensor]] = {
            "background": lambda: (made["background"] - 1).square().mean(),
            "head": lambda: inside(self.apart(image, photo), head),
            "nonhead": lambda: inside((image - 1).square(), outside),
            "eye_region": lambda: inside(self.apart(image, photo), eyes),
            "face": lambda: inside(self.apart(made["face"], photo), rest),
            "eyes": lambda: inside(self.apart(made["eyes"], photo), eyes),
            "template": lambda: inside(
                self.apart(made["template"], photo), head if self.template_whole else rest
            ),
            "template_eyes": lambda: self._calmer(made["template"], photos),
            "displaced": lambda: inside((image - made["displaced"]).abs(), rest),
        }
        return {name: term() for name, term in found.items() if getattr(self, name)}

    def _calmer(self, template: Tensor, photos: Photos) -> Tensor:
        if photos.calmer is None:
            return template.new_zeros(())
        wanted, rows = photos.calmer
        return inside(self.apart(template, wanted), photos.eyes & rows[:, None, None, None])

    def offset_terms(self, offsets: Offsets) -> dict[str, Tensor]:
        """Squares of offsets that have a weight, without it."""
        return {
            name: value.square().mean()
            for name, value in vars(offsets).items()
            if getattr(self, name)
        }

    def seen_terms(
        self, made: Pictures, photos: Photos, distance: Callable[[Tensor, Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """How different pictures look to a network, without a weight; see :meth:`terms`."""
        found, rest = {}, photos.head & ~photos.eyes
        if self.perceptual:
            found["perceptual"] = distance(made["image"], photos.cleared(photos.head))
        if self.perceptual_parts:
            found["perceptual_parts"] = distance(made["face"], photos.cleared(rest)) + distance(
                made["eyes"], photos.cleared(photos.eyes)
            )
        return found

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return sum(getattr(self, name) * value for name, value in terms.items())


def displaced(gaze: Tensor, generator: torch.Generator) -> Tensor:
    """Other gazes (B,2): each angle moved by a normal number, the less the closer it is to 1."""
    spread = torch.minimum((1 - gaze).abs(), (-1 - gaze).abs())
    drawn = torch.randn(gaze.shape, generator=generator, device=gaze.device)
    return gaze + spread * drawn
