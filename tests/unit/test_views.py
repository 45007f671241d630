"""Views as sections of the configuration, and what tells one from another."""

import copy

import pytest
import yaml
from running import ROOT

from regaze.configfiles import merge
from regaze.settings import ConfigurationError, load_settings
from regaze.views import divided, in_view, told_view, why_another

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
STED = {"variant": "sted", "patch_size": [128, 128], "focal": 500.0, "distance": 600.0}


def settings(text):
    config = copy.deepcopy(CONFIG)
    merge(config, yaml.safe_load(text))
    return load_settings(config)


NEAR = "views: {near: {patch_size: [64, 64], focal: 400}}\n"
ALIGNED = "views: {aligned: {framing: ffhq, patch_size: [64, 64]}}\n"


def test_names_of_data_sets_in_views():
    assert in_view("synthetic", "default") == "synthetic"
    for name in (("synthetic", "near"), ("a-b", "default")):
        assert divided(in_view(*name)) == name


def test_a_view_lies_on_top_of_faces():
    made = settings(
        "faces: {variant: custom, patch_size: [128, 128], focal: 960, distance: 300}\n"
        "views: {small: {patch_size: [64, 64]}, far: {distance: 200}, old: {variant: sted}}"
    )
    small, far, old = (made.faces_in(f"synthetic@{name}") for name in ("small", "far", "old"))
    # Fewer pixels of the same field of view, another distance, none of another variant's numbers.
    assert (small.patch_size, small.focal, small.distance) == ((64, 64), 480, 300)
    assert small.shows_as(made.faces) and not far.shows_as(made.faces)
    assert (far.patch_size, far.focal, far.distance) == ((128, 128), 960, 200)
    assert (old.size, old.focal, old.distance) == ((128, 128), None, None)
    assert made.faces_in("synthetic") == made.faces


def test_an_entry_without_data_has_those_of_all():
    made = settings("{}")
    assert made.face_sets == made.read == ["synthetic"]
    data = made.data_of("xunet")
    assert (data.labelled, data.view) == ("synthetic", "default")
    said = settings("models: {xunet: {data: {labelled: synthetic, view: default}}}")
    assert said.models["xunet"].resolve() == made.models["xunet"].resolve()


def test_what_entries_read_is_told():
    made = settings(
        NEAR + "datasets: {other: {source: folder, root: photos}}\n"
        "models: {regression: {data: {view: near, labelled: other}}}"
    )
    assert made.face_sets == ["synthetic", "other@near", "synthetic@near"]
    assert made.read == ["synthetic", "other"]
    assert made.needed_lists("other") == {
        "train-redirector": "models.regression", "val": "models.regression",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: {regression: {data: {view: near}}}", "data.view: 'near' is not defined"),
        ("models: {regression: {data: {labelled: b}}}", "data.labelled: 'b' is not defined"),
        ("views: {default: {}}", "'default' is the view of `faces`"),
        ("views: {a: {framing: dlib}}", "views.a.framing: .*'normalised' or 'ffhq'"),
        ("views: {a: {framing: ffhq, focal: 400}}", "focal: 400.0, but framing 'ffhq' is no"),
        ("views: {a: {framing: ffhq, patch_size: [256, 64]}}", "expected a square .* 256 x 64"),
        (
            ALIGNED + "models: {sted: {data: {view: aligned}, "
            "objective: {eye_weight: 0, redirection_gaze: 1}}}",
            "training estimator 'vgg' knows faces in another view",
        ),
        (
            ALIGNED + "models: {regression: {data: {view: aligned}}}",
            "models.regression.objective.eye_weight: 8, but its view 'aligned' has framing 'ffhq'",
        ),
        (
            ALIGNED + "models: {xunet_deca: {data: {view: aligned}}}",
            "class 'xunet' reads codes of patches, but its view 'aligned'",
        ),
        (
            ALIGNED + "evaluation: {remove_background: true}\n"
            "models: {regression: {data: {view: aligned}, objective: {eye_weight: 0}}}",
            "of which no masks are made",
        ),
        (
            ALIGNED + "evaluation: {albums: {size: 5}}\n"
            "models: {regression: {data: {view: aligned, per: person}, "
            "objective: {eye_weight: 0}}}",
            "rows are not numbered as in albums",
        ),
        ("views: {a: {variant: custom}}", "views.a: patch_size: variant 'custom' needs"),
        ("views: {a: {variant: faze}}", "looks at another point of the face"),
        ("estimators: {vgg: {view: near}}", "estimators.vgg.view: 'near' is not defined"),
        (NEAR + "estimators: {resnet: {view: near}}", "but it is evaluation.estimator"),
        (
            NEAR + "estimators: {vgg: {view: near, size_px: 48}}\nmodels: {redirtrans: null}",
            "48 does not divide",
        ),
        (NEAR + "models: {regression: {size_px: 48, data: {view: near}}}", "48 does not divide"),
        # The networks that it learns from know the other view.
        (
            NEAR + "models: {sted: {data: {view: near}, objective: {redirection_gaze: 1}}}",
            "training estimator 'vgg' knows faces in another view",
        ),
        (
            NEAR + "models: {xunet_student: {data: {view: near}}}",
            "teacher 'xunet_lite' knows faces",
        ),
        (
            NEAR + "datasets: {p: {source: eth_xgaze_hdf5, root: patches}}\n"
            "models: {regression: {data: {view: near, labelled: p}}}",
            "released as patches",
        ),
        (
            "models: {regression: {data: {unlabelled: synthetic}}}",
            "class 'xunet' learns from labelled data alone",
        ),
        (
            "datasets: {other: {source: folder, root: photos}}\n"
            "models: {xunet_lite: {data: {labelled: other}}}",
            "labelled samples of the study are of 'synthetic'",
        ),
    ],
)
def test_data_that_cannot_be_had_are_refused(text, told):
    with pytest.raises(ConfigurationError, match=told):
        settings(text)


