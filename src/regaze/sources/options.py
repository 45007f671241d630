"""What every data set can be told in the configuration. Light: the Snakefile imports it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Shares(BaseModel):
    """A split by shares of the persons; who is where follows from a hash of seed and name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    val: float = Field(0.0, ge=0, le=1, description="share of persons for choosing checkpoints")
    test: float = Field(ge=0, le=1, description="share of persons that numbers are reported of")

    @model_validator(mode="after")
    def _sum(self):
        if self.val + self.test > 1.0:
            raise ValueError(f"val and test: {self.val} + {self.test} is more than 1")
        return self


class SourceOptions(BaseModel):
    """One entry of ``datasets``: the part that all kinds share.

    ``normalised`` tells that the release holds patches, not photos; ``deserted`` names the parts
    of its own split that have nobody.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    normalised: ClassVar[bool] = False
    deserted: ClassVar[tuple[str, ...]] = ()

    root: str = Field(description="folder, or file, of the data set")
    split: str | Shares | None = Field(
        None,
        description="split JSON, or shares of persons such as {val: 0.1, test: 0.2}; default "
        "<root>/split.json or what the data set itself says",
    )

    watch: Literal["files", "folders"] = Field(
        "files",
        description="what is looked at, at each start, to notice other photos: each file that is "
        "read, or folders alone, where a million files take too long; those do not tell of a file "
        "that was overwritten in its place",
    )

    def needs_landmarks(self) -> bool:
        """Whether head poses have to be found from the photos, by a landmark detector."""
        return False

    def brings_landmarks(self) -> bool:
        """Whether the landmarks are known already and do not have to be looked for."""
        return False

    def files(self) -> dict[str, str]:
        """Files besides ``root`` on which the data set's faces depend, by the option's name."""
        return {}


class PhotoOptions(SourceOptions):
    """The part that all kinds with photos share."""

    undistort_camera: Literal["same", "centred"] = Field(
        "same",
        description="new camera matrix of the undistortion; centred as in upstream's MPIIGaze file",
    )


class BarePhotoOptions(PhotoOptions):
    """The part that kinds share whose photos come without head poses."""

    landmarks: str | None = Field(
        None,
        description="CSV of landmarks: file_name, x0, y0, ..., x67, y67 (pixels of the photo as it "
        "is shown, turned as its EXIF data say); default: they are looked for",
    )

    def needs_landmarks(self) -> bool:
        """Head poses always have to be found."""
        return True

    def brings_landmarks(self) -> bool:
        """Whether there is a table of landmarks, so that none have to be looked for."""
        return self.landmarks is not None

    def files(self) -> dict[str, str]:
        """The table of landmarks, when there is one."""
        return {} if self.landmarks is None else {"landmarks": self.landmarks}


class ReleasedOptions(SourceOptions):
    """The part that all releases of normalised patches share."""

    normalised: ClassVar[bool] = True

    copy_pixels: bool = Field(
        False,
        description="copy the patches instead of pointing to them, for results that stand alone",
    )
    check_pixels: Literal["ends", "all"] = Field(
        "ends", description="patches that are decoded once to see that they can be read"
    )
