"""What methods read of pictures besides pixels and labels: one class per kind, and where files are.

A kind that is new is an entry of :data:`KINDS` and a class; rules, loaders and commands find it
here. Importable without torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from regaze.factors import CODED, factors_named
from regaze.outputs import several
from regaze.redirectors.declaration import Declaration, Input

if TYPE_CHECKING:
    from torch import Tensor

    from regaze.faces import FacesReader


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        shard: path of a shard of it, with ``{dataset}``, ``{shard}`` and names of options.
        reader: ``module:class``, a :class:`FaceInput`.
        options: names of its options, all of which a declaration gives.
        sections: for options that name an entry of the configuration, its section.
        mirrored: whether it is known of mirrored pictures as well.
        of_photo: ``module:class`` that makes it of a single photo, constructed with ``(options,
            folder, identity, published, device)``: the model's folder, the identity of its
            training's values, published files by name of an entry; ``of(place)`` gives values
            (1, ...) by column and where they are from. Empty where nothing does.
    """

    shard: str
    reader: str
    options: tuple[str, ...]
    sections: Mapping[str, str]
    mirrored: bool = False
    of_photo: str = ""


KINDS = {
    "codes": Kind(
        "results/{dataset}/latents/{encoder}/part-{shard}.parquet",
        "regaze.codes.condition:CodeRows",
        ("encoder", "parts"),
        {"encoder": "encoders"},
        of_photo="regaze.redirect.codes:SourceCodes",
    ),
    "crops": Kind(
        "results/{dataset}/faces/shard-{shard}.h5",
        "regaze.face3d.crop_rows:CropRows",
        (),
        {},
        of_photo="regaze.redirect.codes:SourceCrop",
    ),
    "masks": Kind(
        "results/{dataset}/masks/shard-{shard}.h5",
        "regaze.masks.condition:MaskRows",
        ("names",),
        {},
        mirrored=True,
        of_photo="regaze.redirect.masks:SourceMasks",
    ),
    "eye_regions": Kind(
        "results/{dataset}/masks/shard-{shard}.h5",
        "regaze.masks.regions:EyeRegionRows",
        ("classes", "crop"),
        {},
        mirrored=True,
        of_photo="regaze.redirect.regions:SourceRegions",
    ),
    "inversions": Kind(
        "results/{dataset}/inversions/{inverter}/shard-{shard}.h5",
        "regaze.redirectors.inversion.rows:InversionRows",
        ("inverter", "size_px", "code", "of"),
        {"inverter": "models"},
        mirrored=True,
    ),
}
"""``codes``: 3-D face codes, options ``encoder`` and ``parts``, column ``code`` (B, Dc). ``crops``:
where the square lies that these are read from, column ``crop`` (B, 3, 3), from the picture in
[-1, 1] to pixels of a crop of 224 px. ``masks``:
parts of the face, option ``names`` (of ``head`` and ``eyes``), column ``masks`` (B, names, h, w),
shares of each pixel. ``eye_regions``: classes of the face painted from masks and landmarks, options
``classes`` (6 or 7) and ``crop`` (``eye_strip`` or ``face``), columns ``parts`` (B, H, W) of the
patch and ``place`` (B, 4) of what is shown of it. ``inversions``: what an inverter, an entry of
class ``inversion``, makes of faces that are trained on, options its name, side and numbers of a
code, and ``of``, whether the code is the ``picture``'s or its ``inversion``'s; columns ``inverted``
(B, 3, S, S) in [-1, 1] and ``offsets`` (B, code)."""


_SECTIONS = ("estimators", "encoders", "models", "identity", "assets")
_SIDES = {"source", "target", "unlabelled"}


def check_names(declaration: Declaration) -> None:
    """Refuse a declaration that nobody could deliver.

    Raises:
        ValueError: an unknown factor, an unknown kind of input or one that is declared twice, other
            options than it has, a role twice or one that is no name, an unknown section.
    """
    for what, names in (
        ("kinds of input", [one.kind for one in declaration.inputs]),
        ("roles of networks", [one.role for one in declaration.networks]),
        ("files of weights", [one.key for one in declaration.starts]),
    ):
        if len(set(names)) < len(names):
            raise ValueError(f"declares {what} {names}; expected each once")
    for name in declaration.factors:
        if name not in (known := factors_named(CODED)):
            raise ValueError(f"declares factor {name!r}; expected some of {', '.join(known)}")
    for one in declaration.inputs:
        if one.kind not in KINDS:
            raise ValueError(f"declares input {one.kind!r}; expected one of {', '.join(KINDS)}")
        expected = KINDS[one.kind].options
        if set(one.options) != set(expected):
            raise ValueError(
                f"declares input {one.kind!r} with options {list(one.options)}; expected "
                f"{list(expected)}"
            )
        if "source" not in one.sides or not set(one.sides) <= _SIDES:
            found = list(one.sides)
            raise ValueError(
                f"declares input {one.kind!r} of {found}; expected ['source'], with 'target' or not"
            )
        if "unlabelled" in one.sides and not declaration.unlabelled:
            raise ValueError(
                f"declares input {one.kind!r} of unlabelled pictures, from which it does not learn"
            )
    for one in declaration.networks:
        # Rules name them as Python names variables.
        if not one.role.isidentifier():
            raise ValueError(
                f"declares a network as {one.role!r}; expected a name as of a variable"
            )
        if one.section not in _SECTIONS:
            raise ValueError(
                f"declares the {one.role} as one of {one.section!r}; expected one of "
                f"{', '.join(_SECTIONS)}"
            )


