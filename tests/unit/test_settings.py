"""The configuration: the files in the repository are valid, faults are named by their path."""

import copy
import json
import sys
from pathlib import Path

import pytest
import yaml

import regaze.redirectors
from regaze.configfiles import read_settings
from regaze.faults import missing_files
from regaze.redirectors.declaration import SamplingOptions
from regaze.settings import ConfigurationError, json_schema, load_settings

ROOT = Path(__file__).parents[2]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())


PUPIL = """
from typing import Literal

from pydantic import Field

from regaze.redirectors.declaration import Declaration, MethodSettings, Network
from regaze.training.settings import RedirectorTraining


class ModelSettings(MethodSettings):
    method: Literal["pupil"] = Field(alias="class")
    size_px: int = 64
    teacher: str
    train: RedirectorTraining = RedirectorTraining()

    @staticmethod
    def declare(config):
        return Declaration(networks=(Network("teacher", "models", config["teacher"]),))
"""


def changed(path, value):
    config = copy.deepcopy(DEFAULT)
    *parents, last = path.split(".")
    here = config
    for key in parents:
        here = here.setdefault(key, {})
    here[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sed", 1, "sed: unknown key"),
        ("shards", "many", "shards: .*integer.*'many'"),
        ("shards", 0, "shards: .*greater than or equal to 1"),
        ("capture.photo", 121, "capture.photo: .*multiple of 2"),
        ("capture.persons.test", 20_000, "capture.persons.test: .*less than or equal to 19999"),
        ("dataset", "mine", "dataset: 'mine' is not defined; expected one of synthetic"),
        ("datasets.mine", {"source": "gazecapture"}, "datasets.mine.root: Field required"),
        ("datasets.mine", {"root": "x"}, "datasets.mine.source: missing; .*gazecapture"),
        (
            "datasets.mine",
            {"source": "folder", "root": "x", "split": {"val": 0.5, "test": 0.6}},
            "datasets.mine.split.*more than 1",
        ),
        (
            "datasets.synthetic.split",
            "s.json",
            "datasets.synthetic: split: expected none, .*found 's.json'",
        ),
        ("masks.encoder", "emoca", "masks.encoder: 'emoca' is not defined; expected one of deca"),
        ("acquire.encoder", "emoca", "acquire.encoder: 'emoca' is not defined"),
        ("models.vgg", {"class": "xunet"}, "models: 'vgg' is also a name in estimators"),
        (
            "estimators.resnet.size_px",
            128,
            "models.xunet.size_px: 64, but the evaluation estimator 'resnet' works on 128 px",
        ),
        (
            "models.xunet.train.validate_estimator",
            "resnet",
            "models.xunet: its training estimator 'resnet' also measures all methods",
        ),
        (
            "models.xunet_student.distil.teacher",
            "xunet_student",
            "models.xunet_student: its teacher 'xunet_student' learns from itself",
        ),
        ("datasets.synthetic.root2", "x", "datasets.synthetic.root2: unknown key"),
        ("evaluation.datasets", ["mine"], "evaluation.datasets: 'mine' is not defined"),
        ("datasets.mine", {"source": "tobii"}, "datasets.mine.source: .*'tobii'"),
        ("capture.details.glases", 0.3, "capture.details.glases: unknown key"),
        ("capture.details.glasses", 1.2, "capture.details.glasses: .*less than or equal to 1"),
        ("capture.gaze_range", [45, 20], "capture.gaze_range: expected pitch from 2 to 30 and yaw"),
        ("capture.head_range", [10], "capture.head_range.1: Field required"),
        ("datasets.synthetic.capture", {"photo": 121}, "synthetic.capture.photo: .*multiple of 2"),
        ("datasets.synthetic.capture", {"threads": 2}, "synthetic.capture.threads: unknown key"),
        (
            "datasets.synthetic.capture",
            {"gaze_range": [10, 1]},
            "datasets.synthetic.capture.gaze_range: expected pitch .*found .10.0, 1.0.",
        ),
        ("capture.persons.tset", 3, "capture.persons.tset: unknown key"),
        ("faces.frame_check", "sfm", "sfm_mesh: .*Surrey Face Model"),
        ("faces.variant", "custom", "patch_size: variant 'custom' needs"),
        ("faces.patch_size", [128, 96], "patch_size: 128 x 96, but variant 'sted' is 1 to 1"),
        ("faces.patch_size", [96, 96], "models.xunet.size_px: 64 does not divide the patch width"),
        ("faces.max_rejected", 1.5, "faces.max_rejected: .*less than or equal to 1"),
        ("estimators.vgg.arch", "vit", "estimators.vgg.arch: .*'vit'"),
        ("estimators.vgg.train.lr", -1, "estimators.vgg.train.lr: .*greater than 0"),
        ("estimators.resnet.size_px", 48, "estimators.resnet.size_px: 48 does not divide"),
        ("models.new", {"class": "gan"}, "models.new.class: unknown class 'gan'; .*xunet"),
        ("models.new", {}, "models.new.class: missing"),
        ("models.copy", {"class": "xunet"}, "'copy' is no name"),
        ("models.xunet.size_px", 60, "models.xunet.size_px: 60 is not divisible by 8"),
        ("models.xunet.network.chanels", 3, "models.xunet.network.chanels: unknown key"),
        ("models.xunet.network.ch", 36, "network.ch: 36 x 1 = 36 channels are not divisible"),
        ("models.xunet.network.attn_levels", [7], "attn_levels: 7 is not a level"),
        ("models.xunet_lite.network.concat_source", False, "concat_source: must be true"),
        ("models.xunet.objective.base", "none", "objective.base: 'none' does not go with"),
        ("models.xunet.sampling.steps", 0, "xunet.sampling.steps: .*greater than or equal to 1"),
        ("models.xunet.sampling.sigma_min", 30.0, "sampling: sigma_min: 30.0 must be below"),
        ("models.xunet.sampling.step", 3, "models.xunet.sampling.step: unknown key"),
        ("models.sted.sampling.steps", 3, "models.sted.sampling.steps: unknown key"),
        ("models.regression.sampling.steps", 3, "models.regression.sampling.steps: .* without noi"),
        ("models.xunet_student.sampling.guidance", 1.0, "student.sampling.guidance: .* own steps"),
        ("models.xunet_student.sampling.sources", 2, "student.sampling.sources: .* own steps"),
        ("models.xunet_lite.sampling.sources", 2, "xunet_lite.sampling.sources: .* expected 1"),
        ("sampling.steps", 8, "sampling: steps: .* models.<name>.sampling.steps of class 'xunet'"),
        ("sampling.precision", "bf16", "sampling: precision: expected in the section of each"),
        ("sampling.guidance", 1, "sampling: guidance: .* found here"),
        ("sampling.max_v", 1, "sampling.max_v: unknown key"),
        ("evaluation.estimator", "iris", "evaluation.estimator: 'iris' is not defined"),
        ("evaluation.models", ["gan"], "evaluation.models: 'gan' is not defined"),
    ],
)
def test_fault_is_named_with_its_path(path, value, message):
    with pytest.raises(ConfigurationError, match=message):
        load_settings(changed(path, value))


