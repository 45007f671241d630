"""ReDirTrans' edit of a code, its losses and its bookkeeping (lintsao/2023_Summer_Intern)."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import torch
from kit import adapter, assert_close, fill_state
from torch.nn import functional as F

from regaze.angles import angular_error, vector_from_angles
from regaze.estimators.subsets import evaluation_subset, stepped_rate, thinned
from regaze.identity.align import align
from regaze.identity.iresnet import IResNet
from regaze.redirectors.redirtrans.module import Deprojector, Fusion, Projector, edit_factors
from regaze.redirectors.redirtrans.objective import direction_loss
from regaze.redirectors.sted.embeddings import similarity_loss, turn
from regaze.stylegan.discriminator import (
    LatentDiscriminator,
    LatentPool,
    delta_norm,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
)
from regaze.stylegan.generator import face_pool
from regaze.training.labels import labelled_subset
from regaze.weights import load_strictly

PAIR = ("head", "gaze")
EMBEDDINGS = (2, 3, 16)


def loaded(network, state):
    load_strictly(network, state)
    return network.eval()


def beside(case, name: str):
    """The state of another case of the same seed."""
    manifest = json.loads((case.folder.parent / name / "manifest.json").read_text("utf-8"))
    return fill_state(manifest["state"], case.seed)


def given(case):
    return {name: torch.from_numpy(value) for name, value in case.inputs.items()}


def close(found, case, name: str) -> None:
    told = case.manifest["tolerance"]
    assert_close(found, case.golden[name], told["atol"], told["rtol"], name)


@adapter("redirtrans/redirtrans_p*")
@torch.no_grad()
def projector(case):
    config = case.config
    network = Projector(config["latent_dim"], config["units"][0][1], config["hidden"])
    angles, embeddings = loaded(network, case.state)(given(case)["f"])
    for place, name in enumerate(PAIR):
        close(angles[:, 2 * place : 2 * place + 2], case, f"c_{name}")
        close(embeddings.unflatten(1, EMBEDDINGS)[:, place], case, f"z_{name}")


@adapter("redirtrans/redirtrans_dp*")
@torch.no_grad()
def deprojector(case):
    config = case.config
    network = Deprojector(config["latent_dim"], config["embedding"] // 6, config["hidden"])
    close(loaded(network, case.state)(given(case)["z"]), case, "delta")


@adapter("redirtrans/fusion_layer*")
@torch.no_grad()
def fusion(case):
    codes = given(case)["f"]
    network = loaded(Fusion(codes.shape[1], case.config["num"]), case.state)
    close(network(codes), case, "w")


@adapter("redirtrans/edit*")
@torch.no_grad()
def edit(case):
    inputs, factors = given(case), edit_factors()
    project = loaded(Projector(), beside(case, "redirtrans_p"))
    deproject = loaded(Deprojector(), beside(case, "redirtrans_dp"))
    rotation = turn(inputs["target_gaze"])
    close(rotation, case, "rot_gaze_target")
    close(rotation.mT, case, "rot_gaze_target_inv")
    (own, embeddings), (other, others) = project(inputs["f_a"]), project(inputs["f_b"])
    canonical = factors.canonical(embeddings, own)
    for place, name in enumerate(PAIR):
        close(canonical.unflatten(1, EMBEDDINGS)[:, place], case, f"z_canonical_{name}")
    pair = factors.moved(embeddings, own, other)
    close(pair, case, "z_pair")
    close(deproject(embeddings)[:, ::8], case, "delta_a")
    told = torch.cat([inputs["target_head"], inputs["target_gaze"]], 1)
    for name, moved in (("w_pair", pair), ("w_target", factors.moved(embeddings, own, told))):
        edited = deproject.edited(inputs["f_a"], embeddings, moved)
        codes = edited.unflatten(1, (18, 512)) + inputs["latent_avg"]
        close(codes[:, :, ::4], case, name)
    consistent = similarity_loss(canonical, factors.canonical(others, other))
    close(consistent, case, "embedding_consistency")


@adapter("redirtrans/losses*")
def losses(case):
    inputs = given(case)
    first, second = inputs["angles_y"], inputs["angles_yhat"]
    close(vector_from_angles(first), case, "pitchyaw_vector")
    close(direction_loss(first, second), case, "gaze_angular_loss")
    close(angular_error(first, second), case, "angular_degrees")
    close(F.l1_loss(inputs["img_xhat"], inputs["img_x"]), case, "l1")
    close(F.mse_loss(inputs["img_xhat"], inputs["img_x"]), case, "l2")
    close(similarity_loss(inputs["emb_1"], inputs["emb_2"]), case, "identity")
    close(discriminator_loss(inputs["logit_real"], inputs["logit_fake"]), case, "latent_d_loss")
    close(generator_loss(inputs["logit_fake"]), case, "latent_g_loss")
    state = beside(case, "latent_discriminator_18x512")
    judge = loaded(LatentDiscriminator(flat=9216), state)
    real = inputs["real_w"].requires_grad_()
    close(gradient_penalty(judge(real), real), case, "latent_r1")
    for norm in (1, 2):
        close(delta_norm(inputs["latent"], range(1, 6), norm), case, f"delta_norm_p{norm}")
    with torch.device("meta"):
        network = IResNet()
    small = align(inputs["img_256"], network, sted_view=False)
    close(small[:, :, ::4, ::4], case, "resize_112")
    close(face_pool(inputs["img_512"])[:, :, ::8, ::8], case, "face_pool")


@adapter("redirtrans/bookkeeping*")
def bookkeeping(case):
    told = case.manifest["cases"]

    def drawn(name, codes):
        seed = int(re.search(r"\d+", told[name]["rng"])[0])
        pool = LatentPool(told[name]["pool_size"], random.Random(seed))
        return np.stack([pool.query(code)[:, 0].numpy() for code in codes])

    flat = [torch.tensor([2.0 * i, 2.0 * i + 1])[:, None].expand(2, 4) for i in range(12)]
    assert_close(drawn("pool_2d", flat), case.golden["pool_2d"], name="pool_2d")
    rows = [10.0 * i + torch.arange(5.0).view(1, 5, 1) for i in range(8)]
    assert_close(drawn("pool_3d", rows), case.golden["pool_3d"], name="pool_3d")
    entry = told["labelled_subset"]
    found = labelled_subset(entry["n"], entry["num_labeled_samples"])
    assert_close(found, case.golden["labelled_subset"], name="labelled_subset")
    entry = told["test_subset"]
    found = evaluation_subset(entry["n"], entry["fraction"])
    assert_close(found, case.golden["test_subset"], name="test_subset")
    entry = told["lr_schedule"]
    options = (entry["base"], entry["decay"], entry["decay_steps"])
    found = [stepped_rate(step, *options) for step in entry["steps"]]
    assert_close(np.array(found), np.array(entry["lr"]), rtol=1e-12, name="lr")
    entry = told["gazecapture_thinning"]
    found = thinned(entry["n"], lambda row: row not in entry["fail"])
    assert_close(np.array(found), case.golden["kept"], name="kept")
