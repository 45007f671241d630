"""Atlases of evaluated persons, which the report links to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regaze.estimators.store import load_estimator
from regaze.faces import FacesReader
from regaze.outputs import replacing
from regaze.page.atlas import CELLS, make_atlas
from regaze.page.faces import row_face
from regaze.page.html import atlas_page
from regaze.pairs import read_pairs
from regaze.redirect.run import Redirection


def write_atlas(
    out: str | Path,
    folder: str | Path,
    *,
    faces: Sequence[str | Path],
    pairs: str | Path,
    estimator: str | Path,
    sampling: Mapping[str, Any],
    persons: int,
) -> None:
    """Write a page with the first evaluated persons as a method redirects them.

    Args:
        out: HTML file to write.
        folder: model folder.
        faces: shards of the data set.
        pairs: pairs parquet; the first source of each person is shown.
        estimator: folder of the one that measures.
        sampling: options of sampling, the workflow's and the entry's.
        persons: how many; all, where there are fewer.

    Raises:
        FileNotFoundError, ValueError: see the functions used.
    """
    home = {person: path for path in faces for person in FacesReader([str(path)]).persons}
    table = read_pairs(pairs).drop_duplicates("person").iloc[:persons]
    rows = [
        f"{home[person]}:{person}/{index}"
        for person, index in zip(table["person"], table["source_index"], strict=True)
    ]
    engine = Redirection(folder, sampling, load_estimator(estimator), "cpu")
    shown = [row_face(row, engine) for row in rows]
    atlases = [(one.name, make_atlas(one, engine)) for one in shown]
    name = engine.record["name"]
    about = (
        f"Drawn beforehand by {name} ({engine.fingerprint}) for {CELLS**2} directions; measured by "
        f"{engine.estimator.record.get('name')}. Degrees: up, and to the left of the picture."
    )
    page = atlas_page(atlases, title=f"{name}: faces that follow the pointer", about=about)
    with replacing(out) as part:
        part.write_text(page, encoding="utf-8")
