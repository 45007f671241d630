"""Paths of the configuration and of the working folder go through a workflow as they are."""

import h5py
import numpy as np
import yaml
from running import snakemake

from regaze.faces import FacesAttributes, FacesReader, FacesWriter

HOSTILE = 'it\'s $(touch mark); `touch mark` -x "目"'


def test_faces_and_pairs_of_a_hostile_root_in_a_hostile_folder(tmp_path):
    """A released faces file with such a name, persons and folder becomes the shard's faces."""
    folder = tmp_path / f"run {HOSTILE}"
    folder.mkdir()
    path = tmp_path / f"data {HOSTILE}.h5"
    persons = [f"{number} $(touch mark); -x '目'" for number in range(6)]
    rng = np.random.default_rng(0)
    attributes = FacesAttributes("sted", (32, 32), 500.0, 600.0, "ellipsoid", "synthetic")
    with FacesWriter(path, attributes) as writer:
        for person in persons:
            pixels = rng.integers(0, 255, (5, 32, 32, 3), np.uint8)
            writer.add_person(person, pixels, rng.uniform(-0.3, 0.3, (5, 8)).astype(np.float32))
    entry = {"source": "faces_hdf5", "root": str(path), "split": {"val": 0.2, "test": 0.4}}
    overlay = tmp_path / f"overlay {HOSTILE}.yaml"
    overlay.write_text(yaml.safe_dump({"datasets": {"mine": entry}}, allow_unicode=True), "utf-8")
    target = "results/mine/faces/shard-000.h5"
    done = snakemake(folder, target, overlays=[overlay])
    assert done.returncode == 0, done.output[-4000:]
    found = FacesReader(folder / target)
    assert set(found.persons) <= set(persons) and found.persons
    with h5py.File(folder / target) as file:
        assert sorted(file) == sorted(found.persons)
    marks = [one for place in (tmp_path, folder) for one in place.glob("mark*")]
    assert not marks
