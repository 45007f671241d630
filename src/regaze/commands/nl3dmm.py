"""``regaze head fit``: codes of HeadNeRF's head model from photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regaze.commands import LANDMARKS, known_settings


def fit(
    photos: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    model: Annotated[
        Path,
        typer.Option(
            help="Folder with HeadNeRF's nl3dmm_dict.pkl, nl3dmm_net_dict.pth, "
            "nl_3dmm_topo_info.npz, LandMarkInfo.pkl and skinmask.npy, or its checkout."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the squares and their fits.")] = Path(
        "nl3dmm"
    ),
    size: Annotated[int, typer.Option(min=64, help="Side of the squares in pixels.")] = 512,
    compared: Annotated[
        int, typer.Option(min=32, help="Side at which pictures are compared in the fit.")
    ] = 256,
    landmarks: LANDMARKS = None,
) -> None:
    """Fit the head model that published HeadNeRF weights are told.

    Of every face a square PNG, its landmarks (_lm2d.txt) and its codes and camera (_nl3dmm.pkl) are
    written, under the names that HeadNeRF's own programs look for.
    """
    from tqdm import tqdm

    from regaze.face3d.nl3dmm import load_nl3dmm
    from regaze.face3d.nl3dmm_fit import STAGES, fit_square, square_photo, write_square
    from regaze.face3d.photo_faces import faces_of_photo, list_photos
    from regaze.landmarks.detectors import configured_detector

    try:
        made, find = load_nl3dmm(model), None
        if landmarks is None:
            known = known_settings(None)
            chosen = known and (known.landmarks, known.assets)
            find = configured_detector(*(chosen or (None, None)), "auto").all_faces
        for photo in [one for place in photos for one in list_photos(place)]:
            faces = faces_of_photo(photo, landmarks=landmarks, find=find)
            for face in faces:
                square, marks = square_photo(face, size)
                with tqdm(total=sum(steps for steps, _ in STAGES), desc=photo.name) as bar:
                    found = fit_square(
                        made, square, marks, compared, lambda step, loss, bar=bar: bar.update()
                    )
                name = face.name if len(faces) == 1 else face.folder
                for path in write_square(out, name, square, marks, found):
                    typer.echo(path)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