def test_every_model_has_its_own_options_of_sampling_beside_those_of_all():
    config = changed("models.xunet.sampling", {"steps": 7, "sampler": "heun"})
    config["models"]["regression"]["sampling"] = {"precision": "bf16"}
    settings = load_settings(config)
    found = {name: settings.sampling_of(name) for name in [*settings.models, "copy", "truth"]}
    assert (found["xunet"]["steps"], found["xunet_lite"]["steps"]) == (7, 2)
    assert found["regression"]["precision"] == "bf16" and found["xunet"]["sampler"] == "heun"
    shared = {"seed", "batch", "memory_mb", "threads", "gpus"}
    assert set(found["sted"]) == shared and shared < set(found["xunet"])
    assert found["copy"] == found["truth"] == {}
    # They are no part of what a training goes by.
    default = load_settings(DEFAULT)
    assert settings.models["xunet"].resolve() == default.models["xunet"].resolve()


def test_guidance_of_a_model_that_never_learnt_without_its_condition_is_refused():
    config = changed("models.xunet.objective", {"drop_prob": 0.0})
    config["models"]["xunet"]["sampling"] = {"guidance": 0.5}
    with pytest.raises(ConfigurationError, match="models.xunet.sampling.guidance: 0.5 needs"):
        load_settings(config)


