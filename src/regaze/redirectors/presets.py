"""Options of a method with presets: each is written once, with its type, limits and default."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model


class Section(BaseModel):
    """Options of one section of an entry; the defaults are those of the preset ``reference``."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def differences(options: type[Section]) -> type[BaseModel]:
    """The same options as a configuration has them: None where they are the preset's."""
    fields: dict[str, Any] = {}
    for name, field in options.model_fields.items():
        field = copy(field)
        field.default = None
        fields[name] = (field.annotation | None, field)
    name = options.__name__.replace("Options", "Settings")
    about = {"__module__": options.__module__, "__doc__": options.__doc__}
    return create_model(name, __base__=Section, **about, **fields)


def derived(base: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A preset from another one: sections are merged, other values replaced."""
    return {
        key: {**value, **changes.get(key, {})}
        if isinstance(value, Mapping)
        else changes.get(key, value)
        for key, value in base.items()
    }


def chosen(settings: BaseModel, preset: Mapping[str, Any], *sections: str) -> dict[str, dict]:
    """Sections of an entry, with what it leaves out filled in from a preset."""
    return {
        name: {**preset[name], **getattr(settings, name).model_dump(exclude_none=True)}
        for name in sections
    }


def in_tiny_networks(entry: BaseModel, **changes: Any) -> Any:
    """An entry with its own objective in the networks of the preset ``tiny``, 32 px a side.

    Args:
        entry: of ``models:``, with sections ``network`` and ``objective``.
        changes: what else of it is another.
    """
    objective = type(entry.objective)(**entry.options()["objective"])
    tiny = {"preset": "tiny", "size_px": 32, "network": type(entry.network)()}
    return entry.model_copy(update={**tiny, "objective": objective, **changes})
