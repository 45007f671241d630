"""The edit of a code: projector, turns, deprojector.

Layouts are those of lintsao/2023_Summer_Intern (``models/redirtrans.py``), at any sizes. Its
composition in ``st_ed_adv.py`` takes both residuals from the turned embeddings, so that nothing is
edited; here the residual of the source is that of its own embeddings, as in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regaze.redirectors.sted.embeddings import Factors
from regaze.weights import state_dict_of, torch_content

PARTS = ("redirtrans_p", "redirtrans_dp", "fusion", "discriminator")
"""State dicts of a published file; the last two may be absent."""


def edit_factors(columns: int = 16, code: int = 0) -> Factors:
    """Head and gaze, their embeddings 3 x ``columns``, behind ``code`` numbers that do not turn."""
    turned = ((2, columns), (2, columns))
    return EditFactors(((0, code), *turned) if code else turned)


class EditFactors(Factors):
    """Factors whose code is an intermediate, not something that two pictures should share."""

    def canonical(self, embeddings: Tensor, angles: Tensor) -> Tensor:
        """Embeddings of head and gaze alone, turned back by their own angles."""
        dof, code = self.shapes[0]
        return super().canonical(embeddings, angles)[:, 0 if dof else code :]


class Projector(nn.Module):
    """``redirtrans_p``: a code to angles of head and gaze, and embeddings that turn with them.

    Args:
        code: numbers of a code; 9216 are the 18 rows of a W+ code.
        columns: of the 3 x n embedding of each factor.
        hidden: width of both branches.
    """

    def __init__(self, code: int = 9216, columns: int = 16, hidden: int = 96):
        super().__init__()
        self.pseudo, self.label_branch = nn.Linear(code, hidden), nn.Linear(hidden, 4)
        self.embedding, self.branch = nn.Linear(code, hidden), nn.Linear(hidden, 6 * columns)

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return angles (B,4) within +-pi/2 and embeddings (B, 6 columns), head before gaze."""
        told = self.label_branch(F.leaky_relu(self.pseudo(codes), 0.01))
        embeddings = self.branch(F.leaky_relu(self.embedding(codes), 0.01))
        return (math.pi / 2) * torch.tanh(told.float()), embeddings.float()


class Deprojector(nn.Module):
    """``redirtrans_dp``: embeddings of head and gaze to what they add to a code.

    Args:
        code: numbers of a code.
        columns: of the 3 x n embedding of each factor.
        hidden: width.
        rows: of a code, whose edits then have a learnt weight each, ``row_weights``; 0: none, as in
            published files.
    """

    def __init__(self, code: int = 9216, columns: int = 16, hidden: int = 128, rows: int = 0):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6 * columns, hidden), nn.Linear(hidden, code)
        self.row_weights = nn.Parameter(torch.ones(rows)) if rows else None

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return residuals (B, code) of embeddings (B, 6 columns)."""
        return self.fc2(F.leaky_relu(self.fc1(embeddings), 0.01))

    def start(self, size: float) -> None:
        """Begin with residuals of about this size in place of PyTorch's; 0 changes nothing.

        What is weak at first is learnt late: with PyTorch's own start, a turn of gaze changes the
        map of an untrained code by as much as the map's numbers vary.
        """
        if size:
            nn.init.kaiming_normal_(self.fc1.weight)
            nn.init.normal_(self.fc2.weight, std=size * self.fc2.in_features**-0.5)

    def edited(self, codes: Tensor, own: Tensor, moved: Tensor) -> Tensor:
        """Codes (B, code) without what their own embeddings say, with what moved ones say.

        The bias of the last layer cancels: nothing but weight decay moves it.
        """
        if self.row_weights is None:
            return codes + self(moved) - self(own)
        change = (self(moved) - self(own)).unflatten(1, (len(self.row_weights), -1))
        return codes + (self.row_weights[:, None] * change).flatten(1)


class Fusion(nn.Module):
    """``fusion``: flat codes (B, code) to ``rows`` rows of 512; only the first variants used it."""

    def __init__(self, code: int = 9216, rows: int = 1):
        super().__init__()
        self.fc1 = nn.Linear(code, 512 * rows)

    def forward(self, codes: Tensor) -> Tensor:
        """Return (B, rows, 512)."""
        return self.fc1(codes).unflatten(1, (-1, 512))


def read_parts(path: str | Path) -> dict[str, Mapping[str, Tensor]]:
    """Read a published ``<step>.pt``: those of :data:`PARTS` that it has, ``module.`` kept.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, is cut off, or lacks projector or deprojector.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint of ReDirTrans, found no such file")
    content = torch_content(path)
    found = sorted(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    if not isinstance(content, Mapping) or not {*PARTS[:2]} <= {*content}:
        raise ValueError(f"{path}: expected the parts {' and '.join(PARTS[:2])}, found {found}")
    return {
        name: state_dict_of(content[name], f"{path}: {name}") for name in PARTS if name in content
    }
