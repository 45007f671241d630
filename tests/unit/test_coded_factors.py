"""Factors that a 3-D face encoder reads: from latents and pairs to metrics, tables and verdict."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from regaze.capture.head import HeadConfig, build_head
from regaze.codes.latents import LatentsReader
from regaze.estimators.base import GazeHeadEstimator
from regaze.face3d.deca import Deca
from regaze.face3d.encode import encode_shard, open_encoder
from regaze.face3d.model import model_hash, save_flame
from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.factors import (
    CODED,
    FACTORS,
    LISTED,
    RECONSTRUCTION,
    factors_named,
    pair_kinds,
)
from regaze.metrics import measure
from regaze.pairs import draw_pairs, read_pairs, schema, write_pairs
from regaze.redirectors.batches import BatchBuilder
from regaze.redirectors.declaration import Declaration
from regaze.redirectors.sample import sample_pseudo_model
from regaze.report import tables
from regaze.report.grids import redirection_grid
from regaze.report.inputs import ModelEntry, read_results
from regaze.report.verdict import verdict

FEW = factors_named(["expression", "jaw"])
COUNTS = {"gaze_and_head": 20, "gaze_only": 0, "head_only": 0, "expression_only": 4, "sweep": 1}


class Still(GazeHeadEstimator):
    """Sees everybody look ahead."""

    arch, preset, size_px, preprocess, fingerprint, record = "s", "tiny", 32, "none", "s", {}
    embedding_size = 4

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def embed(self, images):
        return images[:, 0, 0, :4]

    def head(self, embedding):
        return 0 * embedding


def write_encoder(folder):
    """An encoder that was trained by nobody, of large codes, with its head model."""
    head = build_head(HeadConfig.tiny())
    folder.mkdir()
    save_flame(folder / "head.npz", head)
    torch.manual_seed(0)
    deca = Deca(head, "tiny")
    deca.E_flame.layers[2].weight.data *= 20
    save_file(deca.state_dict(), folder / "model.safetensors")
    record = {"kind": "encoder", "config": {"class": "deca", "preset": "tiny"}}
    record["head_sha256"] = model_hash(head)
    (folder / "model.json").write_text(json.dumps(record))
    return {"head": folder / "head.npz", "folder": folder}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("coded")
    encoder = write_encoder(root / "deca")
    labels = np.zeros((6, 8), np.float32)
    labels[:, :4] = np.repeat(np.radians([[4, -6, 1, 2], [9, 3, 1, 2]]), 3, 0)
    attributes = FacesAttributes("sted", (32, 32), 500.0, 600.0, "none", "synthetic")
    with FacesWriter(root / "f.h5", attributes) as writer:
        for number, person in enumerate("ab"):
            rng = np.random.default_rng(number)
            marks = rng.uniform(4, 28, (6, 68, 2)).astype(np.float32)
            marks[5] = np.nan
            blocks = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
            pixels = blocks.repeat(4, 1).repeat(4, 2)
            writer.add_person(person, pixels, labels, landmarks=marks)
    encode_shard(root / "f.h5", open_encoder(**encoder, device="cpu"), root / "codes.parquet")
    reader = FacesReader(root / "f.h5")
    options = {"factors": FEW, "codes": [root / "codes.parquet"]}
    pairs = draw_pairs(reader, ["a", "b"], COUNTS, seed=0, dataset="d", sweep_steps=3, **options)
    write_pairs(root / "pairs.parquet", pairs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "load_estimator", lambda folder: Still())
        for name in ("truth", "copy", "mine"):
            one = root / name
            sample_pseudo_model(
                "copy" if name == "copy" else "truth",
                faces=[root / "f.h5"],
                pairs=root / "pairs.parquet",
                size_px=32,
                samples=one / "samples.h5",
                speed=one / "speed.json",
            )
            measure.measure_files(
                *(one / "samples.h5", root / "pairs.parquet", [root / "f.h5"], "any"),
                metrics=one / "metrics.json",
                per_pair=one / "per_pair.parquet",
                encoder=encoder,
            )
    return root


def test_pairs_know_the_codes_of_latents(made):
    pairs, reader = read_pairs(made / "pairs.parquet"), FacesReader(made / "f.h5")
    latents = LatentsReader(made / "codes.parquet", reader)
    only = pairs[pairs["kind"] == "expression_only"]
    assert len(only) == 4 and list(pairs.columns) == schema(FEW).names
    for row in only.itertuples():
        np.testing.assert_array_equal(row.source_gaze, row.target_gaze)
        codes = latents.read([reader.global_index(row.person, row.target_index)])
        np.testing.assert_array_equal(row.target_expression, codes["expression"][0])
        np.testing.assert_array_equal(row.target_jaw, codes["pose"][0, 3:])
        # Nobody says that a face without landmarks has another expression.
        assert 5 not in (row.source_index, row.target_index)
    unknown = pairs[(pairs["source_index"] == 5)]
    assert len(unknown) and all(np.isnan(one).all() for one in unknown["source_jaw"])


def test_kinds_of_pairs_that_data_lack_give_none(made):
    reader = FacesReader(made / "f.h5")
    options = {"seed": 0, "dataset": "d", "codes": [made / "codes.parquet"]}
    options["factors"] = factors_named(["light"])
    apart = CODED["light"].same
    try:
        object.__setattr__(CODED["light"], "same", np.inf)
        assert not len(draw_pairs(reader, ["a", "b"], {"light_only": 4}, **options))
    finally:
        object.__setattr__(CODED["light"], "same", apart)


def test_pairs_of_gaze_and_head_stay_as_they_are(made):
    reader = FacesReader(made / "f.h5")
    plain = draw_pairs(
        reader, ["a", "b"], {"gaze_and_head": 20}, seed=0, dataset="d", sweep_steps=3
    )
    pairs = read_pairs(made / "pairs.parquet")
    pairs = pairs[pairs["kind"] == "gaze_and_head"]
    assert list(plain.columns) == schema(FACTORS).names == schema().names
    pd.testing.assert_frame_equal(pairs[plain.columns], plain)


def test_an_encoder_reads_them_from_pictures(made):
    pairs = read_pairs(made / "pairs.parquet").set_index("pair")
    found = {
        name: json.loads((made / name / "metrics.json").read_text()) for name in ("truth", "copy")
    }
    only = pairs[pairs["kind"] == "expression_only"]
    both = (np.stack(only[f"{side}_expression"].to_list()) for side in ("source", "target"))
    moved = CODED["expression"].difference(*both)
    assert (moved >= CODED["expression"].same).all()
    truth = found["truth"]["kinds"]["expression_only"]
    assert truth["expression_error_rms"]["mean"] < 1e-5
    assert truth["expression_vs_truth_rms"]["mean"] == 0
    assert truth["expression_error_rms"]["encoder"] == "deca-tiny"
    assert "estimator" not in truth["expression_error_rms"]
    assert found["truth"]["encoder"]["encoder"] == "deca-tiny"
    rows = pd.read_parquet(made / "copy/per_pair.parquet")
    rows = rows[rows["kind"] == "expression_only"]
    np.testing.assert_allclose(rows["expression_moved"], moved, rtol=1e-5)
    # The source is read where the target's face is.
    assert (rows["expression_error_rms"] > 0.01).all()
    unread = pairs[(pairs["target_index"] == 5)].index
    table = pd.read_parquet(made / "truth/per_pair.parquet").set_index("pair")
    assert len(unread) and table.loc[unread, "jaw_error_rms"].isna().all()
    drawn = set(pair_kinds(FEW)) - {LISTED, RECONSTRUCTION}
    assert set(found["copy"]["kinds"]) - {"perturbed"} == drawn


def test_codes_without_an_encoder_are_refused(made, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "load_estimator", lambda folder: Still())
    with pytest.raises(ValueError, match="expression is read from codes; expected their encoder"):
        measure.measure_samples(
            made / "copy/samples.h5", made / "pairs.parquet", [made / "f.h5"], "any"
        )


def test_the_report_has_their_columns_pairs_and_words(made, tmp_path):
    entries = [ModelEntry.from_folders(name, made / name) for name in ("truth", "copy", "mine")]
    results = read_results(entries)
    table = tables.comparisons({"d": results})
    assert {"expression_error_rms", "jaw_vs_truth_rms"} <= set(table)
    assert "light_error_rms" not in table and "light_only" not in set(table["kind"])
    said = " ".join(verdict(results).details)
    assert "On expression-only pairs the best is: expression 0.00 (mine; source" in said
    redirection_grid(
        FacesReader(made / "f.h5"),
        read_pairs(made / "pairs.parquet"),
        {"mine": made / "mine/samples.h5"},
        tmp_path / "grid.png",
        kind="expression_only",
        n=2,
        per_pair_by_model={"mine": made / "mine/per_pair.parquet"},
    )
    assert (tmp_path / "grid.png").stat().st_size > 500


def test_requests_tell_methods_the_codes_of_the_target(made):
    reader, pairs = FacesReader(made / "f.h5"), read_pairs(made / "pairs.parquet")
    builder = BatchBuilder(32, Declaration(factors=("expression",)), {}, reader.pixels)
    target = builder.requests(reader, pairs).target
    wanted = np.stack(pairs["target_expression"].to_list())
    np.testing.assert_array_equal(target["target_expression"].numpy(), wanted)
