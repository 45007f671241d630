"""Checks of pictures: of what they depend, and of what they do not."""

from __future__ import annotations

import torch

from regaze.factors import FACTORS
from regaze.redirectors.base import (
    divided,
)
from regaze.redirectors.bench import BATCH, Bench
from regaze.redirectors.checks.common import (
    CLOSE,
    NotApplicable,
    expect,
    finite,
    loss_of,
    pictures_of,
    rows_of,
    same,
)


def check_pictures(bench: Bench) -> None:
    """Pictures are (B, 3, H, W) in [-1, 1], and are told what they cost and came of."""
    redirector, batch = bench.woken(), bench.asked()
    made = pictures_of(redirector, batch)
    wanted = (len(batch["pair"]), 3, bench.size, bench.size)
    expect(tuple(made.shape) == wanted, f"expected {wanted}, found {tuple(made.shape)}")
    finite(made)
    most = float(made.abs().max())
    expect(most <= 1 + 1e-6, f"expected values from -1 to 1, found {most:.4g}")
    cost = redirector.evaluations_per_image()
    expect(isinstance(cost, int) and cost >= 1, f"evaluations_per_image: found {cost!r}")
    size = redirector.bytes_per_image()
    expect(size is None or size > 0, f"bytes_per_image: expected None or bytes, found {size!r}")
    told = redirector.describe_sampling()
    missing = {"sampler", "guidance"} - set(told)
    expect(not missing, f"describe_sampling: lacks {', '.join(sorted(missing))}")
    for name, value in told.items():
        plain = isinstance(value, str | int | float)
        expect(plain, f"describe_sampling: {name}: expected text or a number, found {value!r}")


def check_rows_alone(bench: Bench) -> None:
    """A picture depends on its row, pair and seed, not on size or order of its batch."""
    redirector, batch = bench.woken(), bench.asked()
    torch.manual_seed(5)
    whole = pictures_of(redirector, batch)
    count = len(whole)
    for rows in ([count - 1], [2, 0], list(range(count))[::-1]):
        torch.manual_seed(6 + len(rows))
        told = f"pictures of rows {rows} alone and among {count}"
        same(pictures_of(redirector, rows_of(batch, rows)), whole[rows], told)


def check_seed(bench: Bench) -> None:
    """The same seed gives the same pictures, whatever else was drawn at random before."""
    redirector, batch = bench.woken(), bench.asked()
    torch.manual_seed(5)
    first = pictures_of(redirector, batch)
    torch.manual_seed(6)
    expect(torch.equal(first, pictures_of(redirector, batch)), "other pictures of the same seed")


def check_edit_of_invert(bench: Bench) -> None:
    """``redirect`` is ``edit`` of ``invert``, which see neither target's picture nor each other."""
    redirector, batch = bench.woken(), bench.asked()
    whole = pictures_of(redirector, batch)
    source, target = divided(batch)
    with torch.no_grad():
        state = redirector.invert(source, seed=0)
        first = redirector.edit(state, target, seed=0)
        # A sweep asks one state for many pictures.
        redirector.edit(state, {**target, "target_gaze": target["target_gaze"] + 0.2}, seed=0)
        again = redirector.edit(state, target, seed=0)
    same(first, whole, "edit of invert, and redirect", 1e-5)
    same(again, first, "the same edit after another one of the same state", 0)


def check_one_source(bench: Bench) -> None:
    """The state of one source makes the pictures that a row per target makes."""
    redirector, batch = bench.woken(), bench.asked()
    source, target = divided(batch)
    alone = {name: value[:1] for name, value in source.items()}
    many = {name: value[:1].expand_as(value) for name, value in source.items()}
    with torch.no_grad():
        wanted = redirector.edit(redirector.invert(many, seed=0), target, seed=0)
        found = redirector.edit(redirector.invert(alone, seed=0), target, seed=0)
        same(found, wanted, "pictures of one source, and of as many of it as targets")
        requests = bench.requests()
        sources, targets = requests.to("cpu")
        chosen = requests.of_requests(redirector.invert(sources, seed=0))
        made = redirector.edit(chosen, targets, seed=0)
    same(made, pictures_of(redirector, batch), "pictures of the sources that a state holds in rows")


def check_mirroring(bench: Bench) -> None:
    """What is trained with mirrored pairs gets pictures, labels and inputs mirrored together.

    That a network makes the mirrored picture of them is what it learns by it, and nothing that an
    untrained one could be asked for.
    """
    if not bench.config.get("objective", {}).get("flip"):
        raise NotApplicable("objective.flip: it is not trained with mirrored pairs")
    bench.pairs(flip=True)
    everyone = torch.ones(BATCH, dtype=torch.bool)
    plain, turned = bench.batch(), bench.batch(flip=everyone)
    asked = {"pair": torch.arange(BATCH)}
    for name, value in plain.items():
        column = name.partition("_")[2]
        if column in ("gaze", "head"):
            value = value * value.new_tensor((1.0, -1.0))
        elif value.ndim > 2:
            value = value.flip(-1)
        same(turned[name], value, f"{name} of mirrored pairs", 1e-6)
    redirector = bench.woken()
    for phase in redirector.phases():
        loss = loss_of(redirector, turned, phase)
        told = f"phase {phase.name}: loss of mirrored pairs is {loss.detach()}"
        expect(bool(loss.isfinite()), told)
    made = [pictures_of(redirector, one | asked) for one in (plain, turned)]
    changed = float((made[1] - made[0]).abs().max())
    expect(changed > CLOSE, "pictures of mirrored pairs are those of the pairs")


def check_angles(bench: Bench) -> None:
    """Pitch and yaw exchanged change the picture, of every direction that it edits."""
    redirector, batch = bench.woken(), bench.asked()
    pitch_and_yaw = [name for name, one in FACTORS.items() if one.parts == ("pitch", "yaw")]
    named = [name for name in pitch_and_yaw if name in bench.declaration.factors]
    if not named:
        raise NotApplicable("factors: it edits no direction")
    whole = pictures_of(redirector, batch)
    for name in named:
        key = f"target_{name}"
        other = pictures_of(redirector, {**batch, key: batch[key].flip(1)})
        changed = float((other - whole).abs().max())
        expect(changed > 1e-4, f"{name}: exchanged pitch and yaw change no picture")
