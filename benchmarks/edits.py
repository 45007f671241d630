"""A batch of edits of one source by DiffusionRig against the published order.

    OMP_NUM_THREADS=1 python benchmarks/edits.py
    OMP_NUM_THREADS=1 python benchmarks/edits.py --steps 20 --repeats 2

The published order reads the 3-D codes of source and target, renders both and encodes the source
anew for every edit, one picture at a time. Here codes of the source, its code and its renderings
are made once, and all else in batches. Same weights and noise. Pictures are those of the data set:
one source, and as many other faces to take light and expression from. Times are the process's own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from clock import now

from regaze.codes import SHORT
from regaze.face3d.crop_rows import place_of_crops
from regaze.face3d.encode import codes_of_faces
from regaze.faces import FacesReader
from regaze.images import reduce_patches
from regaze.redirectors.base import divided
from regaze.redirectors.declaration import sampling_defaults
from regaze.redirectors.diffusionrig.rendering import PLACES
from regaze.redirectors.networks import load_redirector


class Bench:
    """A trained model, a source and faces to take from."""

    def __init__(self, given):
        sampling = sampling_defaults("diffusionrig") | {"steps": given.steps}
        if given.kept:
            sampling |= {"kept": given.kept, "steps": len(given.kept)}
        self.made, _ = load_redirector(given.model, sampling, "cpu")
        self.made.eval()
        reader = FacesReader([str(path) for path in sorted(given.faces.glob("shard-*.h5"))])
        rows = np.linspace(0, len(reader) - 1, given.edits + 1).astype(int)
        self.pixels, self.labels = reader.pixels(rows), torch.from_numpy(reader.labels[rows])
        self.marks, self.size = reader.dataset("landmarks", rows), reader.patch_size

    def codes(self, rows):
        """Rows (N, 236) of codes, read from pictures."""
        encoder = self.made.face.face
        found, _ = codes_of_faces(encoder, self.pixels[rows], self.marks[rows])
        made = torch.zeros(len(rows), 236)
        for name, place in PLACES.items():
            made[:, place] = torch.from_numpy(found[SHORT.get(name, name)]).flatten(1)
        return made

    def batch(self, source, target, rows):
        """What an edit of the source by codes of rows is given."""
        crops, _ = place_of_crops(self.marks[:1], self.size)
        patch = reduce_patches(torch.from_numpy(self.pixels[:1]), self.made.config["size_px"])
        labels = self.labels[:1].float()
        told = {"source": patch, "source_code": source, "source_crop": crops}
        told |= {"source_gaze": labels[:, :2], "source_head": labels[:, 2:4]}
        told |= {"source_row": torch.tensor([-1])}
        told |= {"target_gaze": labels[:, :2], "target_head": labels[:, 2:4]}
        told = {k: v.expand(len(rows), *v.shape[1:]) if k[0] == "t" else v for k, v in told.items()}
        told["target_light"] = target[:, PLACES["light"]]
        told["target_expression"] = target[:, PLACES["exp"]]
        return told | {"pair": torch.from_numpy(rows)}

    @torch.no_grad()
    def published(self):
        """An edit at a time, everything anew."""
        rows, done = np.arange(1, len(self.pixels)), []
        for row in rows:
            source, target = self.codes(np.array([0])), self.codes(np.array([row]))
            done.append(self.made.redirect(self.batch(source, target, np.array([row])), seed=0))
        return torch.cat(done)

    @torch.no_grad()
    def ours(self):
        """All edits of the source at once."""
        rows = np.arange(1, len(self.pixels))
        codes = self.codes(np.append(0, rows))
        source, target = divided(self.batch(codes[:1], codes[1:], rows))
        return self.made.edit(self.made.invert(source, seed=0), target, seed=0)


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("results/models/diffusionrig_gaze"))
    parser.add_argument("--faces", type=Path, default=Path("results/synthetic/faces"))
    parser.add_argument("--edits", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--kept", type=int, nargs="+", help="steps that are kept, in their place")
    parser.add_argument("--repeats", type=int, default=3)
    bench = Bench(given := parser.parse_args())
    apart = (bench.ours() - bench.published()).abs().max()
    times = {}
    for name in ("published", "ours"):
        took = []
        for _ in range(given.repeats):
            start = now("cpu")
            getattr(bench, name)()
            took.append(now("cpu") - start)
        times[name] = 1000 * min(took) / given.edits
    ratio = times["published"] / times["ours"]
    told = ", ".join(f"{name} {value:.1f} ms" for name, value in times.items())
    print(f"per picture: {told}; ratio {ratio:.2f}; largest difference {apart:.1e}")


if __name__ == "__main__":
    main()