class FaceInput(Protocol):
    """Values of one kind for the rows of a data set.

    Constructed with ``(options, files, faces, expect)``: the options of the declaration, shards,
    the faces that they belong to, and the ``identity`` that a trained model's record has, or None.

    Attributes:
        columns: names of what is read.
        in_memory: trainings hold the values of all their rows.
        known: (N,) bool, rows that have it. Others are never trained on.
        identity: what the values were made with; a model takes those of its training's only.
    """

    columns: tuple[str, ...]
    in_memory: bool
    known: np.ndarray
    identity: dict[str, str]

    def read(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Values of rows by column, (n, ...); any for rows that are not known."""
        ...

    def fingerprint(self) -> str:
        """16 hex digits over all values."""
        ...

    @staticmethod
    def write_example(
        path: str | PathLike, options: Mapping, faces: FacesReader, known: np.ndarray
    ) -> None:
        """Write a shard of made-up values of all faces, which tests of methods read.

        ``known`` (N,) bool says which rows have any.
        """
        ...

    @staticmethod
    def finish(values: Tensor, size_px: int, flip: Tensor | None) -> Tensor:
        """Values (B, ...) as networks take them, on their device.

        ``flip`` (B,) bool says which pictures are mirrored; None: none.
        """
        ...


def shards(one: Input, dataset: str, numbers: Sequence[str]) -> list[str]:
    """Files of an input of a data set, a path per number of a shard."""
    pattern = KINDS[one.kind].shard
    return [pattern.format(dataset=dataset, shard=number, **one.options) for number in numbers]


def folder_of(one: Input, dataset: str) -> str:
    """The folder of an input's files of a data set."""
    return str(Path(shards(one, dataset, [""])[0]).parent)


def given_inputs(files, prefix: str = "input_") -> dict[str, list[str]]:
    """Shards by kind among the inputs of a rule, where they are called ``input_<kind>``."""
    return {
        name.removeprefix(prefix): several(value)
        for name, value in files.items()
        if name.startswith(prefix)
    }


def given_view(files) -> dict[str, list[str]]:
    """Shards among the inputs of a rule of the model's own view, ``view``, and ``view_masks``."""
    return {name: several(files[name]) for name in ("view", "view_masks") if files.get(name)}


@dataclass(frozen=True)
class NetworkFile:
    """Where a network lies that is not a model folder, or needs more than that.

    Attributes:
        path: its file, or its model folder.
        options: of an asset its name as ``asset``, and ``sha256`` where it is the user's own; of a
            published encoder those of :func:`regaze.face3d.encode.open_encoder`. Empty of what is
            trained here.
        head: the head model of encoders.
    """

    path: str
    options: Mapping[str, str] = field(default_factory=dict)
    head: str | None = None

    @property
    def weights(self) -> Path:
        """The file of its weights."""
        return Path(self.path) if self.options else Path(self.path, "model.safetensors")


def given_networks(files, options: Mapping[str, Mapping] | None = None) -> dict[str, NetworkFile]:
    """Networks by role among the inputs of a rule, where weights are called ``network_<role>``.

    Args:
        files: named inputs; ``head_of_networks`` is the head model of encoders.
        options: those of :class:`NetworkFile` by role.
    """
    found = {}
    for name, path in files.items():
        if not name.startswith("network_"):
            continue
        own = (options or {}).get(role := name.removeprefix("network_"), {})
        place = str(path if own else Path(path).parent)
        found[role] = NetworkFile(place, own, files.get("head_of_networks"))
    return found


def open_inputs(
    declaration: Declaration,
    files: Mapping[str, Sequence[str | PathLike]],
    faces: FacesReader,
    expect: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, FaceInput]:
    """Open all inputs of a declaration for the faces of a data set.

    Args:
        declaration: of the method.
        files: shards by kind.
        faces: whose rows the inputs are of.
        expect: identities by kind, of the record of a trained model; None takes any, as does a
            kind that a model of published weights has none of.

    Raises:
        ValueError: an input is declared and no files of it were given, or they cannot be used.
    """
    found = {}
    for one in declaration.inputs:
        if not files.get(one.kind):
            raise ValueError(
                f"{one.kind}: this model is conditioned on them; expected their files, found none"
            )
        wanted = None if expect is None else expect.get(one.kind)
        found[one.kind] = reader_of(one.kind)(one.options, files[one.kind], faces, wanted)
    return found


def reader_of(kind: str) -> type[FaceInput]:
    """The class of a kind."""
    return _named(KINDS[kind].reader)


def maker_of(kind: str) -> Callable | None:
    """The class that makes a kind of a single photo, None where there is none."""
    return _named(KINDS[kind].of_photo) if KINDS[kind].of_photo else None


def _named(path: str) -> type:
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)
