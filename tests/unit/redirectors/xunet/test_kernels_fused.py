"""What is compiled for GPUs, run uncompiled: the same numbers as PyTorch's own operators."""

import pytest
import torch

from regaze.redirectors.xunet import kernels


@pytest.fixture
def fused(monkeypatch):
    monkeypatch.setattr(kernels, "fused", lambda x: True)
    monkeypatch.setattr(kernels, "_compiled", lambda function: function)


def results(function, *inputs):
    out = function(*inputs)
    leaves = [value for value in inputs if torch.is_tensor(value) and value.requires_grad]
    return [out, *torch.autograd.grad(out.square().sum(), leaves)]


@pytest.mark.parametrize("channels, size", [(32, 8), (96, 5)])
@pytest.mark.parametrize("activation", [False, True])
def test_written_out_normalisation_is_group_norm(request, channels, size, activation):
    random = torch.Generator().manual_seed(channels)
    shape = (3, channels, size, size)
    x, scale, shift = (torch.randn(shape, generator=random).requires_grad_() for _ in range(3))
    weight, bias = (torch.randn(channels, generator=random).requires_grad_() for _ in range(2))

    def both():
        silu = results(lambda *a: kernels.norm_silu(a[0], 16, *a[1:], 1e-5), x, weight, bias)
        film = results(
            lambda x, w, b, s, t: kernels.norm_film(x, 16, w, b, 1e-5, (s, t), activation),
            *(x, weight, bias, scale, shift),
        )
        return silu + film

    plain = both()
    request.getfixturevalue("fused")
    for found, expected in zip(both(), plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_low_precision_stays_low(fused):
    x = torch.randn(2, 32, 4, 4, dtype=torch.bfloat16)
    weight, bias = torch.ones(32), torch.zeros(32)
    assert kernels.norm_silu(x, 8, weight, bias, 1e-5).dtype == torch.bfloat16
    made = kernels.norm_film(x, 8, weight, bias, 1e-5, (x, x), True)
    assert made.dtype == torch.bfloat16


def test_nothing_is_compiled_on_a_cpu():
    kernels.fuse_norms(True)
    try:
        assert not kernels.fused(torch.zeros(1))
    finally:
        kernels.fuse_norms(False)
