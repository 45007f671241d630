"""Fingerprints that records of models and samples claim, against the files."""

import json

import h5py
import pytest

from regaze.provenance import fingerprint
from regaze.tracing.claims import claims


@pytest.fixture
def personal(tmp_path):
    """An entry with a model per person, and samples of it."""
    albums = {}
    for number, person in enumerate("ab"):
        folder = tmp_path / f"results/models/mine/album-00{number}/{person}"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(person)
        albums[person] = {
            "folder": f"album-00{number}/{person}",
            "fingerprint": fingerprint(folder / "model.safetensors"),
        }
    record = {"albums": albums, "fingerprint": "0123456789abcdef"}
    (tmp_path / "results/models/mine/model.json").write_text(json.dumps(record))
    with h5py.File(tmp_path / "results/samples.h5", "w") as file:
        file.attrs["fingerprint"] = record["fingerprint"]
    return tmp_path


def told(root, output):
    record = {"outputs": {output: {}}, "inputs": {"results/models/mine/model.json": {}}}
    return list(claims(root, record))


def test_the_weights_of_every_person_are_looked_at(personal):
    name = "results/models/mine/model.json"
    found = told(personal, name)
    assert [one.fault for one in found] == [False, False]
    assert "weights of a" in found[0].text and "album-001/b/model.safetensors" in found[1].text
    (personal / "results/models/mine/album-001/b/model.safetensors").write_text("other")
    assert [one.fault for one in told(personal, name)] == [False, True]


def test_samples_of_all_persons_name_the_record_of_all(personal):
    (found,) = told(personal, "results/samples.h5")
    assert not found.fault and found.text.endswith("results/models/mine/model.json")
    record = personal / "results/models/mine/model.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "fingerprint": "f" * 16}))
    (found,) = told(personal, "results/samples.h5")
    assert found.fault
