"""A training step of ReDirTrans-GAN with cached inversions against the published order.

    OMP_NUM_THREADS=1 python benchmarks/inversions.py
    OMP_NUM_THREADS=1 python benchmarks/inversions.py --encoder e4e --batch 1 --repeats 2
    python benchmarks/inversions.py --encoder e4e --batch 8 --device cuda

The published order inverts both pictures of a pair in every step: it encodes and draws them and
encodes what was drawn. With the input `inversions` both are read. Same weights, batch and draws of
noise; a step is losses, gradients and Adam. `compact` are the networks of preset `small` at 64 px,
`e4e` the published encoder and a generator of 256 px with weights of chance. Times on a CPU are the
process's own.
"""

from __future__ import annotations

import argparse
import copy
import platform

import torch
from clock import now

from regaze.redirectors.base import build_redirector
from regaze.redirectors.inversion.settings import ModelSettings as Inversion
from regaze.redirectors.redirtrans_gan.settings import ModelSettings
from regaze.training.phases import Progress

ENTRIES = {
    "compact": ({"preset": "small", "size_px": 64}, {"code": 1280, "code_of": "inversion"}),
    "e4e": (
        {"preset": "reference", "size_px": 256, "network": {"generator_px": 256}},
        {"code": 14 * 512},
    ),
}
SIDES = ("source", "target")


def built(given):
    """The redirector, its inverter attached."""
    entry, network = ENTRIES[given.encoder]
    torch.manual_seed(0)
    config = Inversion(**{"class": "inversion", **entry}).resolve()
    inverter = build_redirector(config).to(given.device).eval().requires_grad_(False)
    # The published terms that need no estimator: of both directions where `both_ways` is asked for.
    told = {"label_source": "dataset", "redirection_gaze": 0.0, "redirection_feature": 0.0}
    told["both_ways"] = given.both_ways
    entry = {"preset": entry["preset"], "size_px": entry["size_px"], "inverter": "inverter"}
    entry |= {"class": "redirtrans_gan", "network": network, "objective": told}
    made = build_redirector(ModelSettings(**entry).resolve()).to(given.device)
    made.attach({"inverter": inverter})
    return made


def batches(made, given):
    """A batch without inversions, and the same with them."""
    size, drawn = made.config["size_px"], torch.Generator().manual_seed(0)
    plain = {}
    for side in SIDES:
        plain[side] = torch.rand((given.batch, 3, size, size), generator=drawn) * 2 - 1
        for name in ("gaze", "head"):
            plain[f"{side}_{name}"] = torch.rand((given.batch, 2), generator=drawn) - 0.5
    plain = {name: value.to(given.device) for name, value in plain.items()}
    stored = dict(plain)
    for side in SIDES:
        own = made.frozen.code(plain[side])
        stored[f"{side}_inverted"] = seen = made.frozen.inverted(plain[side], own)
        stored[f"{side}_offsets"] = own if made._own else made.frozen.code(seen)
    return plain, stored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", choices=[*ENTRIES], default="compact")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--both-ways", action="store_true", help="each encoding used twice")
    given = parser.parse_args()
    made = built(given)
    start = copy.deepcopy(made.net.state_dict())
    best, losses = [], []
    for batch in batches(made, given):
        made.net.load_state_dict(start)
        optimiser = torch.optim.Adam(made.net.parameters(), lr=1e-4)
        spent, found = [], []
        for step in range(given.repeats):
            begun = now(given.device)
            loss = made.losses(batch, "main", Progress(step, 0, torch.Generator()))["loss"]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            spent.append(now(given.device) - begun)
            found.append(loss.item())
        best.append(min(spent))
        losses.append(torch.tensor(found))
    apart = ((losses[0] - losses[1]).abs() / losses[0].abs()).max()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {platform.machine()}")
    print("| encoder | batch | published order, s | cached, s | ratio | losses differ by |")
    print("|---|---|---|---|---|---|")
    row = given.encoder, given.batch, *best, best[0] / best[1], float(apart)
    print("| {} | {} | {:.3f} | {:.3f} | {:.2f} | {:.1e} |".format(*row))


if __name__ == "__main__":
    main()
