"""Files that users bring because their terms do not let them be shipped: find, verify, fetch.

Nothing is fetched unless asked for, and what is fetched must have the checksum that is recorded
here or in the configuration before it gets its name.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from regaze.outputs import replacing
from regaze.provenance import file_sha256

MOST_BYTES = 4 << 30
"""Largest download; what claims or sends more is refused."""

_TIMEOUT = 60.0
_PUBLISHED = re.compile(r"-([0-9a-f]{8,64})\.")


class AssetError(ValueError):
    """An asset that is missing, is not what it should be, or cannot be fetched."""


@dataclass(frozen=True)
class Asset:
    """A file that the workflow knows how to use.

    Attributes:
        name: key in the configuration's ``assets``.
        file_name: name under which it is published. By the convention of PyTorch's hub the digits
            between its last hyphen and the next dot are the first ones of the SHA-256.
        purpose: what it is for, in a few words.
        licence: who says what may be done with it.
        how: how to get it, one sentence.
        url: where it is published; None when it cannot be fetched without an agreement.
        sha256: full checksum; None when only the digits in ``file_name`` are known.
    """

    name: str
    file_name: str
    purpose: str
    licence: str
    how: str
    url: str | None = None
    sha256: str | None = None

    @property
    def checksum(self) -> str | None:
        """All known first digits of the SHA-256: 64, or those in the file's name, or None."""
        published = _PUBLISHED.search(self.file_name)
        return self.sha256 or (published.group(1) if published else None)


_RESEARCH = "whose pictures are for research only"


def _face_alignment(part: str, file_name: str, purpose: str, trained_on: str, sha256: str) -> Asset:
    url = f"https://www.adrianbulat.com/downloads/python-fan/{file_name}"
    fetched = "set landmarks.fetch: true in the configuration to have it downloaded and verified"
    return Asset(
        name=f"face_alignment_{part}",
        file_name=file_name,
        purpose=purpose,
        licence="of 1adrianb/face-alignment (code BSD-3-Clause); trained on "
        f"{trained_on}, {_RESEARCH}",
        how=f"download {url}, or {fetched}",
        url=url,
        sha256=sha256,
    )


def _torchvision(name: str, file_name: str, weights: str) -> Asset:
    return Asset(
        name=name,
        file_name=file_name,
        purpose=f"the metric {name.removesuffix('_alexnet').removesuffix('16')}",
        licence=f"of pytorch/vision (code BSD-3-Clause); trained on ImageNet, {_RESEARCH}",
        how=f"torchvision's {weights}.IMAGENET1K_V1.get_state_dict() leaves it in the cache of "
        "torch.hub",
    )


# The names carry the publisher's own ten digits; the full digests agree with them, and are the
# ones that several unrelated projects which verify these downloads have recorded.
KNOWN: Mapping[str, Asset] = {
    asset.name: asset
    for asset in (
        _face_alignment(
            "landmarks",
            "2DFAN4-11f355bf06.pth.tar",
            "68 landmarks on photos without head poses",
            "300W-LP",
            "11f355bf0693120222f5955ce3f9dc8fb5763ebb30a47d7906e509490d32e4aa",
        ),
        _face_alignment(
            "detector",
            "s3fd-619a316812.pth",
            "faces on photos, for the landmarks",
            "WIDER FACE",
            "619a31681264d3f7f7fc7a16a42cbbe8b23f31a256f75a366e5a1bcd59b33543",
        ),
        _torchvision("lpips_alexnet", "alexnet-owt-7be5be79.pth", "AlexNet_Weights"),
        _torchvision("lpips_vgg16", "vgg16-397923af.pth", "VGG16_Weights"),
        Asset(
            name="inception",
            file_name="pt_inception-2015-12-05-6726825d.pth",
            purpose="the metric fid",
            licence="of tensorflow/models (Apache-2.0), converted by mseitzer/pytorch-fid; trained "
            f"on ImageNet, {_RESEARCH}",
            how="it is among the releases of mseitzer/pytorch-fid, whose command leaves it in the "
            "cache of torch.hub",
        ),
    )
}


NETWORKS = ("lpips_alexnet", "lpips_vgg16", "inception")
"""Assets that are networks of pictures, which methods may use; :mod:`regaze.perceptual`."""


class AssetFile(BaseModel):
    """Where one asset is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description="the file")
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="checksum of a file of your own; default that of the published one",
    )


def _place(name: str, folder: str, description: str) -> Any:
    default = AssetFile(path=f"assets/{folder}/{KNOWN[name].file_name}")
    return Field(default, description=description)


class AssetSettings(BaseModel):
    """The files that users bring; ``regaze assets`` lists what is there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    face_alignment_landmarks: AssetFile = _place(
        "face_alignment_landmarks",
        "face-alignment",
        "2DFAN-4 of face-alignment 1.5: landmarks on photos without head poses",
    )
    face_alignment_detector: AssetFile = _place(
        "face_alignment_detector",
        "face-alignment",
        "S3FD of face-alignment 1.5: faces on photos, for the landmarks",
    )
    lpips_alexnet: AssetFile = _place("lpips_alexnet", "lpips", "torchvision's AlexNet, for lpips")
    lpips_vgg16: AssetFile = _place("lpips_vgg16", "lpips", "torchvision's VGG-16, for lpips_vgg")
    inception: AssetFile = _place("inception", "fid", "Inception of pytorch-fid, for fid")


@dataclass(frozen=True)
class AssetState:
    """What :func:`check` found: ``state`` is ``present``, ``missing`` or ``wrong``."""

    name: str
    path: Path
    state: str
    detail: str