def test_an_option_that_the_workflow_has_itself_is_no_methods():
    with pytest.raises(TypeError, match="Own: the workflow has these itself: .'seed'"):

        class Own(SamplingOptions):
            seed: int = 0


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"models": ["mine"]}, "evaluation.study.models: 'mine' is not defined"),
        ({"models": ["regression"]}, "evaluation.study.models: 'regression' samples without noise"),
        ({"models": ["xunet"], "steps": [2, 0]}, "evaluation.study.steps: expected different"),
        ({"models": ["xunet"], "reference": {"sampler": "ddpm"}}, "study.reference.sampler: "),
        ({"models": ["told"]}, "evaluation.study.weights: 'told' cannot be guided"),
    ],
)
def test_studies_of_what_cannot_be_sampled_so_are_refused(study, message):
    config = changed("evaluation.study", study)
    config["models"]["told"] = {"class": "xunet", "objective": {"drop_prob": 0.0}}
    with pytest.raises(ConfigurationError, match=message):
        load_settings(config)


def test_variants_are_of_models_that_sample_with_noise():
    config = changed("sampling.max_w", 2.5)
    config["models"]["told"] = {"class": "xunet", "objective": {"drop_prob": 0.0}}
    config["sampling"]["save_gif"] = True
    settings = load_settings(config)
    assert settings.sampling.weights == [0.0, 1.0, 2.0]
    assert {"xunet", "xunet_deca"} <= set(settings.weighted)
    assert not {"told", "regression", "copy", "truth"} & set(settings.weighted)
    assert "told" in settings.animated and "regression" not in settings.animated
    default = load_settings(DEFAULT)
    assert default.sampling.weights == default.weighted == default.animated == []


def test_background_is_removed_where_it_is_asked_for():
    assert not load_settings(DEFAULT).without_background("synthetic")
    assert load_settings(changed("evaluation.remove_background", True)).without_background("any")
    chosen = load_settings(changed("evaluation.remove_background", ["synthetic"]))
    assert chosen.without_background("synthetic") and not chosen.without_background("other")
    with pytest.raises(ConfigurationError, match="remove_background: 'mine' is not defined"):
        load_settings(changed("evaluation.remove_background", ["mine"]))
    with pytest.raises(ConfigurationError, match="background: expected R, G, B from 0 to 255"):
        load_settings(changed("evaluation.background", [0, 0, 300]))


def test_eye_strips_can_be_made_with_the_default_models_configured():
    assert load_settings(changed("faces.variant", "faze")).faces.size == (256, 64)


def merged(below, above):
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        below[key] = merged(below[key], value) if both else value
    return below


LICENSED = ("mpiifacegaze.yaml", "eth-xgaze.yaml", "columbia.yaml", "gazecapture.yaml")
BELOW = {"cross-dataset.yaml": LICENSED, "gpu.yaml": LICENSED[-1:]}
"""What an overlay is laid over besides the default."""


@pytest.mark.parametrize("overlay", sorted(p.name for p in (ROOT / "configs").glob("*.yaml")))
def test_every_overlay_is_valid(overlay):
    config = copy.deepcopy(DEFAULT)
    for name in (*BELOW.get(overlay, ()), overlay):
        config = merged(config, yaml.safe_load((ROOT / "configs" / name).read_text()))
    load_settings(config)


@pytest.mark.parametrize("name", ["gazecapture", "eth-xgaze"])
def test_large_data_sets_are_mapped_and_not_held_in_memory(name):
    settings = read_settings([ROOT / "config.yaml", ROOT / f"configs/{name}.yaml"])
    entries = [*settings.models.values(), *settings.estimators.values(), settings.identity]
    assert {entry.train.cache for entry in entries} == {"mmap"}


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ("capture.persons.train_redirector", 4000, "models.sted"),
        ("capture.gazes", 200, "estimators.resnet"),
        ("capture.persons.train_evaluator", 4000, "identity"),
        ("resources.rules.train_model.mem_mb", 100, "models.xunet"),
        ("resources.max_mem_mb", 150, "encoders.deca"),
    ],
)
def test_patches_beyond_the_memory_that_is_asked_for_are_a_fault(path, value, key):
    config = changed(path, value)
    words = rf"{key}.train.cache: 'memory' holds \d+ patches of 128 x 128 px, \d+ MB, expected"
    with pytest.raises(ConfigurationError, match=words):
        load_settings(config)
    for section in ("models", "estimators", "encoders"):
        for entry in config[section].values():
            entry.setdefault("train", {})["cache"] = "mmap"
    config["identity"]["train"]["cache"] = "mmap"
    load_settings(config)


