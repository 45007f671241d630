"""What methods there are and what they do, in words: ``regaze methods``."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from regaze.methods import distribution_of, method_module, methods
from regaze.redirectors.declaration import MethodSettings, declared


def describe_methods() -> Iterator[tuple[str, list[str], bool]]:
    """Every method: its name, lines about it, and whether it cannot be used."""
    for name, package in methods().items():
        own = distribution_of(name)
        lines = [f"package: {package}, of {f'{own.name} {own.version}' if own else 'regaze'}"]
        try:
            settings = method_module(name, "settings").ModelSettings
            method_module(name, "redirector")
        except ValueError as error:
            yield name, [*lines, f"cannot be used: {error}"], True
            continue
        try:
            entry = settings.model_validate({"class": name})
        except ValidationError as error:
            needed = [".".join(map(str, one["loc"])) for one in error.errors()]
            yield name, [*lines, f"needs options: {', '.join(needed)}"], False
            continue
        yield name, lines + describe_entry(entry), False


def describe_entry(entry: MethodSettings) -> list[str]:
    """Lines about an entry of ``models:``, from its declaration."""
    own = declared(entry)
    inputs = [
        f"{one.kind} ({', '.join(f'{key}: {_text(value)}' for key, value in one.options.items())})"
        f" of {' and '.join(one.sides)}"
        for one in own.inputs
    ]
    networks = [
        f"{one.role} {one.section}.{one.entry} ({'always' if one.always else 'in training'})"
        for one in own.networks
    ]
    can = {
        "samples in steps": own.denoises,
        "can be guided": own.guidable,
        "can be shown several sources": own.several_sources,
        "learns from unlabelled targets": own.unlabelled_targets,
        "learns from a second data set without labels": own.unlabelled,
    }
    told = {
        "condition": own.condition,
        "edits": ", ".join(own.factors),
        "reads": "; ".join(["pictures and labels", *inputs]),
        "uses": "; ".join(networks) or "no other network",
        "besides": ", ".join(what for what, does in can.items() if does) or "nothing",
    }
    return [f"{what}: {text}" for what, text in told.items()]


def _text(value) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
