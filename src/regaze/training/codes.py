"""3-D codes for the training of a redirector that is told them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from regaze.faces import FacesReader
from regaze.redirectors.base import Redirector
from regaze.redirectors.face_codes import FaceCodes

log = logging.getLogger("regaze.training")


def training_codes(
    redirector: Redirector, latents: Sequence[str], reader: FacesReader, persons: Sequence[str]
) -> FaceCodes | None:
    """Codes of the data set, whose statistics over the training rows the redirector then holds.

    Args:
        redirector: to be trained.
        latents: shards of the data set's latents.
        reader: faces of the data set.
        persons: whom to train on.

    Returns:
        None for a redirector that is told none.

    Raises:
        ValueError: latents are needed and not given, or none of the persons' faces has any.
    """
    if not redirector.needs.latents:
        return None
    if not latents:
        raise ValueError("latents: this model is told 3-D codes; expected their files, found none")
    codes = FaceCodes(latents, reader, redirector.config["deca"]["parts"])
    rows = reader.rows(persons)
    known = rows[codes.detected[rows]]
    if not len(known):
        raise ValueError(f"{', '.join(latents)}: none of {len(rows)} training faces has a code")
    log.info(
        "3-D codes of %s; %d of %d training faces have none and are not drawn",
        *(codes.identity["encoder"], len(rows) - len(known), len(rows)),
    )
    redirector.standardise(torch.from_numpy(codes.read(known)))
    return codes