def test_checked_in_schema_is_current_and_names_every_key():
    text = (ROOT / "config.schema.json").read_text()
    assert text == json_schema()
    assert set(DEFAULT) <= set(json.loads(text)["properties"])


def test_photos_are_acquired_with_an_encoder():
    config = changed("acquire.photos", "mine.jpg") | {"encoders": {}}
    with pytest.raises(ConfigurationError, match="acquire.photos: needs an entry of encoders"):
        load_settings(config)


def test_a_method_from_elsewhere_may_take_any_teacher(tmp_path, monkeypatch):
    (tmp_path / "pupil").mkdir()
    (tmp_path / "pupil/settings.py").write_text(PUPIL)
    path = [*regaze.redirectors.__path__, str(tmp_path)]
    monkeypatch.setattr(regaze.redirectors, "__path__", path)
    config = changed("models.mine", {"class": "pupil", "teacher": "regression"})
    assert load_settings(config).models["mine"].teacher == "regression"
    config["models"]["mine"]["teacher"] = "gan"
    with pytest.raises(ConfigurationError, match="models.mine: its teacher: 'gan' is not defined"):
        load_settings(config)


def test_files_that_are_named_but_absent_are_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = changed("datasets.mine", {"source": "folder", "root": "photos", "split": "s.json"})
    config |= {"dataset": "mine", "shards": 2}
    config["encoders"] = {"deca": {"class": "deca", "preset": "reference", "checkpoint": "d.tar"}}
    config["models"]["xunet"]["train"]["transfer"] = "earlier"
    config["models"]["regression"]["train"]["transfer"] = "results/models/xunet"
    settings, anonymous = load_settings(config), load_settings(config | {"identity": None})
    assert [line.split(": no such")[0] for line in missing_files(settings)] == [
        "encoders.deca: d.tar",
        "models.xunet.train.transfer: earlier/model.safetensors",
        "datasets.mine.split: s.json",
        "datasets.mine.root: photos",
    ]
    # Results that came without the photos they were made from are enough.
    (tmp_path / "results/mine/faces").mkdir(parents=True)
    for shard in ("000", "001"):
        (tmp_path / f"results/mine/faces/shard-{shard}.h5").touch()
    (tmp_path / "s.json").touch()
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier/model.safetensors").touch()
    for one in (settings, anonymous):
        assert [line.split(":")[0] for line in missing_files(one)] == ["encoders.deca"]


def test_settings_do_not_need_torch(tmp_path):
    import subprocess

    code = "import regaze.settings, regaze.provenance, sys; assert 'torch' not in sys.modules"
    load = "import yaml; regaze.settings.load_settings(yaml.safe_load(open('config.yaml')))"
    check = "assert not {'torch', 'pandas', 'cv2'} & set(sys.modules), 'heavy import'"
    subprocess.run([sys.executable, "-c", f"{code}; {load}; {check}"], cwd=ROOT, check=True)


WHOLE = {"train": list("abc"), "val": ["d"], "test": ["e"]}


