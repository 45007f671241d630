"""A second rendered data set has options of capture, folders and jobs of its own."""

import planning
import pytest
import yaml

from regaze.versioning import dvc_yaml

CONFIG = """
shards: 1
datasets: {varied: {source: synthetic, capture: {appearance: varied, persons: {val: 3}}}}
encoders: {deca: {preset: tiny}}
estimators: {vgg: {preset: tiny, size_px: 32}, resnet: {preset: tiny, size_px: 32}}
identity: null
models:
  {xunet: null, xunet_deca: null, xunet_lite: null, xunet_student: null, sted: null,
   redirtrans: null, gazenerf: null, diffusionrig_gaze: null,
   regression: {preset: tiny, size_px: 32, data: {labelled: varied}}}
evaluation: {study: {models: null}}
augmentation: {redirectors: []}
"""


def merged(text="{}"):
    return planning.configured(CONFIG, text)


@pytest.fixture(scope="module")
def pretended(tmp_path_factory):
    """A folder that looks as if everything had run."""
    folder = tmp_path_factory.mktemp("captures")
    with planning.quickly():
        planning.pretend(folder, merged(), ("all",))
        yield folder


def test_each_rendered_set_has_a_folder(pretended):
    for name in ("synthetic", "varied"):
        assert (pretended / f"results/{name}/capture").exists()
        assert (pretended / f"results/{name}/faces/shard-000.h5").exists()


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("capture: {gazes: 5}", {"synthetic", "varied"}),
        ("datasets: {varied: {capture: {gazes: 5}}}", {"varied"}),
        ("datasets: {synthetic: {capture: {details: {lids: 1.0}}}}", {"synthetic"}),
        # The second set says otherwise.
        ("capture: {appearance: varied}", {"synthetic"}),
        ("capture: {threads: 3}", set()),
    ],
)
def test_a_change_renders_the_sets_again_that_it_is_about(pretended, text, sets):
    plan = planning.plan(pretended, merged(text), ("all",))
    own = {job for job in plan.own if not job.startswith("write_report")}
    assert own == {f"render_capture {name}" for name in sets}
    # Estimators learn from the set that is trained on, the entry from its own.
    trained = {job.split()[1] for job in plan.needed if job.startswith("train_")}
    assert ("regression" in trained) == ("varied" in sets)
    assert {"vgg", "resnet"} <= trained if "synthetic" in sets else "resnet" not in trained


def test_stages_of_dvc_tell_the_captures_apart():
    stages = yaml.safe_load(dvc_yaml(merged()))["stages"]
    first, second = stages["capture"], stages["capture-varied"]
    assert (first["outs"], second["outs"]) == (
        ["results/synthetic/capture"], ["results/varied/capture"]
    )  # fmt: skip
    keys = [stage["params"][0]["config.yaml"] for stage in (first, second)]
    assert "datasets.varied.capture" in keys[1] and "datasets.varied.capture" not in keys[0]
    assert "capture.gazes" in keys[0] and "capture.gazes" in keys[1]


def test_encoders_learn_from_the_set_that_is_trained_on():
    config = merged("dataset: varied\nmodels: {xunet_deca: {preset: tiny, size_px: 32}}")
    config["models"]["xunet_deca"]["class"] = "xunet"
    config["models"]["xunet_deca"] |= {"network": {"code": "film"}, "deca": {"encoder": "deca"}}
    train = yaml.safe_load(dvc_yaml(config))["stages"]["train-deca"]
    assert "results/varied/capture" in train["deps"]
    assert "results/synthetic/capture" not in train["deps"]