def test_an_estimator_of_a_view_is_for_methods_of_that_view():
    made = settings(
        NEAR + "estimators: {vgg: {view: near}}\nmodels: {redirtrans: null, "
        "sted: {data: {view: near}, objective: {redirection_gaze: 1}}}"
    )
    assert made.face_sets == ["synthetic", "synthetic@near"]
    assert made.estimators["vgg"].model_dump()["view"] == "near"
    assert "view" not in made.estimators["resnet"].model_dump()


def test_framing_ffhq_is_a_square_with_the_labels_of_faces():
    made = settings(
        "views: {aligned: {framing: ffhq, patch_size: [64, 64]}, large: {framing: ffhq}}\n"
        "faces: {frame_check: none}\n"
        "models: {regression: {data: {view: aligned}, objective: {eye_weight: 0}}}"
    )
    small, large = (made.faces_in(f"synthetic@{name}") for name in ("aligned", "large"))
    assert (small.size, large.size) == ((64, 64), (256, 256))
    assert small.shows_as(large) and not small.shows_as(made.faces)
    assert small.aligned and not made.faces.aligned and small.frame_check == "none"
    assert "framing" not in made.faces.model_dump()
    # Of photos that a virtual camera shows none is lost, so the split goes by its view.
    assert made.face_sets == ["synthetic", "synthetic@aligned"]
    assert made.first_view("synthetic") == "synthetic"


def test_fewer_pixels_are_no_other_view():
    made = settings(
        "views: {small: {patch_size: [64, 64]}}\n"
        "models: {xunet_student: {data: {view: small}}, "
        "sted: {data: {view: small}, objective: {redirection_gaze: 1}}}"
    )
    assert made.face_sets == ["synthetic", "synthetic@small"]


def test_views_are_told_apart_by_what_they_show():
    half = STED | {"patch_size": [64, 64], "focal": 250.0}
    near = STED | {"distance": 400.0}
    strip = STED | {"patch_size": [256, 64]}
    assert why_another(STED, half) == why_another(None, near) == why_another(near, None) == ""
    assert "show 154 mm at the face" in why_another(STED, near)
    assert "found 256 x 64 px" in why_another(STED, strip)
    assert told_view({**STED, "patch_size": (128, 128), "gaze": "absent"}) == STED
    assert told_view({"variant": "sted"}) is None
    ffhq = told_view({"framing": "ffhq", "variant": "sted", "patch_size": (256, 256)})
    assert ffhq == {"framing": "ffhq", "patch_size": [256, 256]}
    assert why_another(ffhq, ffhq | {"patch_size": [64, 64]}) == why_another(None, ffhq) == ""
    for own, other in ((ffhq, STED), (STED, ffhq)):
        assert "256 x 256 px aligned by eyes and mouth" in why_another(own, other)
