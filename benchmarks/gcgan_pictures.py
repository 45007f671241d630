"""What a trained GC-GAN draws: gazes that can be read in it, classes that agree, how real it is.

    python benchmarks/gcgan_pictures.py --results results --model gcgan --sheet build/gcgan.png

Codes are drawn anew, or are those that the model's encoder reads in people whom nobody has learnt
from; gazes are labels of such people. What is drawn is pasted into pictures of these people, and
the estimator that evaluates all methods reads it there: reading against request gives correlations.
A drawn head is not that of the face that it is pasted into, which moves all readings of a code;
hence each code is drawn with five gazes near the head and correlations within codes are told too.
Classes are compared with those of a parser, a small
network that learns to name the pixels of real eye regions within seconds; its own agreement with
true classes, on real pictures of unseen people, is the most that can be reached. Fréchet distances
are of the estimator's features of the same pasted pictures against the pictures as they were, in
which a generator of drawn weights is the worst and other real eye regions in the same places the
best case.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from regaze.animation import tiled
from regaze.estimators.base import estimate_and_embed
from regaze.estimators.preprocess import prepare
from regaze.estimators.store import load_estimator
from regaze.faces import FacesReader
from regaze.images import to_uint8
from regaze.masks import NUMBER, MasksReader
from regaze.masks.painting import CLASSES, coloured
from regaze.masks.regions import EyeRegionRows
from regaze.metrics.frechet import Moments, frechet_distance
from regaze.redirectors.gcgan.generator import SemanticGenerator
from regaze.redirectors.gcgan.places import cut, feathered, pasted
from regaze.redirectors.gcgan.redirector import GcGan
from regaze.redirectors.gcgan.sampling import drawn_codes, pictures_of
from regaze.redirectors.networks import load_redirector
from regaze.samples import Samples

_WITHIN = np.radians(25)
"""Of the head, up and down and to the sides: what eyes look at."""
_GAZES = 5


class Regions:
    """Patches of people with their eye regions."""

    def __init__(self, results: Path, persons: list[str], drawn: GcGan, count: int, seed: int):
        faces = FacesReader(sorted(map(str, results.glob("synthetic/faces/shard-*.h5"))))
        masks = sorted(map(str, results.glob("synthetic/masks/shard-*.h5")))
        size, self.strip = drawn.size, drawn.strip
        given = EyeRegionRows({"classes": 6, "crop": drawn.crop}, masks, faces)
        rows = faces.rows(persons)
        rows = rows[given.known[rows]]
        rows = np.random.default_rng(seed).permutation(rows)[:count]
        self.images = prepare(faces.pixels(rows), size, "none")
        self.labels = faces.labels[rows].astype(np.float64)
        read = given.read(rows)
        self.place = read["place"]
        self.regions = cut(self.images, self.place, size, self.strip)
        parts = read["parts"][:, None].float()
        self.classes = cut(parts, self.place, size, self.strip, labels=True)[:, 0].round().long()

    def pasted(self, images: torch.Tensor, classes: np.ndarray) -> torch.Tensor:
        """These patches, each as often as there are regions of it, with drawn regions in place."""
        seg = F.one_hot(torch.from_numpy(classes).long(), 6).permute(0, 3, 1, 2).float()
        often = len(images) // len(self.images)
        own, place = (one.repeat_interleave(often, 0) for one in (self.images, self.place))
        return pasted(own, images.clamp(-1, 1), feathered(seg, self.strip), place)

    def near(self, count: int, seed: int) -> np.ndarray:
        """Gazes (n,count,2) of these people, such as go with each one's own head."""
        draws, found = np.random.default_rng(seed), []
        for head in self.labels[:, 2:4]:
            possible = (np.abs(self.labels[:, :2] - head) < _WITHIN).all(1)
            found.append(draws.choice(self.labels[possible, :2], count))
        return np.stack(found)


def parser(regions: Regions, steps: int) -> nn.Module:
    """A network that names the classes of the pixels of real regions."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    width = 3
    for dilation in (1, 1, 2, 4, 1):
        layers += [nn.Conv2d(width, 16, 3, padding=dilation, dilation=dilation), nn.ReLU()]
        width = 16
    network = nn.Sequential(*layers, nn.Conv2d(width, 6, 1))
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(steps):
        rows = torch.randint(len(regions.images), (16,))
        found = network(regions.regions[rows])
        # Irises are few pixels.
        weight = torch.tensor([0.3, 0.5, 2, 1, 0.7, 3])
        loss = F.cross_entropy(found, regions.classes[rows], weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


@torch.no_grad()
def overlaps(network: nn.Module, images: torch.Tensor, classes: np.ndarray) -> dict[str, float]:
    """Intersection over union by class, over all pixels; ``whole eye`` is eye and iris."""
    return shared(
        torch.cat([network(part).argmax(1) for part in images.split(50)]).numpy(), classes
    )


def shared(read: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Intersection over union of two readings of the same pictures, see :func:`overlaps`."""
    parts = {name: [number] for number, name in enumerate(CLASSES[:6])} | {"whole eye": [2, 5]}
    found = {}
    for name, numbers in parts.items():
        one, other = np.isin(read, numbers), np.isin(classes, numbers)
        found[name] = float((one & other).sum() / max(1, (one | other).sum()))
    return found


