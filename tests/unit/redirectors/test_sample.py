"""Samples of pseudo-models and of a trained folder; folders that are not what they should be."""

import json

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from regaze.faces import FacesReader
from regaze.images import reduce_patches, to_uint8
from regaze.masks import MasksWriter
from regaze.pairs import draw_pairs, write_pairs
from regaze.redirectors.base import build_redirector
from regaze.redirectors.batches import BatchBuilder, source_rows
from regaze.redirectors.declaration import Declaration
from regaze.redirectors.gazenerf.redirector import GazeNerf
from regaze.redirectors.gazenerf.settings import ModelSettings as FieldSettings
from regaze.redirectors.networks import load_redirector
from regaze.redirectors.sample import (
    chunk_size,
    sample_pseudo_model,
    sample_redirector,
    sample_variants,
)
from regaze.redirectors.xunet.settings import ModelSettings

SAMPLING = {
    "sampler": "dpmpp_2m", "steps": 2, "sigma_min": 1.0, "sigma_max": 20.0, "guidance": 0.0,
    "seed": 0, "batch": 5, "threads": 1,
}  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """Faces of two persons (2 heads x 3 gazes) and pairs of every kind."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "faces.h5", "w") as file:
        for person in "ab":
            labels = np.zeros((6, 8), np.float32)
            labels[:, :2] = np.tile(rng.uniform(-0.3, 0.3, (3, 2)), (2, 1))
            labels[:, 2:4] = np.repeat(rng.uniform(-0.3, 0.3, (2, 2)), 3, 0)
            file[f"{person}/labels"] = labels
            file[f"{person}/pixels"] = rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    reader = FacesReader(tmp_path / "faces.h5")
    counts = {"gaze_and_head": 4, "gaze_only": 3, "head_only": 3, "sweep": 1}
    pairs = draw_pairs(reader, "ab", counts, seed=0, dataset="d", sweep_steps=4)
    write_pairs(tmp_path / "pairs.parquet", pairs)
    return {"faces": [tmp_path / "faces.h5"], "pairs": tmp_path / "pairs.parquet"}, reader, pairs


def trained(folder):
    """A model folder as training writes it, with weights that are not zero."""
    folder.mkdir()
    config = ModelSettings(**{"class": "xunet", "preset": "tiny", "size_px": 32}).resolve()
    torch.manual_seed(0)
    network = build_redirector(config, SAMPLING).network
    torch.nn.init.normal_(network.lastconv.weight, std=0.05)
    save_file(network.state_dict(), folder / "model.safetensors")
    record = {"name": "xunet", "kind": "redirector", "config": config, "inputs": {}}
    (folder / "model.json").write_text(json.dumps(record))
    return folder


def pixels(path):
    with h5py.File(path, "r") as file:
        return file["pixels"][:], dict(file.attrs), file["pair"][:]


def test_pseudo_models_are_the_source_and_the_target(data, tmp_path):
    files, reader, pairs = data
    for name, column in (("copy", "source_index"), ("truth", "target_index")):
        out = tmp_path / f"{name}.h5"
        speed = tmp_path / "speed.json"
        sample_pseudo_model(name, size_px=32, samples=out, speed=speed, **files)
        made, attributes, numbers = pixels(out)
        assert attributes["model"] == name and (numbers == pairs["pair"]).all()
        for row, pair in pairs.iterrows():
            index = pair[column] if pair[column] >= 0 else pair["source_index"]
            picture = reader.pixels([reader.global_index(pair["person"], index)])
            np.testing.assert_array_equal(made[row], to_uint8(reduce_patches(picture, 32))[0])
    with pytest.raises(ValueError, match="unknown pseudo-model 'mean'"):
        sample_pseudo_model("mean", size_px=32, samples=out, speed=speed, **files)


def test_samples_are_reproducible_and_independent_of_the_chunk(data, tmp_path):
    files, _, pairs = data
    folder = trained(tmp_path / "model")
    made = []
    for number, batch in enumerate((5, 5, 14)):
        out = tmp_path / f"{number}.h5"
        sampling = SAMPLING | {"batch": batch}
        sample_redirector(
            folder, sampling=sampling, samples=out, speed=tmp_path / "speed.json", **files
        )
        made.append(out)
    assert made[0].read_bytes() == made[1].read_bytes()
    first, attributes, _ = pixels(made[0])
    assert np.abs(first.astype(int) - pixels(made[2])[0]).max() <= 1
    assert attributes["evaluations_per_image"] == 2 and attributes["sampler"] == "dpmpp_2m"
    assert len(first) == len(pairs)
    speed = json.loads((tmp_path / "speed.json").read_text())
    assert speed["seconds_per_source"] > 0 and speed["seconds_per_request"] > 0
    assert speed["images"] == len(pairs)


def test_sources_that_are_fitted_are_fitted_once(data, tmp_path, monkeypatch):
    files, _, pairs = data
    network = {"side": 8, "channels": 48, "hidden": 16, "samples": 8}
    entry = {"class": "gazenerf", "preset": "reference", "size_px": 32, "network": network}
    entry |= {"encoder": None, "checkpoint": "a.json"}
    config = FieldSettings(**entry).resolve()
    sampling = {"steps": 1, "rate": 1.0, "seed": 0, "threads": 1}
    torch.manual_seed(0)
    (tmp_path / "model").mkdir()
    state = build_redirector(config, sampling).saved.state_dict()
    save_file(state, tmp_path / "model/model.safetensors")
    record = {"name": "f", "kind": "redirector", "config": config, "inputs": {}}
    (tmp_path / "model/model.json").write_text(json.dumps(record))
    fitted, own = [], GazeNerf.fit
    monkeypatch.setattr(
        GazeNerf,
        "fit",
        lambda *a, **k: fitted.append(a[1]["source_row"].tolist()) or own(*a, **k),
    )
    found = []
    for batch in (4, 14):
        out = {"samples": tmp_path / "s.h5", "speed": tmp_path / "s.json"}
        given = {"sampling": {**sampling, "batch": batch}, **out, **files}
        sample_redirector(tmp_path / "model", **given)
        made, _, numbers = pixels(out["samples"])
        assert sorted(numbers) == sorted(pairs["pair"])
        found.append(made[np.argsort(numbers)].astype(int))
    *parts, whole = fitted
    assert len(parts) == 4 and len(set(whole)) == len(whole) < sum(map(len, parts))
    # One may be asked for by the last requests of a part and by the first ones of the next.
    assert all(set(one) & set(two) <= {one[-1]} for one, two in zip(parts, parts[1:], strict=False))
    assert not any(set(one) & set(two) for one, two in zip(parts, parts[2:], strict=False))
    assert np.abs(found[0] - found[1]).max() <= 1


def test_variants_are_what_single_runs_would_be(data, tmp_path):
    files, _, pairs = data
    folder = trained(tmp_path / "model")
    variants = {
        "steps1": {"steps": 1},
        "w0.0": {"guidance": 0.0},
        "w2.0": {"guidance": 2.0},
        "reference": {"sampler": "heun", "steps": 3, "pairs": 2},
    }
    outputs = {
        key: [tmp_path / name / file for name in variants]
        for key, file in (("samples", "samples.h5"), ("speed", "speed.json"))
    }
    which = {"kind": "gaze_and_head", "first": 3}
    sample_variants(folder, variants, sampling=SAMPLING, **outputs, **which, **files)
    free = pairs.loc[pairs["kind"] == "gaze_and_head", "pair"].to_numpy()
    runs = {"steps1": 1, "w0.0": 2, "w2.0": 4, "reference": 5}
    for name, changes in variants.items():
        made, attributes, numbers = pixels(tmp_path / name / "samples.h5")
        changed = {key: value for key, value in changes.items() if key != "pairs"}
        np.testing.assert_array_equal(numbers, free[: changes.get("pairs", 3)])
        assert attributes["evaluations_per_image"] == runs[name]
        assert attributes["guidance"] == changes.get("guidance", 0.0)
        alone = tmp_path / "alone.h5"
        sample_redirector(
            folder, sampling=SAMPLING | changed, samples=alone, speed=tmp_path / "s.json", **files
        )
        whole, _, all_numbers = pixels(alone)
        same = whole[np.searchsorted(all_numbers, numbers)]
        assert np.abs(made.astype(int) - same).max() <= 1
        assert json.loads((tmp_path / name / "speed.json").read_text())["images"] == len(numbers)


def test_variants_need_not_be_of_guidance(data, tmp_path):
    files, _, _ = data
    outputs = {"samples": [tmp_path / "s.h5"], "speed": [tmp_path / "s.json"]}
    folder = trained(tmp_path / "model")
    one = {"euler": {"sampler": "euler"}}
    sample_variants(folder, one, sampling=SAMPLING, **outputs, first=2, **files)
    made, attributes, _ = pixels(tmp_path / "s.h5")
    assert len(made) == 2 and attributes["sampler"] == "euler"


def test_the_animation_can_be_made_alone(data, tmp_path):
    files, _, _ = data
    folder = trained(tmp_path / "model")
    common = {"sampling": SAMPLING | {"steps": 3}, "kind": "gaze_and_head", **files}
    for name in ("a.gif", "b.gif"):
        sample_redirector(folder, samples=None, speed=None, gif=tmp_path / name, **common)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    with Image.open(tmp_path / "a.gif") as found:
        # Sources of the four free pairs above what is made of them; the last frame is held.
        assert found.n_frames == 3 and found.size == (4 * 130 - 2, 2 * 130 - 2)
        found.seek(2)
        assert found.info["duration"] > 1000
    assert sorted(path.name for path in tmp_path.glob("*.json")) == []


def test_sources_and_targets_lose_their_background(data, tmp_path):
    files, reader, pairs = data
    parts = np.zeros((6, 64, 64), np.uint8)
    parts[:, 16:48, 16:48] = 1  # skin
    masks = tmp_path / "masks.h5"
    with MasksWriter(
        masks, method="exact", version="test", told_apart=["skin"], patch_size=(64, 64)
    ) as writer:
        for person in reader.persons:
            writer.start_person(person, 6)
            writer.add(parts)
    plain = {"masks": [masks], "background": (0, 255, 0)}
    speed = tmp_path / "speed.json"
    for name, column in (("copy", "source_index"), ("truth", "target_index")):
        out = tmp_path / f"{name}.h5"
        sample_pseudo_model(name, size_px=32, samples=out, speed=speed, **plain, **files)
        made, _, _ = pixels(out)
        pair = pairs.iloc[0]
        stored = reader.pixels([reader.global_index(pair["person"], pair[column])])
        wanted = to_uint8(reduce_patches(stored, 32))[0]
        np.testing.assert_array_equal(made[0][8:24, 8:24], wanted[8:24, 8:24])
        outside = np.ones((32, 32), bool)
        outside[8:24, 8:24] = False
        assert (made[:, outside] == (0, 255, 0)).all()
    folder = trained(tmp_path / "model")
    common = {"sampling": SAMPLING, "speed": speed, "first": 3, **files}
    sample_redirector(folder, samples=tmp_path / "with.h5", **common)
    sample_redirector(folder, samples=tmp_path / "without.h5", **plain, **common)
    assert (pixels(tmp_path / "with.h5")[0] != pixels(tmp_path / "without.h5")[0]).any()


def test_folders_that_are_no_trained_redirector_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="model.json: no such file; is the model trained"):
        load_redirector(tmp_path)
    folder = trained(tmp_path / "model")
    save_file({"other": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="model.safetensors: .*unexpected other"):
        load_redirector(folder, SAMPLING)
    (folder / "model.json").write_text('{"kind": "estimator"}')
    with pytest.raises(ValueError, match="kind: expected 'redirector', found 'estimator'"):
        load_redirector(folder)


def test_other_sources_are_of_the_person_and_never_the_target(data):
    _, reader, pairs = data
    rows = source_rows(reader, pairs, 4, seed=1)
    for row, (_, pair) in zip(rows, pairs.iterrows(), strict=True):
        assert row[0] == reader.global_index(pair["person"], pair["source_index"])
        assert set(row) <= set(reader.rows([pair["person"]])) and len(set(row)) == 4
        if pair["target_index"] >= 0:
            assert reader.global_index(pair["person"], pair["target_index"]) not in row
    assert (source_rows(reader, pairs, 2, seed=1) == rows[:, :2]).all()
    order = np.random.default_rng(0).permutation(len(pairs))
    assert (source_rows(reader, pairs.iloc[order], 4, seed=1) == rows[order]).all()
    assert (source_rows(reader, pairs, 4, seed=2) != rows).any()
    # A person has six pictures: those there are come again.
    many = source_rows(reader, pairs, 11, seed=1)
    assert (many[:, :4] == rows).all()
    assert all(len(set(row)) == (6 if target < 0 else 5)
               for row, target in zip(many, pairs["target_index"], strict=True))  # fmt: skip
    several = BatchBuilder(32, Declaration(several_sources=True), {}, reader.pixels)
    requests = several.requests(reader, pairs, count=4, seed=1)
    batch, target = requests.to("cpu")
    of, count = requests.source_of, len(batch["source"])
    assert batch["sources"].shape == (count, 4, 3, 32, 32)
    assert torch.equal(batch["sources"][:, 0], batch["source"])
    assert torch.equal(batch["sources_gaze"][:, 0], batch["source_gaze"])
    np.testing.assert_array_equal(batch["sources_row"][of], rows)
    np.testing.assert_array_equal(batch["sources_head"][of], reader.labels[rows][..., 2:4])
    picture = reduce_patches(reader.pixels([rows[3, 2]]), 32)
    assert torch.equal(batch["sources"][of[3], 2], picture[0])
    assert "sources" not in several.requests(reader, pairs).to("cpu")[0]
    single = BatchBuilder(32, Declaration(), {}, reader.pixels)
    assert "sources" not in single.requests(reader, pairs, count=4).to("cpu")[0]


def test_every_source_is_loaded_and_inverted_once(data):
    _, reader, pairs = data
    read = []

    def patches(rows):
        read.append(rows.tolist())
        return reader.pixels(rows)

    builder = BatchBuilder(32, Declaration(), {}, patches)
    requests = builder.requests(reader, pairs)
    wanted = [
        reader.global_index(person, index)
        for person, index in zip(pairs["person"], pairs["source_index"], strict=True)
    ]
    source, target = requests.to("cpu")
    assert sorted(sum(read, [])) == sorted(set(wanted)) == sorted(source["source_row"].tolist())
    assert source["source_row"][requests.source_of].tolist() == wanted
    expected = reduce_patches(reader.pixels(np.array(wanted)), 32)
    assert torch.equal(source["source"][requests.source_of], expected)
    assert "target" not in target and target["pair"].tolist() == pairs["pair"].tolist()
    shown = requests.of_requests({"rows": source["source_row"], "shared": 3})
    assert shown["rows"].tolist() == wanted and shown["shared"] == 3
    unseen = pairs["target_index"].to_numpy() < 0
    assert (target["target_row"].numpy() == -1).tolist() == unseen.tolist()
    for name in ("gaze", "head"):
        np.testing.assert_array_equal(target[f"target_{name}"], np.stack(pairs[f"target_{name}"]))


def test_samples_do_not_depend_on_chunks_shards_or_order(data, tmp_path):
    files, reader, pairs = data
    folder = trained(tmp_path / "model")
    shards = []
    with h5py.File(files["faces"][0], "r") as whole:
        for person in whole:
            shards.append(tmp_path / f"{person}.h5")
            with h5py.File(shards[-1], "w") as part:
                whole.copy(person, part)
    write_pairs(tmp_path / "turned.parquet", pairs.iloc[::-1])
    base = {"sources": 2, "guidance": 0.5, "uncond_source": "fresh"}
    runs = [
        ({"batch": 14}, {}),
        ({"batch": 1}, {}),
        ({"batch": "auto", "memory_mb": 50}, {"faces": shards}),
        ({"batch": 7}, {"pairs": tmp_path / "turned.parquet"}),
    ]
    made = []
    for number, (changes, other) in enumerate(runs):
        out = tmp_path / f"{number}.h5"
        speed = tmp_path / "speed.json"
        sampling = SAMPLING | base | changes
        sample_redirector(folder, sampling=sampling, samples=out, speed=speed, **files | other)
        found, attributes, numbers = pixels(out)
        made.append(found[np.argsort(numbers)].astype(int))
        assert attributes["sources"] == 2 and attributes["evaluations_per_image"] == 4
    for found in made[1:]:
        off = np.abs(found - made[0])
        assert off.max() <= 1 and (off > 0).mean() <= 1e-3


def test_chunks_fit_the_memory(tmp_path):
    redirector, _ = load_redirector(trained(tmp_path / "model"), SAMPLING)
    each = redirector.bytes_per_image()
    assert chunk_size(redirector, {"batch": 7}) == 7
    assert chunk_size(redirector, {"batch": "auto", "memory_mb": 8 * each / 2**20}) == 8
    assert chunk_size(redirector, {"batch": "auto", "memory_mb": 0.01}) == 1
    few = chunk_size(redirector, {"batch": "auto", "memory_mb": 8 * each / 2**20}, weights=4)
    assert 1 <= few < 8
    assert chunk_size(redirector, {"batch": "auto"}) == 32  # no more than caches profit from


def test_the_way_to_the_pictures_is_animated(data, tmp_path):
    files, _, pairs = data
    folder = trained(tmp_path / "model")
    sampling = SAMPLING | {"steps": 3}
    written = []
    for name in "ab":
        out = {"samples": tmp_path / "s.h5", "speed": tmp_path / "s.json"}
        sample_redirector(folder, sampling=sampling, gif=tmp_path / f"{name}.gif", **out, **files)
        written.append((tmp_path / f"{name}.gif").read_bytes())
    assert written[0] == written[1]
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 3
        assert animation.size == (8 * 128 + 7 * 2, 2 * 128 + 2)
        animation.seek(2)
        assert animation.info["duration"] > 1000
