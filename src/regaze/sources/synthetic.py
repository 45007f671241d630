"""Photos that the workflow renders itself, in GazeCapture's layout; see :mod:`regaze.capture`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from regaze.capture_settings import CaptureChanges
from regaze.sources.gazecapture import LabelledFrames, labelled
from regaze.sources.options import PhotoOptions
from regaze.sources.records import SourceError
from regaze.sources.supplementary import SUPPLEMENTARY_NAMES


class Options(PhotoOptions):
    """A data set that is rendered as the section ``capture`` says, and its own one over it."""

    source: Literal["synthetic"] = Field(description="photos rendered by the workflow")
    root: str | None = Field(None, description="set by the workflow: the folder it renders to")
    capture: CaptureChanges = Field(  # type: ignore[valid-type]
        CaptureChanges(), description="options of capture that this data set has others of"
    )

    def brings_landmarks(self) -> bool:
        """The renderer knows them."""
        return True

    @model_validator(mode="after")
    def _own_split(self):
        if self.split is not None:
            raise ValueError(
                "split: expected none, since source 'synthetic' is rendered with its own, "
                f"found {self.split!r}"
            )
        return self


def open_source(options: Options, supplementary=None) -> LabelledFrames:
    """Open a rendered capture at ``options.root``.

    Raises:
        SourceError: there is no such capture.
    """
    if options.root is None:
        raise SourceError("root: expected the folder of the rendered capture, found none")
    labels = supplementary or Path(options.root) / SUPPLEMENTARY_NAMES[0]
    return labelled(options.root, options.source, labels)
