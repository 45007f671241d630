"""3-D codes of single faces, for models that are told them: stored latents, or the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch

from regaze.codes.condition import code_rows
from regaze.codes.latents import LatentsReader
from regaze.face3d.crop_rows import place_of_crops
from regaze.face3d.deca import Deca, encoder_identity
from regaze.face3d.encode import codes_of_faces, open_encoder
from regaze.redirect.place import Place
from regaze.weights import models_folder

HEAD = Path("face3d/head.npz")
"""The head model below the folder of results, beside the folder of models."""


class SourceCodes:
    """Codes of faces by the encoder that a model was trained with.

    Args:
        options: of the model's input ``codes``: ``encoder`` and ``parts``.
        folder: model folder, ``results/models/<name>``; the encoder's is beside it, and
            ``results/face3d/head.npz`` is its head model.
        identity: the encoder of the model's training.
        published: files of published encoders by the name of the entry: ``{"deca": path}`` or
            ``{"emoca": path}``, as :func:`regaze.face3d.encode.open_encoder` takes them.
        device: where the encoder runs: ``auto``, ``cpu`` or ``cuda``.
    """

    def __init__(
        self,
        options: Mapping,
        folder: str | PathLike,
        identity: Mapping[str, str],
        published: Mapping[str, Mapping[str, str]] | None = None,
        device: str = "auto",
    ):
        self._models = models_folder(folder)
        self._name, self.parts, self.expected = options["encoder"], options["parts"], dict(identity)
        self._files, self._device = dict((published or {}).get(self._name, {})), device
        self._encoder: Deca | None = None

    def of(self, place: Place) -> tuple[dict[str, torch.Tensor], str]:
        """``code`` (1, Dc) of a face, and where it is from.

        Latents beside the faces file of a row are taken where they are of the right encoder;
        every other face is encoded.

        Raises:
            ValueError: the encoder is not there or is another one than the model was trained
                with, or the face's landmarks are unknown or unusable; the message names the face.
        """
        stored = self._stored(place)
        if stored is not None:
            return {"code": stored}, "latents"
        if place.landmarks is None:
            raise ValueError(
                f"{place.source}: this model is conditioned on 3-D codes, which need the face's 68 "
                "landmarks; found none"
            )
        codes, detected = codes_of_faces(self._open(), place.patch[None], place.landmarks[None])
        if not detected[0]:
            raise ValueError(f"{place.source}: expected landmarks of a face, found no usable ones")
        return {"code": code_rows(codes, self.parts)}, f"encoder {self._name}"

    def _stored(self, place: Place) -> torch.Tensor | None:
        """The row's code in the latents beside its faces file, None where there is none."""
        if place.faces is None:
            return None
        name = Path(place.faces).name.replace("shard-", "part-").replace(".h5", ".parquet")
        file = Path(place.faces).resolve().parent.parent / "latents" / self._name / name
        if not file.is_file():
            return None
        reader = LatentsReader(file)
        person, index = place.facts["person"], place.facts["row"]
        if reader.identity != self.expected or person not in reader.persons:
            return None
        row = reader.row(person, index)
        if not reader.detected[row]:
            return None
        return code_rows(reader.read([row]), self.parts)

    def _open(self) -> Deca:
        if self._encoder is None:
            head = self._models.parent / HEAD
            files = self._files or {"folder": str(self._models / self._name)}
            if not head.is_file():
                raise ValueError(f"{head}: this model is told 3-D codes; expected the head model")
            try:
                made = open_encoder(head, **files, device=self._device)
            except FileNotFoundError as error:
                raise ValueError(
                    f"this model is told 3-D codes of encoder {self._name!r}: {error}; for "
                    "published weights give the configuration that names them (--config)"
                ) from None
            found = encoder_identity(made)
            wrong = [key for key, value in self.expected.items() if found[key] != value]
            if wrong:
                raise ValueError(
                    f"encoder {self._name!r}: {wrong[0]}: the model was trained with "
                    f"{self.expected[wrong[0]]}, found {found[wrong[0]]}"
                )
            self._encoder = made
        return self._encoder


class SourceCrop:
    """Where a face's codes are read from, by its landmarks.

    Args:
        of_kind: as those of :class:`SourceCodes`; nothing of them is needed.
    """

    def __init__(self, *of_kind: object):
        pass

    def of(self, place: Place) -> tuple[dict[str, torch.Tensor], str]:
        """``crop`` (1, 3, 3) of a face, and where it is from.

        Raises:
            ValueError: the face's landmarks are unknown or unusable; the message names the face.
        """
        if place.landmarks is None:
            raise ValueError(
                f"{place.source}: this model is told a rendered head, which needs the face's 68 "
                "landmarks; found none"
            )
        height, width = place.patch.shape[:2]
        crop, known = place_of_crops(place.landmarks[None], (width, height))
        if not known[0]:
            raise ValueError(f"{place.source}: expected landmarks of a face, found no usable ones")
        return {"crop": crop}, "landmarks"
