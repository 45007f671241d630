"""ReDirTrans: what the edit does and does not change, its terms, its files, its options."""

import pytest
import torch
from pydantic import ValidationError

from regaze.redirectors.base import Perturbable, build_redirector
from regaze.redirectors.declaration import declared
from regaze.redirectors.facts import facts_of
from regaze.redirectors.redirtrans.module import (
    Deprojector,
    Fusion,
    Projector,
    edit_factors,
    read_parts,
)
from regaze.redirectors.redirtrans.objective import direction_loss
from regaze.redirectors.redirtrans.settings import PRESETS, ModelSettings
from regaze.redirectors.sted.embeddings import turn
from regaze.training.phases import Progress
from regaze.weights import load_strictly

QUIET = {"redirection_feature": 0.0, "redirection_gaze": 0.0}


def settings(**changes):
    return ModelSettings(**{"class": "redirtrans", "preset": "tiny", "size_px": 32} | changes)


@pytest.fixture(scope="module")
def redirector():
    torch.manual_seed(0)
    made = build_redirector(settings(objective=QUIET).resolve())
    for parameter in made.net.parameters():
        # Blocks and heads begin at or near zero, where no picture would tell edits apart.
        if float(parameter.detach().abs().max()) < 0.05:
            torch.nn.init.normal_(parameter, std=0.1)
    return made


def batch(count=4, size=32):
    rng = torch.Generator().manual_seed(0)
    images = torch.rand((2, count, 3, size, size), generator=rng) * 2 - 1
    angles = torch.rand((4, count, 2), generator=rng) * 0.6 - 0.3
    names = ("source_gaze", "target_gaze", "source_head", "target_head")
    return {"source": images[0], "target": images[1], **dict(zip(names, angles, strict=True))}


def losses(redirector, data, phase="generator"):
    return redirector.losses(data, phase, Progress(0, 0, torch.Generator().manual_seed(0)))


