"""Text files of labels, a photo to a line, and cameras that were calibrated."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from regaze.sources.records import SourceError

log = logging.getLogger(__name__)


class AnnotatedRows:
    """Rows of one person, of whom a line that cannot be read is a row all the same.

    Args:
        path: the file.
        form: what a line has, for messages, such as ``28 fields``.
    """

    def __init__(self, path: Path, form: str):
        self.path, self.form = path, form
        self.names: list[str] = []
        self.values: list = []
        self.faults: list[str] = []

    def add(self, line: int, name: str, values, fault: str) -> None:
        """Add a row; the log tells of a ``fault``, whose ``values`` are NaN."""
        if fault:
            self.faults.append(f"line {line}: {fault}")
            log.warning("%s: %s", self.path, self.faults[-1])
        self.names.append(name)
        self.values.append(values)

    def columns(self, wanted: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Return N names and (N, k) numbers.

        Raises:
            SourceError: there is no row, where ``wanted`` were expected, or no good one.
        """
        if not self.names:
            raise SourceError(f"{self.path}: expected {wanted}, found none", "missing_key")
        if len(self.faults) == len(self.names):
            raise SourceError(
                f"{self.path}: expected lines of {self.form}, found none in {len(self.faults)}; "
                f"{self.faults[0]}",
                "bad_shape",
                tuple(self.names),
            )
        return tuple(self.names), np.array(self.values)


def pinhole(where: str, matrix: np.ndarray) -> np.ndarray:
    """Return (4,) fx, fy, cx, cy of a camera matrix (3, 3).

    Raises:
        SourceError: it has other terms, or numbers that are not finite.
    """
    camera = matrix[[0, 1, 0, 1], [0, 1, 2, 2]]
    plain = np.array([[camera[0], 0, camera[2]], [0, camera[1], camera[3]], [0, 0, 1]])
    if not (np.isfinite(matrix).all() and np.allclose(matrix, plain, atol=1e-6)):
        raise SourceError(
            f"{where}: expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], found {matrix.tolist()}",
            "bad_camera",
        )
    return camera
