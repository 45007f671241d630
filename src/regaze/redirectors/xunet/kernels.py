"""Operations that PyTorch's CPU kernels do slowly in training, made of faster ones.

Measured on one thread of an AVX512-bf16 server CPU with PyTorch 2.15: group normalisation of
channels-last bfloat16 takes 5 to 15 times as long, forward and backward, as the same in float32
with both conversions, and the fused attention kernel 2.5 to 4 times as long as plain matrix
products. On a GPU PyTorch's own kernels are used.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

# The explicit score matrix is only worth its memory for maps up to 32 x 32 tokens.
_EXPLICIT_TOKENS = 1024


def group_norm(x, groups: int, weight, bias, eps: float):
    """``torch.nn.functional.group_norm`` of (N, C, H, W), by way of float32 on a CPU."""
    if x.device.type == "cpu" and x.dtype == torch.bfloat16:
        return F.group_norm(x.float(), groups, weight, bias, eps).to(x.dtype)
    return F.group_norm(x, groups, weight, bias, eps)


def silu_of(x):
    """SiLU of an intermediate result that nobody else holds: in its place unless it is trained."""
    return F.silu(x, inplace=not x.requires_grad)


def norm_silu(x, groups: int, weight, bias, eps: float):
    """``silu(group_norm(x))`` of (N, C, H, W)."""
    return silu_of(group_norm(x, groups, weight, bias, eps))


def norm_film(x, groups: int, weight, bias, eps: float, film, activation: bool):
    """Normalise (N, C, H, W), modulate by ``film`` = (1 + scale, shift), and SiLU if asked."""
    x = torch.addcmul(film[1], group_norm(x, groups, weight, bias, eps), film[0])
    return silu_of(x) if activation else x


class _Halve(torch.autograd.Function):
    """2x2 average pooling; its own backward kernel is slower than the repetition that it is."""

    @staticmethod
    def forward(ctx, h):
        return F.avg_pool2d(h, 2)

    @staticmethod
    def backward(ctx, grad):
        return F.interpolate(grad * 0.25, scale_factor=2.0, mode="nearest")


class _Double(torch.autograd.Function):
    """Nearest-neighbour doubling, whose gradient is four times the 2x2 average."""

    @staticmethod
    def forward(ctx, h):
        return F.interpolate(h, scale_factor=2.0, mode="nearest")

    @staticmethod
    def backward(ctx, grad):
        return F.avg_pool2d(grad, 2) * 4


def halve(h):
    """Average every 2x2 cell of (N, C, H, W); H and W must be even."""
    return _Halve.apply(h)


def double(h):
    """Repeat every pixel of (N, C, H, W) twice in both directions."""
    return _Double.apply(h)


def _attention_by_heads(q, k, v, scale: float):
    """The same without copies of queries, keys and values (N, heads, L, c), to (N, L, C)."""
    heads = []
    for part in zip(*(one.unbind(1) for one in (q, k, v)), strict=True):
        scores = torch.baddbmm(part[0].new_empty(()), part[0], part[1].mT, beta=0, alpha=scale)
        with torch.autocast("cpu", enabled=False):
            heads.append(torch.bmm(torch.softmax(scores, -1), part[2]))
    return torch.cat(heads, -1)


def attention(q, k, v, heads: int):
    """Multi-head attention of (N, L, C) queries over (N, M, C) keys and values -> (N, L, C)."""
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    if torch.compiler.is_exporting():
        return (torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1) @ v).transpose(1, 2).flatten(2)
    if q.device.type != "cpu" or k.shape[2] > _EXPLICIT_TOKENS:
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    size, scale = q.shape[:2], q.shape[-1] ** -0.5
    if not (torch.is_grad_enabled() and q.requires_grad):
        return _attention_by_heads(q, k, v, scale)
    q, k, v = (part.flatten(0, 1) for part in (q, k, v))
    scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=scale)
    # Autocast would widen the softmax to float32; inputs are bounded scores, outputs in [0, 1].
    with torch.autocast("cpu", enabled=False):
        weights = torch.softmax(scores, -1)
    return torch.bmm(weights, v).unflatten(0, size).transpose(1, 2).flatten(2)
