"""Published fields with published codes: heads drawn without a workflow around them.

Codes are those of HeadNeRF's files: ``LatentCodes_*.pth``, what a fit of the field leaves, or
``*_nl3dmm.pkl``, what a fit of its head model does, with the camera of the photo.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regaze.codes import CODES
from regaze.face3d.nl3dmm_fit import read_fit
from regaze.images import to_uint8
from regaze.redirectors.gazenerf.cameras import fitted_camera, frontal_camera
from regaze.redirectors.gazenerf.checkpoints import read_published
from regaze.redirectors.gazenerf.field import HeadField
from regaze.redirectors.gazenerf.rays import Camera
from regaze.redirectors.gazenerf.settings import CODE_PARTS
from regaze.weights import load_strictly, torch_content

NL3DMM_SHAPE = 179
"""Numbers of identity and expression in ``*_nl3dmm.pkl``; the others are colours."""

_LAYOUTS = ((100, 79, 100, 27), tuple(CODES[part] for part in CODE_PARTS))
"""Numbers of the parts of codes, of NL3DMM and of our encoders."""
_POINT, _DIRECTION = 63, 27
_SAMPLES = 64


@dataclass(frozen=True)
class HeadCodes:
    """Codes of one head.

    Attributes:
        shape, appearance: (1,s) and (1,a).
        camera: rotation and centre, and intrinsic matrix in pixels of the photo, where it is known.
    """

    shape: Tensor
    appearance: Tensor
    camera: tuple[Tensor, Tensor, Tensor] | None = None

    def seen(self, side: int, photo: int | None = None) -> Camera:
        """The camera that a head was fitted in, or the published one.

        Args:
            side: of the feature map.
            photo: side of the photo in pixels; None: twice its principal point.
        """
        if self.camera is None:
            return frontal_camera(side)
        rotation, centre, matrix = self.camera
        size = photo or 2 * float(matrix[0, 2])
        return fitted_camera(rotation[None], centre[None], matrix[None], side / size)


def read_codes(path: str | Path) -> HeadCodes:
    """Codes of a head from either file; nothing in it is executed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is something else, or codes are missing, of another shape or not finite.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected codes of a head, found no such file")
    if Path(path).suffix == ".pkl":
        fit = read_fit(path)
        shape, appearance = fit.code[None].tensor_split([NL3DMM_SHAPE], 1)
        return HeadCodes(shape, appearance, (fit.c2w_Rmat, fit.c2w_Tvec, fit.inmat))
    content = torch_content(path)
    code = content.get("code") if isinstance(content, Mapping) else None
    if not isinstance(code, Mapping):
        raise ValueError(f"{path}: expected a file of codes, with code, found {_words(content)}")
    found = {}
    for name in ("shape_code", "appea_code"):
        value = code.get(name)
        if not isinstance(value, Tensor) or value.dim() != 2 or len(value) != 1:
            raise ValueError(f"{path}: {name}: expected numbers (1, n), found {_words(value)}")
        if not torch.isfinite(value).all():
            raise ValueError(f"{path}: {name}: expected finite numbers, found NaN or infinity")
        found[name] = value.detach().float()
    return HeadCodes(found["shape_code"], found["appea_code"])


def _words(value) -> str:
    if isinstance(value, Mapping):
        return str(sorted(map(str, value))[:8])
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"shape {tuple(shape)}"


def parts_of(codes: HeadCodes) -> dict[str, int]:
    """Numbers of the four parts of codes: of the published head model, or of our encoders.

    Raises:
        ValueError: codes of neither.
    """
    found = codes.shape.shape[1], codes.appearance.shape[1]
    for sizes in _LAYOUTS:
        if found == (sum(sizes[:2]), sum(sizes[2:])):
            return dict(zip(CODE_PARTS, sizes, strict=True))
    told = " or ".join(f"{sum(one[:2])} and {sum(one[2:])}" for one in _LAYOUTS)
    raise ValueError(
        f"codes: expected {told} numbers, whose parts are known, found {found[0]} and {found[1]}"
    )