def _known(name: str) -> Asset:
    if name not in KNOWN:
        raise AssetError(f"assets: expected one of {', '.join(KNOWN)}, found {name!r}")
    return KNOWN[name]


def check(name: str, path: str | Path, sha256: str | None = None) -> AssetState:
    """Return whether an asset's file is there and has the checksum it should have.

    Args:
        name: key of :data:`KNOWN`.
        path: where the file should be.
        sha256: 64 hex digits of a file of the user's own, instead of the published one's.

    Raises:
        AssetError: an unknown name.
    """
    asset, path = _known(name), Path(path)
    if not path.is_file():
        return AssetState(name, path, "missing", "a folder" if path.is_dir() else "no such file")
    expected = sha256 or asset.checksum
    found = file_sha256(path)
    if expected is None:
        return AssetState(name, path, "present", f"SHA-256 {found}, nothing to compare it with")
    if not found.startswith(expected.lower()):
        return AssetState(
            name, path, "wrong", f"expected {_digits(expected)}, found {found[: len(expected)]}"
        )
    return AssetState(name, path, "present", f"{_digits(expected)} agrees")


def _digits(expected: str) -> str:
    return f"SHA-256 {'' if len(expected) == 64 else 'beginning with '}{expected}"


def require(name: str, path: str | Path, sha256: str | None = None) -> Path:
    """Return the path of an asset that is there and is the right file.

    Raises:
        AssetError: it is missing or another file; the message names the file, where it was looked
            for, what it is for and how to get it.
    """
    state = check(name, path, sha256)
    if state.state == "present":
        return state.path
    raise AssetError(_complaint(_known(name), state))


def missing(name: str, path: str | Path) -> str:
    """Return why an asset cannot be used as far as can be told without reading it, or ``""``."""
    path = Path(path)
    if path.is_file():
        return ""
    return _complaint(_known(name), AssetState(name, path, "missing", "no such file"))


def _complaint(asset: Asset, state: AssetState) -> str:
    if state.state == "missing":
        return (
            f"assets.{asset.name}: expected {asset.file_name} at {state.path.absolute()}, found "
            f"none ({state.detail}); it is for {asset.purpose}. To get it: {asset.how}. "
            f"Terms: {asset.licence}."
        )
    return (
        f"assets.{asset.name}: {state.path.absolute()} is not {asset.file_name}: {state.detail}. "
        f"To get it: {asset.how}. For a file of your own give its checksum as "
        f"assets.{asset.name}.sha256."
    )


def fetch(
    name: str,
    path: str | Path,
    sha256: str | None = None,
    *,
    url: str | None = None,
    most_bytes: int = MOST_BYTES,
    schemes: tuple[str, ...] = ("https",),
) -> Path:
    """Download an asset, verify it, and only then give it its name.

    A right file that is there already is left alone; any other is not touched and is an error.

    Args:
        name: key of :data:`KNOWN`.
        path: where the file goes.
        sha256: 64 hex digits to expect instead of the recorded ones.
        url: a mirror to take it from; default where it is published.
        most_bytes: larger downloads are refused.
        schemes: what may be downloaded with, redirections included.

    Raises:
        AssetError: no address or no checksum is known, another scheme, the server refuses, more
            bytes than allowed, or another checksum. Nothing is left on disk then.
    """
    asset, path = _known(name), Path(path)
    state = check(name, path, sha256)
    if state.state == "present":
        return path
    if state.state == "wrong" or os.path.lexists(path):
        raise AssetError(f"{_complaint(asset, state)} It is in the way of the download.")
    address, expected = url or asset.url, sha256 or asset.checksum
    if address is None:
        raise AssetError(f"assets.{name}: cannot be downloaded; to get it: {asset.how}")
    if expected is None:
        raise AssetError(f"assets.{name}.sha256: needed to verify a download, found none")
    where = f"assets.{name}: {address}"
    _check_scheme(where, address, schemes)
    try:
        with (
            _opener(where, schemes).open(address, timeout=_TIMEOUT) as answer,
            replacing(path) as part,
        ):
            found = _save(where, answer, part, most_bytes)
            if not found.startswith(expected.lower()):
                raise AssetError(
                    f"{where}: expected {_digits(expected)}, found {found}; nothing was kept"
                )
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise AssetError(f"{where}: download failed: {reason}; to get it: {asset.how}") from error
    return path


def _check_scheme(where: str, address: str, schemes: tuple[str, ...]) -> None:
    scheme = urllib.parse.urlsplit(address).scheme
    if scheme not in schemes:
        raise AssetError(f"{where}: expected {' or '.join(schemes)}, found {scheme or 'none'!r}")


def _opener(where: str, schemes: tuple[str, ...]) -> urllib.request.OpenerDirector:
    class Redirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, request, file, code, message, headers, address):
            _check_scheme(where, address, schemes)
            return super().redirect_request(request, file, code, message, headers, address)

    return urllib.request.build_opener(Redirect)


def _save(where: str, answer, part: Path, most_bytes: int) -> str:
    """Write an answer's bytes and return their SHA-256."""
    claimed = answer.headers.get("Content-Length")
    if claimed is not None and claimed.isdecimal() and int(claimed) > most_bytes:
        raise AssetError(f"{where}: expected at most {most_bytes} bytes, found {claimed}")
    digest, size = hashlib.sha256(), 0
    with open(part, "xb") as file:
        while block := answer.read(1 << 20):
            size += len(block)
            if size > most_bytes:
                raise AssetError(f"{where}: expected at most {most_bytes} bytes, found more")
            digest.update(block)
            file.write(block)
    if claimed is not None and claimed.isdecimal() and size != int(claimed):
        raise AssetError(f"{where}: expected {claimed} bytes, found {size}")
    return digest.hexdigest()
