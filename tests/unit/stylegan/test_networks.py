"""Generator and discriminators: gradients, noise, codes, and what is refused."""

import random

import pytest
import torch

from regaze.stylegan.discriminator import (
    Discriminator,
    LatentPool,
    delta_norm,
    gradient_penalty,
    with_spread,
)
from regaze.stylegan.generator import Generator, style_count
from regaze.stylegan.ops import Filter, ModulatedConv2d


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    network = Generator(16, style_dim=8, n_mlp=2, width=8)
    for name, value in network.named_parameters():
        if name.endswith("noise.weight"):
            torch.nn.init.constant_(value, 0.5)
    return network


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def codes_of(generator, count=2):
    return generator.codes(generator.mapping(torch.randn(count, 8, generator=drawn(1)))).detach()


def test_rows_of_a_code():
    assert [style_count(size) for size in (8, 64, 1024)] == [4, 10, 18]
    for wrong in (4, 48):
        with pytest.raises(
            ValueError, match=f"size: expected a power of two from 8, found {wrong}"
        ):
            style_count(wrong)


def test_fresh_noise_is_drawn_from_the_given_source_and_stored_noise_is_fixed(generator):
    codes = codes_of(generator)
    first, again = (generator(codes, generator=drawn(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, generator(codes, generator=drawn(4)))
    stored = generator.stored_noise()
    assert torch.equal(generator(codes, stored), generator(codes, stored))
    assert [len(one) for one in stored] == [1] * 5
    other = Generator(16, style_dim=8, n_mlp=2, width=8)
    assert all(map(torch.equal, stored, other.stored_noise()))


def test_each_picture_depends_on_its_own_code(generator):
    codes, stored = codes_of(generator, 3), generator.stored_noise()
    alone = torch.cat([generator(code[None], stored) for code in codes])
    torch.testing.assert_close(generator(codes, stored), alone, rtol=1e-4, atol=1e-5)


def test_mixing_and_truncation_act_on_rows_of_the_code(generator):
    first, second = generator.mapping(torch.randn(2, 2, 8, generator=drawn(5)))
    mixed = generator.codes(first, second, inject_index=2)
    assert torch.equal(mixed[:, 0], first)
    assert torch.equal(mixed[:, 2], second)
    average = generator.mean_latent(64)
    assert torch.equal(average, generator.mean_latent(64))
    halfway = generator.codes(first, truncation=0.5, truncation_latent=average)
    torch.testing.assert_close(halfway[:, 1], (first + average) / 2)
    rows = torch.randn(2, generator.n_latent, 8)
    assert torch.equal(generator.codes(rows), rows)
    with pytest.raises(ValueError, match="expected one, or two and an inject_index"):
        generator.codes(first, second)


def test_the_mapping_treats_rows_alike_whatever_their_shape(generator):
    z = torch.randn(2, 3, 8, generator=drawn(6))
    torch.testing.assert_close(generator.mapping(z)[1, 2], generator.mapping(z[1, 2:])[0])


def test_path_length_and_penalty_have_gradients_of_gradients(generator):
    codes = codes_of(generator).requires_grad_()
    image = generator(codes, generator.stored_noise())
    (slope,) = torch.autograd.grad(image.sum(), codes, create_graph=True)
    weight = generator.convs[0].conv.weight
    (second,) = torch.autograd.grad(slope.square().sum(), weight)
    assert float(second.abs().max()) > 0
    discriminator = Discriminator(16, width=8)
    real = torch.randn(4, 3, 16, 16, generator=drawn(7)).requires_grad_()
    penalty = gradient_penalty(discriminator(real), real)
    penalty.backward()
    assert float(discriminator.convs[1].conv2[1].weight.grad.abs().max()) > 0


def test_convolutions_agree_with_finite_differences_twice():
    torch.manual_seed(1)
    for resample in (None, "up", "down"):
        layer = ModulatedConv2d(2, 2, 3, 3, resample=resample).double()
        values = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
        style = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(layer, (values, style))
        assert torch.autograd.gradgradcheck(layer, (values, style))


def test_a_filter_of_its_own_gain_keeps_a_constant():
    inside = Filter((2, 1), up=2, gain=4)(torch.ones(1, 2, 8, 8))[:, :, 2:-2, 2:-2]
    torch.testing.assert_close(inside, torch.ones_like(inside))


def test_the_spread_of_a_batch_is_that_of_its_groups():
    values = torch.randn(8, 2, 4, 4, generator=drawn(8))
    found = with_spread(values)[:, 2]
    wanted = values[[1, 3, 5, 7]].std(0, unbiased=False).mean()
    torch.testing.assert_close(found[3], wanted.expand(4, 4), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="expected a multiple of 4 pictures, found 6"):
        with_spread(values[:6])


def test_a_pool_of_nothing_hands_out_what_is_new():
    codes = torch.randn(3, 4)
    assert LatentPool(0, random.Random(0)).query(codes) is codes
    pool = LatentPool(2, random.Random(0))
    assert torch.equal(pool.query(codes[:2]), codes[:2])


def test_rows_like_the_first_have_no_distance():
    codes = torch.randn(2, 1, 4).repeat(1, 3, 1)
    assert delta_norm(codes, range(1, 3)) == 0
    codes[:, 2] += 1
    assert float(delta_norm(codes, range(1, 3))) == pytest.approx(2)
