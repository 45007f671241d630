"""The part of the configuration that is about rendered photos. Light: the Snakefile imports it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator

DETAILS = {
    "glasses": ("glasses; plain: one in six", None, 0.3),
    "lenses": ("of those with glasses: lenses that reflect lights, some tinted", 0.0, 0.75),
    "highlights": ("eyes that reflect windows, lamps and screens in place of one spot", 0.0, 1.0),
    "irises": ("irises of mixed colours, fibres and limbal rings, whites of many shades", 0.0, 1.0),
    "pupils": ("pupils of 2 to 7 mm instead of 3.6 to 5.4", 0.0, 1.0),
    "lids": ("upper lids that follow 0.55 to 0.9 of looks up and down alike", 0.0, 1.0),
    "lashes": ("single lashes, besides the line that they make", 0.0, 0.9),
    "make_up": ("of feminine persons: eyeliner, shadow, mascara", 0.0, 0.45),
    "skin": ("brows, lid creases, wrinkles and tones of a wider spread", 0.0, 1.0),
    "light": ("light from frontal and flat to hard from the side, warm to cold", 0.0, 0.8),
    "camera": ("noise, blur, white balance and compression of a cheap camera", 0.0, 0.8),
    "squint": ("eyes from wide open to half closed instead of open ones", 0.0, 1.0),
}  # fmt: skip
"""What the option adds, and the share of persons who have it in ``plain`` and in ``varied``."""


def shares(appearance: str, details: Mapping[str, float | None]) -> dict[str, float | None]:
    """Share of persons, 0..1, per name of ``DETAILS``: the preset's unless ``details`` says one.

    None for ``glasses`` leaves them as they are drawn with a person's other traits.
    """
    column = {"plain": 1, "varied": 2}[appearance]
    preset = {name: row[column] for name, row in DETAILS.items()}
    return preset | {name: share for name, share in details.items() if share is not None}


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CapturePersons(Section):
    """How many people are rendered for each part of the split."""

    train_redirector: int = Field(
        160, ge=1, le=19999, description="redirectors and training estimators"
    )
    train_evaluator: int = Field(100, ge=1, le=19999, description="the evaluation estimator only")
    val: int = Field(8, ge=1, le=19999, description="choice of checkpoints")
    test: int = Field(25, ge=1, le=19999, description="reported numbers")


def _share(name: str) -> Any:
    about, _, varied = DETAILS[name]
    return Field(None, ge=0, le=1, description=f"{about} ({varied:g} in varied)")


class Details(Section):
    """Shares of persons, 0 to 1, who have a detail of appearance; null: as the preset says."""

    glasses: float | None = _share("glasses")
    lenses: float | None = _share("lenses")
    highlights: float | None = _share("highlights")
    irises: float | None = _share("irises")
    pupils: float | None = _share("pupils")
    lids: float | None = _share("lids")
    lashes: float | None = _share("lashes")
    make_up: float | None = _share("make_up")
    skin: float | None = _share("skin")
    light: float | None = _share("light")
    camera: float | None = _share("camera")
    squint: float | None = _share("squint")


class Capture(Section):
    """What the synthetic source renders."""

    persons: CapturePersons = CapturePersons()
    head_poses: int = Field(4, ge=1, description="head poses per person")
    gazes: int = Field(4, ge=1, description="gaze directions per head pose, the same for all")
    expressions: int = Field(
        0,
        ge=0,
        description="further photos per head pose, of its first gaze, with another expression",
    )
    lights: int = Field(
        0, ge=0, description="further photos per head pose, of its first gaze, in another light"
    )
    head_range: tuple[float, float] = Field(
        (15.0, 20.0), description="largest pitch and yaw of heads, degrees"
    )
    gaze_range: tuple[float, float] = Field(
        (15.0, 20.0),
        description="largest pitch and yaw of gaze, degrees; eyes turn 5 and 8 further in the head",
    )
    appearance: Literal["plain", "varied"] = Field(
        "plain", description="varied: people, light and cameras of a more realistic spread"
    )
    details: Details = Details()
    photo: int = Field(
        240, ge=64, le=2000, multiple_of=2, description="short side of the photos in pixels, even"
    )
    focal: float = Field(470.0, gt=50, description="mean focal length of the cameras in pixels")
    quality: int = Field(95, ge=50, le=100, description="JPEG quality")
    threads: int = Field(
        16, ge=1, description="photos rendered at a time, no more than there are cores"
    )
    head_model: str | None = Field(
        None,
        description=".npz of `regaze head convert-ict` or `regaze head build` to render instead "
        "of the procedural head, or of `regaze head convert` for published encoders",
    )

    @field_validator("head_range", "gaze_range")
    @classmethod
    def _possible(cls, given, info):
        low, high = ((0, 0), (40, 60)) if info.field_name == "head_range" else ((2, 2), (30, 40))
        if not all(a <= value <= b for a, value, b in zip(low, given, high, strict=True)):
            raise ValueError(
                f"expected pitch from {low[0]} to {high[0]} and yaw from {low[1]} to {high[1]} "
                f"degrees, found {list(given)}"
            )
        return given

    @property
    def photos_of_person(self) -> int:
        """Photos that are rendered of a person."""
        return self.head_poses * (self.gazes + self.expressions + self.lights)

    def over(self, changes: BaseModel) -> Capture:
        """These options with those of a ``CaptureChanges`` in their place.

        Raises:
            pydantic.ValidationError: they do not go together.
        """
        return Capture.model_validate(_merged(self.model_dump(), changes.model_dump()))


def _merged(base: dict, above: Mapping) -> dict:
    told = {key: value for key, value in above.items() if value is not None}
    nested = {k: _merged(base[k], v) for k, v in told.items() if isinstance(v, Mapping)}
    return base | told | nested


def _changes(options: type[Section], *without: str) -> type[Section]:
    """The same options, None where they are those of ``capture``."""
    fields: dict[str, Any] = {}
    for name, field in options.model_fields.items():
        if name in without:
            continue
        kind, field = field.annotation, copy(field)
        field.default = None
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = _changes(kind)
            field.default = kind()
            fields[name] = (kind, field)
        else:
            fields[name] = (kind | None, field)
    about = {"__module__": __name__, "__doc__": f"What is other than in {options.__name__}."}
    return create_model(f"{options.__name__}Changes", __base__=Section, **about, **fields)


# one head model is shared by all captures and encoders
CaptureChanges = _changes(Capture, "head_model", "threads")
"""What an entry of ``datasets`` may say of its own photos: ``capture`` has the rest."""
