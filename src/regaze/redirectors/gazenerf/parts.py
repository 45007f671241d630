"""What a field hands from one step to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from regaze.redirectors.gazenerf.radiance import Told
from regaze.redirectors.gazenerf.rays import Samples


@dataclass(frozen=True)
class Map:
    """What rays of a stream add up to.

    Attributes:
        features: (B,R,C).
        clear: (B,R), the background's share.
        weights: (B,R,N), of the samples.
    """

    features: Tensor
    clear: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Prepared:
    """What does not depend on the gaze, of one or more heads.

    Attributes:
        samples: on the rays of every head.
        pixels: (R,) int64, which pixels of the map these rays go through.
        told: codes as biases by stream; none where they are told the gaze as well.
        codes: shape (B,s) and appearance (B,a).
        trunks: of ``headnerf_gaze`` without gradients, by the first ray of chunks of every head:
            the trunk's features and colours, and what the gaze branch is given of points.
    """

    samples: Samples
    pixels: Tensor
    codes: tuple[Tensor, Tensor]
    told: Mapping[str, Told] = field(default_factory=dict)
    trunks: tuple[Mapping[int, tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]], ...] = ()