def read(estimator, images: torch.Tensor) -> tuple[np.ndarray, Moments]:
    """Gazes (n,2) that an estimator reads, and the moments of its features."""
    moments, gazes = Moments(estimator.embedding_size), []
    for part in images.split(50):
        found, features = estimate_and_embed(estimator, part)
        moments.add(features.numpy())
        gazes.append(found[:, :2].numpy())
    return np.concatenate(gazes).astype(np.float64), moments


def agreement(wanted: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Correlations and mean absolute errors in degrees, by angle."""
    told = {}
    for number, name in enumerate(("pitch", "yaw")):
        told[f"r_{name}"] = float(np.corrcoef(wanted[:, number], found[:, number])[0, 1])
        off = np.abs(wanted[:, number] - found[:, number]).mean()
        told[f"{name}_error_deg"] = float(np.degrees(off))
    return told


def within(wanted: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """:func:`agreement` of gazes (n,k,2), and correlations of what moves within each of n codes."""
    told = agreement(wanted.reshape(-1, 2), found.reshape(-1, 2))
    moved = [(one - one.mean(1, keepdims=True)).reshape(-1, 2) for one in (wanted, found)]
    for number, name in enumerate(("pitch", "yaw")):
        one, other = moved[0][:, number], moved[1][:, number]
        told[f"r_{name}_within"] = float(np.corrcoef(one, other)[0, 1])
        told[f"slope_{name}_within"] = float(one @ other / (one @ one))
    return told


def of_codes(generator, codes, unseen: Regions, estimator) -> dict[str, float]:
    """Codes (n,D), each drawn with gazes near the head of the face that it is pasted into."""
    asked = unseen.near(_GAZES, 2)
    gazes = torch.from_numpy(np.float32(asked.reshape(-1, 2)))
    images, classes = pictures_of(generator, codes.repeat_interleave(_GAZES, 0), gazes)
    found, _ = read(estimator, unseen.pasted(images, classes))
    return within(asked, found.reshape(asked.shape))


def measured(results: Path, model: str, count: int, steps: int, truncation: float) -> tuple:
    """All figures, and rows of the sheet."""
    redirector, _ = load_redirector(results / "models" / model)
    generator = redirector.eval().generator
    size = generator.size
    split = json.loads((results / "synthetic/split.json").read_text(encoding="utf-8"))
    unseen = Regions(results, split["test"], redirector, count, 0)
    estimator = load_estimator(results / "models/resnet").eval()
    order = np.random.default_rng(1).permutation(len(unseen.images))
    gazes = unseen.labels[order, :2]
    told, rows = {"pictures": len(order)}, {}
    own, real = read(estimator, unseen.images)
    told["real"] = agreement(unseen.labels[:, :2], own)
    others = split["val"] + split["train-evaluator"]
    seen = parser(Regions(results, others, redirector, 1500, 0), steps)
    told["real"]["overlap"] = overlaps(seen, unseen.regions, unseen.classes.numpy())
    others = unseen.pasted(unseen.regions[order], unseen.classes.numpy()[order])
    found, moments = read(estimator, others)
    told["real"]["pasted"] = agreement(gazes, found)
    told["real"]["frechet"] = frechet_distance(moments, real)
    torch.manual_seed(0)
    fresh = SemanticGenerator(
        size,
        **json.loads((results / "models" / model / "model.json").read_text(encoding="utf-8"))[
            "config"
        ]["network"],
    )
    for name, one in (("drawn", generator), ("untrained", fresh.eval())):
        codes = drawn_codes(one, len(order), truncation, 0)
        images, classes = pictures_of(one, codes, torch.from_numpy(np.float32(gazes)))
        faces = unseen.pasted(images, classes)
        found, moments = read(estimator, faces)
        told[name] = agreement(gazes, found)
        # Gaze that the head does not give away already.
        head = unseen.labels[:, 2:4]
        near = (np.abs(gazes - head) < np.radians(25)).all(1)
        told[name]["within 25 deg of the head"] = agreement(gazes[near], found[near])
        told[name]["overlap"] = overlaps(seen, images, classes)
        told[name]["frechet"] = frechet_distance(moments, real)
        told[name]["five gazes per code"] = of_codes(one, codes, unseen, estimator)
        if name == "drawn":
            rows = {"images": images[:12], "classes": classes[:12], "faces": faces[:12]}
    if "encoder" in redirector.saved:
        encoder = redirector.saved["encoder"].eval()
        with torch.no_grad():
            codes = generator.style(encoder.settled(unseen.regions))
        told["encoded"] = {"five gazes per code": of_codes(generator, codes, unseen, estimator)}
        own = torch.from_numpy(np.float32(unseen.labels[:, :2]))
        images, classes = pictures_of(generator, codes, own)
        told["encoded"]["overlap with a parser"] = overlaps(seen, images, classes)
        told["encoded"]["overlap with the renderer's"] = shared(unseen.classes.numpy(), classes)
        _, moments = read(estimator, unseen.pasted(images, classes))
        told["encoded"]["frechet"] = frechet_distance(moments, real)
        rows |= {"encoded": images[:12], "read": classes[:12]}
    rows |= {"real": unseen.regions[:12], "patches": unseen.images[:12]}
    return told, rows


def edits(results: Path, model: str) -> dict:
    """Of the workflow's pairs that differ in gaze: readings, skin outside the eyes, glasses.

    Skin is what the renderer says is skin in the source; heads stand still in these pairs.
    """
    pairs = pd.read_parquet(results / "synthetic/pairs.parquet")
    pairs = pairs[pairs["kind"] == "gaze_only"]
    folder = results / "evaluation" / model / "synthetic"
    scores = pd.read_parquet(folder / "per_pair.parquet").set_index("pair").loc[pairs["pair"]]
    made = Samples(folder / "samples.h5").read(pairs["pair"]).astype(np.float64)
    faces = FacesReader(sorted(map(str, results.glob("synthetic/faces/shard-*.h5"))))
    # Indices are those of the person's own pictures.
    numbers = zip(pairs["person"], pairs["source_index"], strict=True)
    sources = np.array([faces.rows([person])[index] for person, index in numbers])
    size = made.shape[1]
    before = (prepare(faces.pixels(sources), size, "none") + 1) * 127.5
    before = before.permute(0, 2, 3, 1).numpy().astype(np.float64)
    masks = MasksReader(sorted(map(str, results.glob("synthetic/masks/shard-*.h5"))), faces)
    parts = torch.from_numpy(masks.read(sources, ["segmentation"])["segmentation"])[:, None]
    parts = F.interpolate(parts.float(), (size, size), mode="nearest")[:, 0].numpy().round()
    skin = parts == NUMBER["skin"]
    change = (made - before) * skin[..., None]
    count = skin.sum((1, 2))[:, None]
    glasses = (parts == NUMBER["glasses"]).mean((1, 2)) > 0.002
    errors = scores["gaze_error_deg"].to_numpy()
    wanted = np.stack(pairs["target_gaze"].to_numpy()).astype(np.float64)
    found = scores[["read_gaze_pitch", "read_gaze_yaw"]].to_numpy(np.float64)
    return {
        "pairs": len(pairs),
        **agreement(wanted, found),
        "skin_colour_change": float(np.abs(change.sum((1, 2)) / count).mean()),
        "skin_pixel_change": float((np.abs(change).sum((1, 2)) / count).mean()),
        "gaze_error_deg": {
            name: float(errors[chosen].mean()) if chosen.any() else None
            for name, chosen in (("glasses", glasses), ("no glasses", ~glasses))
        },
        "with_glasses": int(glasses.sum()),
    }


def sheet(rows: dict, path: Path) -> None:
    """Real regions, encoded ones if any, drawn ones; people, and people with drawn eyes."""
    lines = [to_uint8(rows["real"])]
    if "encoded" in rows:
        lines += [to_uint8(rows["encoded"]), coloured(rows["read"])]
    lines += [to_uint8(rows["images"]), coloured(rows["classes"])]
    lines += [to_uint8(rows["patches"]), to_uint8(rows["faces"])]
    path.parent.mkdir(parents=True, exist_ok=True)
    tiled(np.concatenate(lines), 12, 2).save(path)


def main() -> None:
    """Print the figures as JSON."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--results", type=Path, default=Path("results"))
    options.add_argument("--model", default="gcgan")
    options.add_argument("--count", type=int, default=200)
    options.add_argument("--steps", type=int, default=400, help="of the parser's training")
    options.add_argument("--truncation", type=float, default=0.7)
    options.add_argument("--sheet", type=Path, help="PNG to write")
    options.add_argument("--edits", action="store_true", help="of the workflow's samples instead")
    given = options.parse_args()
    if given.edits:
        print(json.dumps(edits(given.results, given.model), indent=1))
        return
    told, rows = measured(given.results, given.model, given.count, given.steps, given.truncation)
    if given.sheet:
        sheet(rows, given.sheet)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
