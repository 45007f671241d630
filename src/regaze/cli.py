"""The ``regaze`` command: what users want without the workflow."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from regaze.commands.diffusionrig import diffusionrig_app
from regaze.commands.edit import edit
from regaze.commands.exchange import exchange_app
from regaze.commands.export import export
from regaze.commands.face3d import face3d
from regaze.commands.fit import fit
from regaze.commands.gcgan import gcgan_app
from regaze.commands.head import head_app
from regaze.commands.page import page
from regaze.commands.photo_check import photo_check
from regaze.commands.redirect import redirect

_FILES = Annotated[
    list[Path] | None, typer.Argument(help="Configuration files; default config.yaml.")
]
_CHECK = Annotated[Path | None, typer.Option(help="Compare with this file instead of printing.")]

app = typer.Typer(
    help="Gaze and head redirection.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(head_app, name="head")
app.add_typer(exchange_app, name="exchange")
app.add_typer(gcgan_app, name="gcgan")
app.add_typer(diffusionrig_app, name="diffusionrig")
app.command("face3d")(face3d)
app.command("fit")(fit)
app.command("photo-check")(photo_check)
app.command("redirect")(redirect)
app.command("edit")(edit)
app.command("export")(export)
app.command("page")(page)


@app.command()
def schema(
    check: _CHECK = None,
) -> None:
    """Print the JSON schema of config.yaml."""
    from regaze.settings import json_schema

    text = json_schema()
    if check is None:
        sys.stdout.write(text)
    elif not check.exists() or check.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{check} is not the schema of regaze.settings; run `make schema`")


@app.command()
def dvc(
    files: _FILES = None,
    check: _CHECK = None,
    augmentation: Annotated[
        bool, typer.Option(help="Also the study of few labels, which is no part of `all`.")
    ] = False,
) -> None:
    """Print dvc.yaml, the workflow's stages for DVC."""
    from regaze.configfiles import read_config
    from regaze.versioning import dvc_yaml

    chosen = files or [Path("config.yaml")]
    _settings(chosen)
    text = dvc_yaml(read_config(chosen), augmentation)
    if check is None:
        sys.stdout.write(text)
    elif not check.exists() or check.read_text(encoding="utf-8") != text:
        told = " ".join(map(str, chosen))
        line = ["regaze dvc", *map(str, files or []), *(["--augmentation"] if augmentation else [])]
        raise SystemExit(f"{check} does not describe {told}; run `{' '.join(line)} > {check}`")


@app.command()
def provenance(
    results: Annotated[list[Path], typer.Argument(help="Files or folders of results/.")],
) -> None:
    """Print how results came about, back to raw files. Exit status 1 if a file is another one."""
    from regaze.tracing.chain import ProvenanceError, trace

    faults: list[str] = []
    for result in results:
        try:
            chain = trace(result)
        except ProvenanceError as error:
            raise SystemExit(str(error)) from None
        typer.echo("\n".join(chain.lines))
        faults += [fault for fault in chain.faults if fault not in faults]
    for fault in faults:
        typer.echo(f"wrong: {fault}", err=True)
    if faults:
        raise typer.Exit(1)


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Configuration files, later ones on top.")],
) -> None:
    """Check configuration files without running anything."""
    settings = _settings(files)
    typer.echo(f"valid: {len(settings.models)} models, {len(settings.estimators)} estimators")


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="HDF5, parquet or JSON file.")],
    sheet: Annotated[
        Path | None,
        typer.Option(help="Draw pictures with their labels into this PNG; without it none is."),
    ] = None,
    rows: Annotated[
        int, typer.Option(min=1, max=1000, help="Pictures to look at, and to draw.")
    ] = 48,
) -> None:
    """Say what a file holds: kind, schema, counts, label ranges, order of channels."""
    from regaze.inspection import InspectError, inspect_file, show

    try:
        show(inspect_file(file, rows=rows, sheet=sheet), sys.stdout)
    except InspectError as error:
        raise SystemExit(str(error)) from None


@app.command("posthoc-ema")
def posthoc_ema(
    model: Annotated[Path, typer.Argument(help="Model folder trained with train.ema_std.")],
    std: Annotated[float, typer.Option(help="Relative width of the average, as 0.08.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default the model's, with -std<width>.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Average as of so many training images; default the end.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="State folder with ema/; default results/state/<model>.")
    ] = None,
) -> None:
    """Write a model whose weights are averaged with another width, from stored snapshots."""
    from regaze.training.posthoc import write_posthoc

    chosen = out or model.with_name(f"{model.resolve().name}-std{std:g}")
    try:
        made = write_posthoc(model, chosen, std, images=images, state=state)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    used, seen = (made["average"][key] for key in ("snapshots_used", "images"))
    typer.echo(f"{chosen}: std {std:g} at {seen} images, mixed from {used} snapshots")


@app.command("test-method")
def test_method(
    entry: Annotated[str, typer.Argument(help="Entry of models.")],
    config: Annotated[
        list[Path] | None,
        typer.Option(help="Configuration file, later ones on top; default config.yaml."),
    ] = None,
) -> None:
    """Check a method at tiny size, on data that are made up. Exit status 1 if a check fails."""
    # Bytes are compared, and GPUs add up in any order. Seen by torch only before its import.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from tempfile import TemporaryDirectory

    from regaze.redirectors.bench import Bench
    from regaze.redirectors.checks import run_checks, table

    settings = _settings(config or [Path("config.yaml")])
    if entry not in settings.models:
        known = ", ".join(settings.models) or "none"
        raise SystemExit(f"no entry {entry!r} of models; there are: {known}")
    with TemporaryDirectory(prefix="regaze-") as folder:
        bench = Bench(entry, settings.models, settings.estimators, folder)
        failed = []
        for outcome in run_checks(bench):
            typer.echo(table(outcome))
            failed += [outcome.check] if outcome.state == "failed" else []
    if failed:
        raise SystemExit(f"{entry}: failed: {', '.join(failed)}")


@app.command()
def methods(
    config: Annotated[
        list[Path] | None,
        typer.Option(help="Also the entries of models of this configuration file."),
    ] = None,
) -> None:
    """List the methods there are, and what they do as far as their default options tell.

    Exit status 1 if one cannot be used.
    """
    from regaze.redirectors.listing import describe_entry, describe_methods

    faulty = False
    for name, lines, fault in describe_methods():
        faulty |= fault
        typer.echo("\n".join([name, *(f"  {line}" for line in lines)]))
    for name, entry in (_settings(config).models if config else {}).items():
        typer.echo("\n".join([f"models.{name}", *(f"  {line}" for line in describe_entry(entry))]))
    if faulty:
        raise typer.Exit(1)


@app.command()
def assets(
    files: _FILES = None,
) -> None:
    """List the files that users bring: present, missing or wrong. Exit status 1 if any is wrong."""
    from regaze.assets import KNOWN, check

    chosen = _settings(files or [Path("config.yaml")]).assets
    states = []
    for name in type(chosen).model_fields:
        file = getattr(chosen, name)
        states.append(check(name, file.path, file.sha256))
        state = states[-1]
        typer.echo(f"{state.state:8} {name}: {state.path} ({state.detail})")
        if state.state != "present":
            typer.echo(f"         for {KNOWN[name].purpose}; {KNOWN[name].how}")
    if any(state.state == "wrong" for state in states):
        raise typer.Exit(1)


def _settings(files: list[Path]):
    """The checked settings of configuration files; a fault ends the command."""
    from regaze.configfiles import read_settings
    from regaze.settings import ConfigurationError

    try:
        return read_settings(files)
    except ConfigurationError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    app()