def drawn(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_an_edit_towards_its_own_angles_changes_nothing():
    project, deproject, factors = Projector(24, 4, 8), Deprojector(24, 4, 8), edit_factors(4)
    codes = drawn(3, 24)
    angles, embeddings = project(codes)
    moved = factors.moved(embeddings, angles, angles)
    torch.testing.assert_close(deproject.edited(codes, embeddings, moved), codes)
    other = factors.with_angles(angles, gaze=drawn(3, 2))
    turned = factors.moved(embeddings, angles, other)
    torch.testing.assert_close(turned[:, :12], embeddings[:, :12])
    assert not torch.allclose(deproject.edited(codes, embeddings, turned), codes, atol=1e-3)
    deproject.edited(codes, embeddings, turned).square().sum().backward()
    assert float(deproject.fc2.bias.grad.abs().max()) < 1e-4
    assert float(deproject.fc2.weight.grad.abs().max()) > 1e-2


def test_small_networks_begin_with_edits_that_are_larger_than_the_codes_they_change():
    torch.manual_seed(0)
    network = build_redirector(settings(preset="small", size_px=32).resolve()).net
    factors, data = network.factors, batch(8)
    with torch.no_grad():
        angles, embeddings = network.encode(data["source"])
    turned = factors.moved(embeddings, angles, factors.with_angles(angles, gaze=drawn(8, 2) / 2))
    codes, own = embeddings.tensor_split([factors.shapes[0][1]], 1)
    with torch.no_grad():
        edited = network.decoder.deprojector.edited(codes, own, turned[:, codes.shape[1] :])
    assert float((edited - codes).std()) > 3 * float(codes.std())
    vectors = codes[:, -96:]
    assert float(vectors.std(0).max()) < 0.05


def test_edits_begin_as_large_as_the_option_says():
    torch.manual_seed(0)
    deproject = Deprojector(600, 16)
    before = {name: one.clone() for name, one in deproject.state_dict().items()}
    deproject.start(0)
    assert all(torch.equal(one, before[name]) for name, one in deproject.state_dict().items())
    deproject.start(3.0)
    with torch.no_grad():
        assert float(deproject(3**0.5 * drawn(200, 96)).std()) == pytest.approx(3.0, rel=0.2)


def test_turns_are_rotations():
    rotation = turn(drawn(5, 2) * 3)
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(5, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(5))
    torch.testing.assert_close(turn(torch.zeros(1, 2))[0], torch.eye(3))


def test_published_sizes():
    count = {
        made: sum(one.numel() for one in made().parameters()) for made in (Projector, Deprojector)
    }
    assert count == {Projector: 1_779_364, Deprojector: 1_201_280}
    assert Fusion(24, 3)(drawn(2, 24)).shape == (2, 3, 512)


def test_a_kept_factor_and_a_target_like_the_source(redirector):
    data = batch()
    with torch.no_grad():
        state = redirector.invert(data, seed=0)
        own = redirector.net.factors
        angles = state["angles"]
        like = {f"target_{n}": angles[:, own.angles_of(n)] for n in ("gaze", "head")}
        same = redirector.edit(state, like, seed=0)
        made = redirector.edit(state, data, seed=0)
    drawn_again = redirector.reconstruct(state, seed=0).clamp(-1, 1)
    torch.testing.assert_close(same, drawn_again, rtol=1e-3, atol=1e-4)
    assert float((made - same).abs().max()) > 1e-3
    assert isinstance(redirector, Perturbable)
    assert redirector.angles() == {"head": 2, "gaze": 2}


def test_a_picture_drawn_again_is_that_of_its_code(redirector):
    with torch.no_grad():
        state = redirector.invert(batch(), seed=0)
        code = state["embeddings"][:, : redirector.net.factors.shapes[0][1]]
        torch.testing.assert_close(
            redirector.reconstruct(state, seed=0), redirector.net.decoder.drawer(code)
        )


def test_the_consistency_of_embeddings_does_not_ask_for_equal_codes(redirector):
    factors = redirector.net.factors
    embeddings, angles = drawn(2, factors.size), drawn(2, 4)
    other = embeddings.clone()
    other[:, : factors.shapes[0][1]] = 0
    first, second = (factors.canonical(one, angles) for one in (embeddings, other))
    assert first.shape == (2, 96)
    assert torch.equal(first, second)


def test_phases_and_what_their_losses_reach(redirector):
    data, phases = batch(), {phase.name: phase.parameters for phase in redirector.phases()}
    assert list(phases) == ["discriminator", "generator"]
    found = losses(redirector, data)
    found["loss"].backward()
    assert all(p.grad is not None for p in phases["generator"])
    assert all(p.grad is None for p in phases["discriminator"])
    assert {"l1", "gaze_a", "head_a", "embedding_consistency"} < set(found)
    redirector.net.zero_grad()


def test_angles_are_compared_as_the_option_says(redirector):
    first, second = torch.zeros(1, 2), torch.tensor([[0.0, 0.5]])
    wanted = {"degrees": 28.6479, "cosine": 0.122417}
    for name, value in wanted.items():
        options = {"angles": name, "label_target": True}
        objective = redirector.objective.model_copy(update=options)
        assert float(objective.apart(first, second)) == pytest.approx(value, rel=1e-4)
    assert float(direction_loss(first, first)) == pytest.approx(0, abs=1e-6)


def test_presets_and_what_they_use():
    done = settings(preset="reference", size_px=128).resolve()
    assert done["objective"]["angles"] == "cosine"
    assert done["network"]["kind"] == "dense"
    assert [one.entry for one in declared(settings(preset="reference", size_px=128)).networks] == [
        "vgg"
    ]
    assert [one.entry for one in declared(settings(preset="small", size_px=64)).networks] == ["vgg"]
    assert declared(settings()).unlabelled_targets
    for preset in PRESETS.values():
        assert not preset["objective"]["mixing"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"preset": "reference", "size_px": 64}, "size_px: network.kind 'dense' works on 128 px"),
        ({"size_px": 48}, "size_px: network.kind 'compact' needs a multiple of 32, found 48"),
        ({"objective": {"disentangle_embedding": 1}}, "objective.mixing: expected true"),
    ],
)
def test_options_that_do_not_fit(changes, told):
    with pytest.raises(ValueError, match=told):
        settings(**changes).resolve()


def test_an_unknown_option_is_named():
    with pytest.raises(ValidationError, match="size_0d_unit"):
        settings(network={"size_0d_unit": 8})


def test_published_parts_are_read_with_or_without_the_unused_ones(tmp_path):
    path = tmp_path / "40000.pt"
    project, deproject = Projector(24, 4, 8), Deprojector(24, 4, 8)
    wrapped = {f"module.{key}": value for key, value in project.state_dict().items()}
    whole = {"redirtrans_p": wrapped, "redirtrans_dp": deproject.state_dict()}
    torch.save(whole | {"fusion": Fusion(24).state_dict()}, path)
    found = read_parts(path)
    assert list(found) == ["redirtrans_p", "redirtrans_dp", "fusion"]
    other = Projector(24, 4, 8)
    load_strictly(other, found["redirtrans_p"], path)
    assert torch.equal(other.branch.weight, project.branch.weight)
    torch.save({"redirtrans_p": wrapped}, path)
    told = r"40000.pt: expected the parts redirtrans_p and redirtrans_dp, found \['redirtrans_p'\]"
    with pytest.raises(ValueError, match=told):
        read_parts(path)
    path.write_text("<html><body>Not found</body></html>")
    with pytest.raises(ValueError, match=r"40000.pt: a web page \(HTML\)"):
        read_parts(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="40000.pt: expected a checkpoint of ReDirTrans"):
        read_parts(path)


def test_facts_name_the_paper():
    facts = facts_of("redirtrans")
    assert facts.works[0] == "redirtrans"
    assert facts.published[0].values["gaze"] == 2.163