def on_photos(shares, source="folder", folder="photos", **evaluation):
    """The default configuration, trained on a data set of photos with this split."""
    config = changed("dataset", "mine")
    config["datasets"]["mine"] = {"source": source, "root": str(folder)}
    if shares is not None:
        config["datasets"]["mine"]["split"] = shares
    config["evaluation"] |= evaluation
    return config


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ({"test": 0.2}, ["val: expected somebody, found nobody (for models.xunet)"]),
        ({"val": 0.2, "test": 0.0}, ["test: expected somebody, found nobody (for evaluation.sp"]),
        (
            {"val": 0.3, "test": 0.7},
            [
                "train-evaluator: expected somebody, found nobody (for estimators.resnet)",
                "train-redirector: expected somebody, found nobody (for models.",
            ],
        ),
        (WHOLE | {"val": []}, ["val: expected somebody, found nobody in "]),
        (WHOLE | {"test": []}, ["test: expected somebody, found nobody in "]),
        (WHOLE | {"train": ["a"]}, ["train-redirector: expected somebody, found nobody in "]),
        (
            WHOLE | {"train-redirector": list("abc")},
            ["train-evaluator: expected somebody, found nobody in "],
        ),
    ],
)
@pytest.mark.parametrize("at", ["named", "beside the photos"])
def test_a_split_without_somebody_who_is_needed_stops_at_once(tmp_path, split, told, at):
    if "train" in split:
        path = tmp_path / "split.json"
        path.write_text(json.dumps(split))
        split = str(path) if at == "named" else None
    with pytest.raises(ConfigurationError) as error:
        load_settings(on_photos(split, folder=tmp_path))
    lines = str(error.value).splitlines()[1:]
    assert len(lines) == len(told)
    for words in told:
        assert any(line.startswith(f"  datasets.mine.split: {words}") for line in lines), lines
    assert all("deal persons by shares such as {val: 0.1, test: 0.2}" in line for line in lines)


@pytest.mark.parametrize("source", ["eth_xgaze", "eth_xgaze_hdf5"])
def test_the_released_split_of_eth_xgaze_has_nobody_to_validate_on(source):
    words = r"datasets.mine.split: val: expected somebody, found nobody \(for models.xunet\)"
    with pytest.raises(ConfigurationError, match=words):
        load_settings(on_photos(None, source))
    load_settings(on_photos({"val": 0.05, "test": 0.15}, source))
    # Whose networks learn elsewhere needs nobody but those it is evaluated on.
    foreign = changed("datasets.mine", {"source": source, "root": "x"})
    foreign["evaluation"]["datasets"] = ["mine"]
    load_settings(foreign)


def test_lists_are_needed_of_those_who_take_them(tmp_path):
    everybody = {"val": 0.0, "test": 1.0}
    foreign = changed("datasets.mine", {"source": "folder", "root": "x", "split": everybody})
    foreign["evaluation"]["datasets"] = ["mine"]
    settings = load_settings(foreign)
    assert settings.needed_lists("mine") == {"test": "evaluation.split"}
    foreign["datasets"]["mine"]["split"] = {"val": 1.0, "test": 0.0}
    with pytest.raises(ConfigurationError, match="mine.split: test: expected somebody, found nob"):
        load_settings(foreign)
    foreign["evaluation"]["datasets"] = []
    assert load_settings(foreign).needed_lists("mine") == {}
    lists = on_photos({"val": 0.2, "test": 0.2}, split="test-phone")
    words = "split: test-phone: expected a list with somebody in it, found only train, val, test"
    with pytest.raises(ConfigurationError, match=words):
        load_settings(lists)
    # What is published learns from nobody and is validated on nobody.
    (tmp_path / "weights").touch()
    published = {"arch": "resnet", "preset": "reference", "size_px": 128, "persons": "train"}
    published |= {"preprocess": "equalise", "checkpoint": str(tmp_path / "weights")}
    config = on_photos({"test": 1.0}, estimator="judge")
    config |= {"models": {}, "estimators": {"judge": published}, "identity": None}
    config["evaluation"]["study"], config["augmentation"] = {}, {}
    assert load_settings(config).needed_lists("mine") == {"test": "evaluation.split"}


def test_a_rendered_data_set_has_options_of_its_own_over_those_of_capture():
    changes = {"gazes": 3, "details": {"camera": 0.5}}
    own = {"appearance": "varied", "gaze_range": [25, 30], "persons": {"test": 3}}
    own["details"] = {"glasses": 0.0}
    given = changed("datasets.other", {"source": "synthetic", "capture": own})
    given["capture"] |= changes
    settings = load_settings(given)
    own, base = settings.capture_of("other@near"), settings.capture
    assert settings.capture_of("synthetic") == base and base.appearance == "plain"
    assert (own.appearance, own.gaze_range, own.gazes) == ("varied", (25.0, 30.0), 3)
    assert own.persons == base.persons.model_copy(update={"test": 3})
    assert (own.details.camera, own.details.glasses, own.details.lids) == (0.5, 0.0, None)
    assert own.head_range == base.head_range
