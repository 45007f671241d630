"""Cases of ST-ED's networks, embeddings, losses and training step (zhengyuf/STED-gaze)."""

from __future__ import annotations

import numpy as np
import torch
from kit import adapter, assert_close, assert_relative, fill_input, fill_state

from regaze.estimators.build import build_estimator
from regaze.redirectors.sted.dense import DenseDecoder
from regaze.redirectors.sted.discriminator import (
    Discriminator,
    discriminator_loss,
    generator_loss,
)
from regaze.redirectors.sted.embeddings import Factors, similarity_loss
from regaze.redirectors.sted.network import FACTOR_OPTIONS, build_network
from regaze.redirectors.sted.objective import Objective
from regaze.weights import load_strictly

VALUES, PICTURES = 1e-4, 5e-4  # absolute; spec/sted.md section 12
LOSSES, DISENTANGLEMENT, GRADIENTS = 1e-4, 1e-2, 1e-2  # relative
BETWEEN = ("embedding_disentangle", "label_disentangle", "gaze_redirection", "head_redirection")
"""The four values that rest on angles between things that hardly differ."""


def tensors(case) -> dict[str, torch.Tensor]:
    """Inputs of the case; those that it describes in words are fills of the usual picture."""
    found = {name: torch.from_numpy(np.asarray(value)) for name, value in case.inputs.items()}
    if "image_b" in case.manifest["inputs"] and "image_b" not in found:
        shape = case.inputs["image_a"].shape
        found["image_b"] = torch.from_numpy(fill_input("image_b", shape, case.seed))
    return found


def networks(config: dict, size: int = 128, adversarial: bool = False):
    config = {"kind": "dense", **config}
    return build_network(config, size, adversarial=adversarial).eval()


def part(state: dict, name: str) -> dict:
    return {
        key.removeprefix(f"{name}."): value
        for key, value in state.items()
        if key.startswith(f"{name}.")
    }


@adapter("sted/sted_encoder*")
@torch.no_grad()
def encoder(case):
    network = networks(case.config)
    load_strictly(network.encoder, case.state)
    image = torch.from_numpy(case.inputs["image_a"])
    angles, embeddings = network.encode(image)
    assert_close(angles, case.golden["pseudo_labels"], VALUES, name="pseudo_labels")
    assert_close(embeddings, case.golden["embeddings"], VALUES, name="embeddings")
    backbone = network.encoder.encoder(image)
    assert_close(backbone, case.golden["backbone"], VALUES, name="backbone")


@adapter("sted/sted_decoder*")
@torch.no_grad()
def decoder(case):
    config = case.config
    factors = Factors.of(**{name: config[name] for name in FACTOR_OPTIONS})
    network = DenseDecoder(factors, config["growth_rate"], config["densenet_blocks"])
    load_strictly(network, case.state)
    made = network(torch.from_numpy(case.inputs["embedding"]))
    [(name, golden)] = case.golden.items()
    assert_close(thinned(made, name), golden, PICTURES, name=name)


def thinned(images: torch.Tensor, name: str) -> torch.Tensor:
    """Every n-th pixel of pictures where the name ends in ``_s<n>``."""
    ending = name.rpartition("_s")[2]
    step = int(ending) if ending.isdecimal() else 1
    return images[..., ::step, ::step]


def redirected(network, image, gaze, head):
    """Pictures whose gaze and head are turned from their predicted angles to new ones."""
    angles, embeddings = network.encode(image)
    to = network.factors.with_angles(angles, gaze=gaze, head=head)
    return network.decode(network.factors.moved(embeddings, angles, to))


@adapter("sted/sted_full*")
@torch.no_grad()
def whole(case):
    network, given = networks(case.config), tensors(case)
    # Weights are drawn by the keys of the two checkpoint dictionaries.
    table = case.manifest["state"]
    for name in ("encoder", "decoder"):
        load_strictly(getattr(network, name), fill_state(part(table, name), case.seed))
    assert [list(shape) for shape in network.factors.shapes] == case.config["configuration"]
    image, other = given["image_a"], given["image_b"]
    gaze, head = given["gaze_b"], given["head_b"]
    angles, embeddings = network.encode(image)
    others = network.encode(other)[0]
    factors, mask = network.factors, given["mask"].T.float()
    found = {
        "redirected": redirected(network, image, gaze, head),
        "redirected_shifted_s4": redirected(network, image, gaze + 0.3, head),
        "reconstructed_s2": network.decode(embeddings),
        "transferred_s2": network.transfer(image, other),
        "canonical_embeddings_a": factors.canonical(embeddings, angles),
        "embeddings_a_to_b": factors.moved(embeddings, angles, others),
        "embeddings_mix": factors.moved(embeddings, angles, others, mask),
    }
    for name, values in found.items():
        tolerance = VALUES if values.ndim == 2 else PICTURES
        shown = thinned(values, name) if values.ndim == 4 else values
        assert_close(shown, case.golden[name], tolerance, name=name)


