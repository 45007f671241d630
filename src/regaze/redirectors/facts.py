"""What is known of a method besides its code: ``facts.yaml`` in a method's folder.

The table of ``docs/methods.md`` and the report's published numbers are made from it. It is data, so
that a corrected number trains nothing again. A method may do without.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from regaze.methods import methods

METRICS = {
    "gaze": "Gaze °",
    "head": "Head °",
    "ssim": "SSIM",
    "psnr": "PSNR dB",
    "lpips": "LPIPS",
    "fid": "FID",
    "identity": "Identity × 100",
}
"""Published metrics by key, with their headings."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Published(_Section):
    """Numbers of one experiment as somebody published them."""

    where: str = Field(description="publication in which they stand; whether it re-ran the method")
    protocol: str = Field(description="what was compared with what, by which networks")
    trained: str = Field(description="data set")
    tested: str = Field(description="data set")
    values: dict[str, float] = Field(min_length=1, description="by key of METRICS")

    @field_validator("values")
    @classmethod
    def _known(cls, values):
        if unknown := sorted(values.keys() - METRICS.keys()):
            raise ValueError(f"expected metrics of {', '.join(METRICS)}, found {unknown[0]}")
        return values


class Facts(_Section):
    """What is known of a method."""

    title: str = Field(description="its name in prose")
    works: tuple[str, ...] = Field(
        min_length=1, description="keys of regaze.report.citations.WORKS, the paper first"
    )
    year: int = Field(description="of the paper")
    upstream: str = Field(description="repository of the code that it follows")
    code_licence: str = Field(description="of that code")
    weights_licence: str = Field(description="of published weights")
    published: tuple[Published, ...] = ()
    without: str = Field("", description="why there are no published numbers")


def facts_file(method: str) -> Path | None:
    """Where a method's facts are, None where it brings none.

    Raises:
        ValueError: no such method.
    """
    known = methods()
    if method not in known:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(known)}")
    spec = importlib.util.find_spec(known[method])
    folders = (spec.submodule_search_locations if spec else None) or []
    return next((Path(f, "facts.yaml") for f in folders if Path(f, "facts.yaml").is_file()), None)


def facts_of(method: str) -> Facts | None:
    """The facts of a method, None where it brings none.

    Raises:
        ValueError: no such method, or its file is not as :class:`Facts` says; the message names
            file, field, expectation and finding.
    """
    path = facts_file(method)
    return None if path is None else read_facts(path)


def read_facts(path: Path) -> Facts:
    """Read a ``facts.yaml``; see :func:`facts_of`."""
    try:
        return Facts.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, found: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{path}: {place}: {said}, found {first['input']!r}") from None
