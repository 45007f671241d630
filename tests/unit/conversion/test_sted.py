"""ST-ED's JSON becomes a valid overlay; what has no place is told, and faults are named."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from regaze.cli import app
from regaze.configfiles import merge
from regaze.conversion.overlay import Noted, as_yaml, plain
from regaze.conversion.sted import convert, head
from regaze.conversion.sted_json import DEFAULTS, StedJsonError, read_sted_json
from regaze.settings import load_settings

ROOT = Path(__file__).parents[3]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
# The paper's setting; whole numbers where the defaults are fractions, as in the published file.
PAPER = {
    "growth_rate": 32, "size_0d_unit": 1024, "num_1d_units": 4, "num_2d_units": 4,
    "coeff_l1_loss": 200, "coeff_gaze_loss": 5, "coeff_embedding_consistency_loss": 2,
    "coeff_disentangle_embedding_loss": 2, "coeff_disentangle_pseudo_label_loss": 2,
    "coeff_discriminator_loss": 1, "coeff_redirection_feature_loss": 200,
    "coeff_redirection_gaze_loss": 2, "batch_size": 20, "eval_batch_size": 32,
    "num_data_loaders": 4, "print_freq_test": 5000, "save_interval": 10000,
    "use_tensorboard": True, "gazecapture_file": "data/GazeCapture.h5",
    "mpiigaze_file": "data/MPIIGaze.h5", "columbia_file": "data/columbia.h5",
    "save_path": "out",
}  # fmt: skip


def write(folder, content, name="ST-ED.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def converted(tmp_path, *layers, below=None):
    """Settings of the overlay on config.yaml, the overlay, and what was lost."""
    files = [write(tmp_path, layer, f"{number}.json") for number, layer in enumerate(layers)]
    values, given_ = read_sted_json(files)
    overlay, lost = convert(values, given_, below=below or DEFAULT["models"])
    text = as_yaml(overlay, "head")
    assert yaml.safe_load(text) == plain(overlay)
    config = copy.deepcopy(DEFAULT)
    config["models"] = copy.deepcopy(below or DEFAULT["models"])
    merge(config, yaml.safe_load(text))
    return load_settings(config), overlay, lost


def test_the_papers_setting(tmp_path):
    found, _, lost = converted(tmp_path, PAPER)
    assert list(found.models) == ["sted"] and found.dataset == "gazecapture"
    entry = found.models["sted"]
    train, resolved = entry.train, entry.resolve()
    assert train.lr == 1e-3 and train.batch == 20 and train.images == 206865 * 20
    assert train.workers == 4 and train.state_every_images == 200_000
    assert resolved["network"]["growth_rate"] == 32 and resolved["network"]["num_2d_units"] == 4
    assert resolved["objective"]["l1"] == 200.0 and resolved["objective"]["discriminator"] == 1.0
    assert resolved["objective"]["redirection_gaze"] == 2.0 and resolved["objective"]["mixing"]
    assert found.evaluated == ["gazecapture", "mpiigaze", "columbia"]
    assert found.datasets["columbia"].channel_order == "bgr"
    assert found.datasets["mpiigaze"].root == "data/MPIIGaze.h5"
    assert found.estimators["vgg"].preset == "reference"
    assert found.sampling.batch == 32 and not found.augmentation.export
    assert set(lost) == {"save_path"} and "--directory out" in lost["save_path"]


def test_the_papers_setting_trains_as_the_overlay_of_the_published_training(tmp_path):
    published = copy.deepcopy(DEFAULT)
    merge(published, yaml.safe_load((ROOT / "configs/sted-reference.yaml").read_text()))
    wanted = load_settings(published).models["sted"].resolve()
    resolved = converted(tmp_path, PAPER)[0].models["sted"].resolve()
    told = {"log_every_images", "state_every_images", "validate_every_images", "gpus"}
    for part in (wanted, resolved):
        part["train"] = {key: value for key, value in part["train"].items() if key not in told}
    assert resolved == wanted


def test_published_weights_are_taken_where_upstream_takes_them(tmp_path):
    files = {"gazenet_savepath": "w/vgg.tar", "eval_gazenet_savepath": "w/resnet.tar"}
    found, _, lost = converted(tmp_path, PAPER, files)
    assert found.estimators["vgg"].checkpoint == "w/vgg.tar"
    assert found.estimators["resnet"].checkpoint == "w/resnet.tar" and set(lost) == {"save_path"}
    few = {"semi_supervised": True, "num_labeled_samples": 9}
    found, _, lost = converted(tmp_path, PAPER, files | few)
    assert found.estimators["vgg"].checkpoint is None and found.estimators["resnet"].checkpoint
    assert "which labels those weights have seen" in lost["gazenet_savepath"]
    found, _, lost = converted(tmp_path, PAPER, {"load_step": 20, "skip_training": True})
    assert found.models["sted"].checkpoint == "out/checkpoints/20.pt"
    assert set(lost) == {"save_path"}
    found, _, lost = converted(tmp_path, PAPER, {"load_step": 20})
    assert found.models["sted"].checkpoint is None
    assert "models.sted.checkpoint takes out/checkpoints/20.pt" in lost["load_step"]


def test_later_files_win_and_few_labels_do_not_leak(tmp_path):
    few = {"semi_supervised": True, "num_labeled_samples": 5000, "store_redirect_dataset": True}
    found, _, _ = converted(tmp_path, PAPER, few | {"batch_size": 8})
    assert found.models["sted"].train.batch == 8
    assert found.models["sted"].labels.count == found.estimators["vgg"].labels.count == 5000
    assert found.augmentation.counts == [5000] and found.augmentation.seeds == [0]
    assert found.augmentation.redirectors == ["sted"] and found.augmentation.export


def test_nothing_is_lost_of_a_configuration_that_fits(tmp_path):
    fits = {"l2_reg": 0, "decay": 1, "decay_steps": 1, "save_path": "."}
    _, _, lost = converted(tmp_path, PAPER, fits)
    assert lost == {}
    assert "Without a place" not in head(["a.json"], lost)


def test_options_of_an_entry_below_are_taken_back(tmp_path):
    below = {
        "class": "sted",
        "preset": "small",
        "size_px": 64,
        "preprocess": "none",
        "network": {"width": 48, "kind": "compact"},
        "objective": {"flip": True, "both_ways": True, "l1": 3.0},
        "train": {"clip_norm": 2.0, "accumulate": 4, "lr": 0.5, "ema_std": [0.1]},
    }
    found, _, _ = converted(tmp_path, PAPER, below={**DEFAULT["models"], "sted": below})
    alone, _, _ = converted(tmp_path, PAPER)
    assert found.models["sted"].resolve() == alone.models["sted"].resolve()


def test_built_in_defaults_that_cannot_train_get_the_papers_factors(tmp_path):
    found, _, lost = converted(tmp_path, {})
    resolved = found.models["sted"].resolve()
    assert resolved["network"]["num_2d_units"] == 4 and resolved["network"]["growth_rate"] == 12
    assert "0: gaze and head need" in lost["num_2d_units"]
    assert found.dataset == "synthetic" and resolved["objective"]["discriminator"] == 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"growht_rate": 3}, "ST-ED.json: growht_rate: unknown key; ST-ED has mpiigaze_file"),
        ({"growth_rate": 3.0}, "growth_rate: expected a whole number, found 3.0"),
        ({"growth_rate": True}, "growth_rate: expected a whole number, found true"),
        ({"coeff_l1_loss": "200"}, 'coeff_l1_loss: expected a number, found "200"'),
        ({"coeff_l1_loss": None}, "coeff_l1_loss: expected a number, found null"),
        ({"use_mixing": 1}, "use_mixing: expected true or false, found 1"),
        ({"save_path": 3}, "save_path: expected text, found 3"),
        ({"pick_at_least_per_person": 2.5}, "pick_at_least_per_person: expected a whole number"),
        ('{"coeff_l1_loss": NaN}', "coeff_l1_loss: expected a finite number"),
        ('{"coeff_l1_loss": 1e999}', "coeff_l1_loss: expected a finite number"),
        ('{"decay": 0.8, "decay": 0.9}', "decay: expected once, found twice"),
        ("[1]", "expected an object, found list"),
        ("{", "ST-ED.json: expected JSON, found"),
    ],
)
def test_faults_are_named(content, message, tmp_path):
    with pytest.raises(StedJsonError, match=message.replace("(", r"\(")):
        read_sted_json([write(tmp_path, content)])


def test_contradictions_are_named(tmp_path):
    for content, message in (
        (
            {"semi_supervised": True},
            "num_labeled_samples: expected at least 1 with",
        ),
        ({"decay": 1.5}, "decay_steps: expected at least 1; decay: above 0 and at most 1"),
        ({"batch_size": 0}, "batch_size, num_training_steps: expected at least 1"),
    ):
        with pytest.raises(StedJsonError, match=message):
            convert(*read_sted_json([write(tmp_path, content)]))


def test_every_key_has_a_place_or_a_reason(tmp_path):
    """Changing any key changes the overlay, or the key is told to be lost."""
    other = {int: 7, float: 0.25, bool: None, str: "elsewhere"}
    base, _ = convert(*read_sted_json([]))
    for key, default in DEFAULTS.items():
        value = 3 if default is None else not default if default in (True, False) else None
        if type(default) is bool:
            value = not default
        elif default is not None:
            value = other[type(default)]
        content = {key: value}
        if key == "semi_supervised":
            content["num_labeled_samples"] = 9
        overlay, lost = convert(*read_sted_json([write(tmp_path, content)]))
        assert key in lost or plain(overlay) != plain(base), key


def test_the_command(tmp_path):
    file = write(tmp_path, PAPER)
    base = ["--base", str(ROOT / "config.yaml")]
    done = CliRunner().invoke(app, ["convert-config", str(file), *base])
    assert done.exit_code == 0
    assert "not mapped: save_path: results go below" in done.stderr
    assert "# - save_path: results go below" in done.stdout
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(done.stdout)
    files = [str(ROOT / "config.yaml"), str(overlay)]
    assert "valid: 1 models" in CliRunner().invoke(app, ["validate", *files]).output
    missing = CliRunner().invoke(app, ["convert-config", str(tmp_path / "no.json"), *base])
    assert missing.exit_code == 1 and "no.json: expected a JSON file" in str(missing.output)


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), (b"a: [", "parsing"), (b"\xff", "can't decode")]
)
def test_a_base_that_is_no_configuration_is_named(tmp_path, content, words):
    base = tmp_path / "base.yaml"
    if content is not None:
        base.write_bytes(content)
    line = ["convert-config", str(write(tmp_path, PAPER)), "--base", str(base)]
    refused = CliRunner().invoke(app, line)
    assert refused.exit_code == 1 and words in refused.output
    assert refused.output.startswith(f"{base}: expected the configuration (--base), found: ")


SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.none())


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.dictionaries(st.text(min_size=1), SCALARS, max_size=3),
        lambda inner: st.dictionaries(
            st.text(min_size=1), st.one_of(SCALARS, st.lists(SCALARS, max_size=3), inner)
        ),
        max_leaves=8,
    ),
    st.text(),
)
def test_overlays_are_read_back_as_they_were(content, comment):
    noted = {key: Noted(value, comment) for key, value in content.items()}
    text = as_yaml(noted, comment)
    assert (yaml.safe_load(text) or {}) == content


@pytest.mark.parametrize("key", ["k" * 1024, "k" * 1025, "\x01" * 300])
@pytest.mark.parametrize(
    "value", ["text", {}, [1, [2]], {"inner": {"k" * 1025: 2}, "next": None}], ids=repr
)
def test_keys_of_any_length_are_read_back(key, value):
    overlay = {"outer": {key: Noted(value, "why"), "next": 3}, key: value, "last": 1}
    text = as_yaml(overlay, "head")
    assert yaml.safe_load(text) == plain(overlay)
    assert ("\n? " in text) == (key != "k" * 1024), "the explicit form is for long keys alone"
