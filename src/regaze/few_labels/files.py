"""The augmented faces file, and its export as ST-ED's code reads it."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import h5py
import numpy as np

from regaze.faces import COMPRESSION, FacesReader
from regaze.images import equalise
from regaze.outputs import replacing


def export_upstream(faces: str | PathLike, output: str | PathLike) -> None:
    """Write an augmented faces file in the layout of ST-ED's ``Redirected_samples.h5``.

    A group per person with ``real`` (M,) 0/1, ``gaze`` (M,2), ``head`` (M,2) radians and ``image``
    (M,3,H,W) R,G,B in [-1,1], all float32, a chunk per row, each real sample before its redirected
    ones (``zhengyuf/STED-gaze``, ``train_st_ed.py``). Its reader takes pictures as they are, so
    their luminance is equalised as ST-ED does on reading all others. Pictures are rounded to 8 bits
    and compressed by gzip, not lzf, for the reason given in :mod:`regaze.faces`; readers see no
    difference.

    Raises:
        ValueError: the file has no dataset ``real``, so it is no augmented one.
    """
    reader = FacesReader(faces)
    if not reader.has("real"):
        raise ValueError(f"{faces}: expected an augmented faces file, found no dataset 'real'")
    with replacing(Path(output)) as part, h5py.File(part, "w") as file:
        for person in reader.persons:
            rows = reader.rows([person])
            labels = reader.labels[rows]
            pictures = equalise(reader.pixels(rows)).transpose(0, 3, 1, 2).astype(np.float32)
            columns = {
                "real": reader.dataset("real", rows).astype(np.float32),
                "gaze": labels[:, :2],
                "head": labels[:, 2:4],
                "image": pictures * np.float32(2 / 255) - 1,
            }
            group = file.create_group(person)
            for name, values in columns.items():
                chunks = (1, *values.shape[1:])
                group.create_dataset(name, data=values, chunks=chunks, **COMPRESSION)