@adapter("sted/discriminator*")
@torch.no_grad()
def discriminator(case):
    network = Discriminator(case.config["ndf"])
    load_strictly(network, case.state)
    image = torch.from_numpy(case.inputs["image"])
    assert_close(network.eval()(image), case.golden["logits"], VALUES, name="logits")
    assert_close(network.train()(image), case.golden["logits_train"], VALUES, name="logits_train")


@adapter("sted/losses*")
def losses(case):
    given, golden = tensors(case), case.golden
    found = {
        "discriminator_loss": discriminator_loss(given["real_logits"], given["fake_logits"]),
        "generator_loss": generator_loss(given["fake_logits"]),
        "l1": Objective()._difference(given["x_hat"], given["x"]),
        "cosine_embedding": similarity_loss(given["emb_a"], given["emb_b"]),
    }
    for name, value in found.items():
        assert_close(value, golden[name], rtol=LOSSES, name=name)


def _norms(parameters) -> np.ndarray:
    return np.array([float(value.grad.norm()) for value in parameters])


@adapter("sted/train_step*")
def train_step(case):
    """One step of both optimisers, as the training loop makes it."""
    config, golden, manifest = case.config, case.golden, case.manifest
    size = manifest["inputs"]["image_a"]["shape"][-1]
    network = networks(config, size, adversarial=True).train()
    states = {
        name: fill_state(table, case.seed) for name, table in manifest["state_groups"].items()
    }
    for name in ("encoder", "decoder", "discriminator"):
        load_strictly(getattr(network, name), states[name])
    scale = manifest["scale"]
    group = states[scale["group"]]
    for key, value in group.items():
        if key.startswith(scale["prefix"]) and value.ndim >= scale["min_axes"]:
            group[key] = value * scale["factor"]
    estimator = build_estimator("vgg", "reference", size_px=size)
    load_strictly(estimator, group)
    estimator.eval().requires_grad_(False)

    given = tensors(case)
    batch = {"source": given["image_a"], "target": given["image_b"]}
    for name in ("gaze", "head"):
        # The stored array of the source labels' name is the logged loss of that name.
        entry = manifest["inputs"][f"{name}_b"]
        low, high = entry["fill"]["low"], entry["fill"]["high"]
        own = fill_input(f"{name}_a", entry["shape"], case.seed, low, high)
        batch |= {f"source_{name}": torch.from_numpy(own), f"target_{name}": given[f"{name}_b"]}
    keys = {name: f"coeff_{name}_loss" for name in Objective.model_fields}
    objective = Objective(
        **{name: config[key] for name, key in keys.items() if key in config},
        mixing=config["use_mixing"],
        label_target=not config["semi_supervised"],
    )
    rate = config["batch_size"] * config["base_learning_rate"]

    def optimiser(parameters):
        return torch.optim.Adam(parameters, lr=rate, weight_decay=config["l2_reg"])

    parameters = dict(network.named_parameters())
    judged = [parameters[key] for key in manifest["discriminator_keys"]]
    made = [parameters[key] for key in manifest["generator_keys"]]
    assert len(judged) + len(made) == len(parameters)

    found = objective.discriminator_losses(network, batch)
    total = found.pop("loss")
    total.backward()
    assert_close(
        total.detach(), golden["total_discriminator"], rtol=LOSSES, name="total_discriminator"
    )
    assert_close(_norms(judged), golden["grad_norm_discriminator"], rtol=GRADIENTS, name="norms")
    optimiser(judged).step()
    judge = {key: value.clone() for key, value in network.discriminator.state_dict().items()}

    before = [value.detach().clone() for value in made]
    mask, step = given["mask"].T.float(), config["current_step"]
    found |= objective.generator_losses(network, batch, mask, step, estimator)
    total = found.pop("loss")
    total.backward()
    assert_close(total.detach(), golden["total_generator"], rtol=LOSSES, name="total_generator")
    assert_close(_norms(made), golden["grad_norm_generator"], rtol=GRADIENTS, name="norms")
    optimiser(made).step()
    for key, value in network.discriminator.named_parameters():
        assert torch.equal(value, judge[key]), f"{key} changed in the generator's step"
    for name, value in found.items():
        tolerance = DISENTANGLEMENT if name in BETWEEN else LOSSES
        assert_close(value.detach(), golden[name], rtol=tolerance, name=name)
    moved = [
        float((now.detach() - then).abs().mean()) for now, then in zip(made, before, strict=True)
    ]
    assert_relative(moved, golden["mean_abs_update_generator"], 1e-2, name="updates")
    running = network.discriminator.norm1.running_mean
    assert_close(running, golden["discriminator_running_mean"], VALUES, name="running mean")
