"""What a 3-D face encoder reads from redirected pictures, for factors that are groups of codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from regaze.face3d.deca import encoder_identity
from regaze.face3d.encode import codes_of_faces, open_encoder


class CodeReader:
    """Reads codes from pictures.

    Args:
        encoder: as :func:`regaze.face3d.encode.open_encoder` takes it.
        device: where it runs.

    Attributes:
        identity: of the encoder and its head model.

    Raises:
        FileNotFoundError, ValueError: as there.
    """

    def __init__(self, encoder: Mapping[str, Any], device: str):
        self._encoder = open_encoder(**encoder, device=device)
        self.identity = encoder_identity(self._encoder)

    def read(
        self, pixels: np.ndarray, landmarks: np.ndarray, patch_size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """Codes (n,length) by the names of :data:`regaze.codes.CODES`, NaN without a face.

        Args:
            pixels: (n,H,W,3) uint8 RGB.
            landmarks: (n,68,2) pixels of the patch that the pictures show, NaN where unknown. They
                place the crop that the encoder sees: that of a redirected picture is its target's.
            patch_size: (width, height) of that patch.
        """
        scale = np.array([pixels.shape[2], pixels.shape[1]]) / np.array(patch_size)
        codes, known = codes_of_faces(self._encoder, pixels, (landmarks + 0.5) * scale - 0.5)
        return {name: np.where(known[:, None], values, np.nan) for name, values in codes.items()}
