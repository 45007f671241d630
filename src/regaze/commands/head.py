"""``regaze head``: make head models once, from the users' files or from nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from regaze.commands.draw_head import draw
from regaze.commands.nl3dmm import fit

head_app = typer.Typer(
    help="Head models in FLAME's format (.npz), and fits of HeadNeRF's.", no_args_is_help=True
)
head_app.command("fit")(fit)
head_app.command("draw")(draw)

_Optional = Annotated[Path | None, typer.Option(exists=True, dir_okay=False)]


@contextmanager
def _refusing() -> Iterator[None]:
    """A refused file or setting ends the command with its message alone."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None


def _describe(path: Path, model) -> None:
    from regaze.face3d.editions import describe
    from regaze.face3d.model import model_hash

    typer.echo(
        f"{path}: {len(model.v_template)} vertices, {len(model.f)} triangles, "
        f"{model.n_shape_total} identity and {model.n_expression_total} expression directions, "
        f"source {model.meta.get('source')}, sha256 {model_hash(model)}; it is "
        f"{describe(model.meta)}"
    )


@head_app.command()
def convert(
    model: Annotated[Path, typer.Argument(help="generic_model.pkl or flame2023_Open.pkl")],
    landmarks: Annotated[Path, typer.Argument(help="landmark_embedding.npy")],
    out: Annotated[Path, typer.Argument(help="The .npz to write.")],
    template: _Optional = None,
    texture: _Optional = None,
    face_mask: _Optional = None,
    face_eye_mask: _Optional = None,
    displacement: _Optional = None,
    mediapipe: _Optional = None,
    shapes: Annotated[int, typer.Option(help="Identity directions in the model file.")] = 300,
    edition: Annotated[
        str | None,
        typer.Option(help="2020, 2023 or 2023 Open, of a model file that was saved anew."),
    ] = None,
) -> None:
    """Convert a FLAME model and DECA's files around it; pickles are read by an allow-list."""
    from regaze.face3d.convert import convert_flame

    with _refusing():
        made = convert_flame(
            model, landmarks, out, template_obj=template, texture_npz=texture,
            face_mask=face_mask, face_eye_mask=face_eye_mask, displacement_npy=displacement,
            mediapipe_npz=mediapipe, n_shape_total=shapes, edition=edition,
        )  # fmt: skip
    _describe(out, made)


@head_app.command("convert-ict")
def convert_ict_command(
    folder: Annotated[Path, typer.Argument(help="The download of ICT-FaceKit.")],
    out: Annotated[Path, typer.Argument(help="The .npz to write.")],
    commit: Annotated[str | None, typer.Option(help="Commit of the download, recorded.")] = None,
    look_degrees: Annotated[
        float, typer.Option(help="Turn of the eyes that the eyeLook shapes stand for.")
    ] = 30.0,
    teeth: Annotated[bool, typer.Option(help="Take gums, tongue and teeth.")] = False,
) -> None:
    """Convert ICT-FaceKit's light model (MIT) to FLAME's format, for the capture as well."""
    from regaze.capture.ict import convert_ict

    with _refusing():
        made = convert_ict(folder, out, commit=commit, look_degrees=look_degrees, teeth=teeth)
    _describe(out, made)


@head_app.command()
def build(
    out: Annotated[Path, typer.Argument(help="The .npz to write.")],
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write the procedural head, which needs no files."""
    from regaze.capture.head import HeadConfig, build_head
    from regaze.face3d.model import save_flame

    made = build_head(HeadConfig(seed=seed))
    with _refusing():
        save_flame(out, made)
    _describe(out, made)


@head_app.command()
def show(path: Annotated[Path, typer.Argument(help="A head model's .npz.")]) -> None:
    """Check a head model and print its sizes, source and hash."""
    from regaze.face3d.model import load_flame

    with _refusing():
        made = load_flame(path)
    _describe(path, made)