def with_part(first: HeadCodes, second: HeadCodes, part: str, share: float = 1.0) -> HeadCodes:
    """The first head with a share of a part of the second one's code, seen as it was.

    Raises:
        ValueError: no such part, or codes differ in length.
    """
    sizes = parts_of(first)
    if parts_of(second) != sizes:
        lengths = [one.shape.shape[1] + one.appearance.shape[1] for one in (first, second)]
        raise ValueError(f"take: expected codes of {lengths[0]} numbers, found {lengths[1]}")
    if part not in sizes:
        raise ValueError(f"take: expected one of {', '.join(sizes)}, found {part!r}")
    own, theirs = (
        torch.cat([one.shape, one.appearance], 1).split(list(sizes.values()), 1)
        for one in (first, second)
    )
    made = [
        torch.lerp(a, b, share) if name == part else a
        for name, a, b in zip(sizes, own, theirs, strict=True)
    ]
    return HeadCodes(torch.cat(made[:2], 1), torch.cat(made[2:], 1), first.camera)


def open_field(path: str | Path, codes: HeadCodes) -> HeadField:
    """The field of a published checkpoint, whose sizes are told by its weights.

    Args:
        path: the checkpoint.
        codes: what it is to be told.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is something else, or told codes of other lengths.
    """
    state, options = read_published(path)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    names = {key.split(".")[0] for key in state if key.startswith("fg_")}
    prefix = "fg_CD_predictor_face" if "fg_CD_predictor_face" in names else "fg_CD_predictor"
    try:
        first = state[f"{prefix}.FeaExt_module_0.weight"]
        colours = state[f"{prefix}.RGB_layer_1.weight"].shape[1] - len(first)
        channels, side = state["neural_render.bg_featmap"].shape[1:3]
    except KeyError as error:
        raise ValueError(f"{path}: expected the weights of a field, found no {error}") from None
    doublings = sum(key.startswith("neural_render.feat_layers.") for key in state) // 2
    branch = state.get(f"{prefix}.gaze_layers.Gaze_FeaExt_module_0.weight")
    told = first.shape[1] - _POINT - codes.shape.shape[1]
    seen = colours - codes.appearance.shape[1]
    if told < 0 or seen not in (0, _DIRECTION):
        raise ValueError(
            f"{path}: expected codes of {first.shape[1] - _POINT} and {colours} numbers, found "
            f"{codes.shape.shape[1]} and {codes.appearance.shape[1]}"
        )
    variant, rays, near = "headnerf_gazecat" if told else "headnerf", told, True
    if prefix.endswith("face"):
        variant = "gazenerf"
    elif branch is not None:
        # Without points there are 1 + G + 2 numbers, with them 63 more.
        near = branch.shape[1] > _POINT + 3
        variant, rays = "headnerf_gaze", branch.shape[1] - 3 - (_POINT if near else 0)
    field = HeadField(
        variant,
        size_px=int(side * 2**doublings),
        side=int(side),
        channels=int(channels),
        hidden=len(first),
        samples=int(options.get("num_sample_coarse", _SAMPLES)),
        shape=codes.shape.shape[1],
        appearance=codes.appearance.shape[1],
        gaze_dim=rays,
        near_points=near,
        directions=seen == _DIRECTION,
    )
    load_strictly(field, state, str(path))
    return field.eval().requires_grad_(False)


def pictures(
    field: HeadField, codes: HeadCodes, camera: Camera, gaze: tuple[float, float] = (0.0, 0.0)
) -> Iterator[np.ndarray]:
    """Pictures (S,S,3) uint8 of a head from cameras, one after the other.

    Args:
        field: the field.
        codes: of the head.
        camera: B of them.
        gaze: pitch and yaw in radians, in the frame that the field learnt; a field without gaze
            takes no notice.

    Raises:
        ValueError: a camera looks away.
    """
    asked = torch.tensor([gaze])
    eyes = torch.zeros(1, 1, field.side, field.side) if field.variant == "headnerf_gaze" else None
    for row in range(len(camera.rotation)):
        one = Camera(*(value[row : row + 1] for value in vars(camera).values()))
        with torch.no_grad():
            heads = field.prepare(one, codes.shape, codes.appearance)
            made = field(heads, asked, eyes=eyes, names=("image",))["image"]
        yield to_uint8(2 * made - 1)[0]
