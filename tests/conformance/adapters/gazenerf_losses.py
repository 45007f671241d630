"""What radiance fields learn from (colincqian/GazeNeRF, AlessandroRuzzi/GazeNeRF)."""

from __future__ import annotations

import torch
from kit import adapter, assert_close, fill_input

from regaze.angles import angular_error, vector_from_angles
from regaze.estimators.build import build_estimator
from regaze.redirectors.gazenerf.adversary import PatchDiscriminator, judged, real_loss, warm
from regaze.redirectors.gazenerf.objective import Objective, Offsets, Photos
from regaze.redirectors.gazenerf.perceptual import Vgg16Distance
from regaze.redirectors.gazenerf.settings import LOSSES
from regaze.weights import load_strictly

SIDE = 24


def drawn(case, name, shape, low=-1.0, high=1.0):
    return torch.from_numpy(fill_input(name, shape, case.seed, low, high))


def picture(case, name):
    return drawn(case, name, [1 if name == "bg_img" else 2, 3, SIDE, SIDE], 0, 1)


def photos(case, calmer=None) -> Photos:
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    head = (x - 12) ** 2 + (y - 12) ** 2 < 90
    eyes = ((x - 7) ** 2 + (y - 9) ** 2 < 9) | ((x - 17) ** 2 + (y - 9) ** 2 < 9)
    masks = (one.expand(2, 1, -1, -1) for one in (head, eyes))
    everybody = torch.ones(2, dtype=torch.bool)
    return Photos(picture(case, "gt"), *masks, calmer and (picture(case, calmer), everybody))


def offsets(case) -> Offsets:
    shapes = {"d_euler": [2, 3], "d_tvec": [2, 3, 1], "iden": [2, 10], "expr": [2, 7]}
    shapes["appea"] = [2, 20]
    return Offsets(*(drawn(case, name, shape) for name, shape in shapes.items()))


OFFSETS = {
    "turn": "delta_eular",
    "shift": "delta_tvec",
    "identity": "iden_code",
    "expression": "expr_code",
    "appearance": "appea_code",
}


def close(terms, total, case, start, names) -> None:
    for name, value in terms.items():
        key = f"{start}_{names.get(name, OFFSETS.get(name, f'{name}_loss'))}"
        assert_close(value, case.golden[key], 1e-5, name=key)
    assert_close(total, case.golden[f"{start}_total_loss"], rtol=1e-5, name=f"{start}_total_loss")


@adapter("gazenerf/math_losses_headnerf")
def headnerf(case):
    made = {"image": picture(case, "merge_img"), "background": picture(case, "bg_img")}
    made |= {"template": picture(case, "template_img"), "displaced": picture(case, "disp_img")}
    names = {"background": "bg_loss", "eye_region": "eye_loss", "displaced": "image_disp_loss"}
    names["template_eyes"] = "template_eye_loss"
    weights = case.config
    told = {"eye_region": "eye_loss", "template": "template_loss"}
    told |= {"template_eyes": "template_eye_loss", "displaced": "image_disp_loss"}
    learns = {**LOSSES["seed"], **{name: weights[key] for name, key in told.items()}}
    assert not case.golden["fit_bg_code"], "no code of the background is learnt"
    for start, options in (
        ("fit", LOSSES["fit"]),
        ("train", {**learns, "displaced": 0.0}),
        ("train_fullhead", {**learns, "displaced": 0.0, "template_whole": True}),
    ):
        objective, wanted = Objective(**options), photos(case, "template_gt")
        terms = objective.terms(made, wanted) | objective.offset_terms(offsets(case))
        shown = {"template": terms["template"]} if start == "train_fullhead" else terms
        close(shown, objective.total(terms), case, start, names)
    plain = {**learns, "template": 0.0, "template_eyes": 0.0}
    objective = Objective(**plain)
    terms = objective.terms(made, photos(case))
    key = "disp_image_disp_loss"
    assert_close(terms["displaced"], case.golden[key], 1e-5, name=key)
    # Upstream adds the weight of a term that it has switched off.
    wanted = case.golden["disp_total_loss_upstream"] - weights["lm_disp_loss"]
    assert_close(objective.total(terms), wanted, rtol=1e-5, name="disp_total_loss")


@adapter("gazenerf/math_losses_gazenerf")
def gazenerf(case):
    made = {"image": picture(case, "merge_img"), "background": picture(case, "bg_img")}
    made |= {"face": picture(case, "merge_img_face"), "eyes": picture(case, "merge_img_eyes")}
    names = {"background": "bg_loss"}
    for start, distance in (("l1", "l1"), ("mse", "l2")):
        objective = Objective(**{**LOSSES["gazenerf"], "distance": distance})
        terms = objective.terms(made, photos(case)) | objective.offset_terms(offsets(case))
        close(terms, objective.total(terms), case, start, names)
    first, second = (drawn(case, name, [5, 2]) for name in ("gaze_a", "gaze_b"))
    apart = angular_error(first, second)
    assert_close(apart, case.golden["angular_each"], rtol=1e-4, name="angular_each")
    assert_close(apart.mean(), case.golden["angular_mean"], rtol=1e-5, name="angular_mean")
    assert_close(vector_from_angles(first), case.golden["vec_a"], 1e-5, name="vec_a")
    steps = [0, 1000, 20_000, 50_000, 200_000]
    weights = [min(0.1, warm(step, 200_000)) for step in steps]
    assert_close(weights, case.golden["patchgan_warmup"], 1e-6, name="patchgan_warmup")


@adapter("gazenerf/patchgan")
@torch.no_grad()
def patchgan(case):
    network = PatchDiscriminator(case.config["ndf"])
    load_strictly(network, case.state)
    found = network.eval()(torch.from_numpy(case.inputs["img"]))
    assert_close(found, case.golden["logits"], 1e-5, name="logits")
    real, made = (drawn(case, f"{name}_logits", [2, 1, 5, 5], -2, 2) for name in ("real", "fake"))
    assert_close(judged(real, made), case.golden["disc_loss"], 1e-5, name="disc_loss")
    assert_close(real_loss(made), case.golden["gen_loss"], 1e-5, name="gen_loss")


@adapter("gazenerf/vgg16_perceptual")
@torch.no_grad()
def vgg16_perceptual(case):
    network = Vgg16Distance()
    own = network.state_dict()
    load_strictly(network, {key: own[key] for key in case.manifest["constants"]} | case.state)
    pair = (drawn(case, name, [1, 3, 96, 96], 0, 1) for name in ("pred", "target"))
    assert_close(network(*pair), case.golden["loss"], rtol=1e-4, name="loss")


@adapter("gazenerf/gaze_vgg16*")
@torch.no_grad()
def gaze_vgg16(case):
    network = build_estimator("vgg", "reference", size_px=case.config["input_size"])
    load_strictly(network, case.state)
    found = network.eval()(torch.from_numpy(case.inputs["img"]))
    for name, part in (("gaze", slice(2)), ("head", slice(2, 4))):
        assert_close(found[:, part], case.golden[name], rtol=1e-4, atol=1e-6, name=name)
