"""Operations that PyTorch's CPU kernels do slowly in training, rewritten from larger ones.

Measured on one thread of an AVX512-bf16 server CPU, PyTorch 2.15: on channels-last bfloat16 the
backward pass of group normalisation takes 5 to 12 times as long as the sums and products it
consists of, and its forward pass on small maps 7 times; the fused attention kernel takes 2.5 to 4
times as long as plain matrix products. Elsewhere (GPU, float32) PyTorch's own kernels are used.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

# PyTorch's channels-last forward kernel is fast from this many pixels on, and slow below.
_FAST_FORWARD_PIXELS = 1024
# The explicit score matrix is only worth its memory for maps up to 32 x 32 tokens.
_EXPLICIT_TOKENS = 1024


class _TokenGroupNorm(torch.autograd.Function):
    """Group normalisation of (N, C, H, W) stored channels last, from per-channel sums."""

    @staticmethod
    def forward(ctx, x, weight, bias, groups, eps):
        batch, channels, height, width = x.shape
        count = height * width * (channels // groups)
        if height * width >= _FAST_FORWARD_PIXELS:
            y, mean, rstd = torch.native_group_norm(
                x, weight, bias, batch, channels, height * width, groups, eps
            )
            mean, rstd = mean.float(), rstd.float()
        else:
            wide = _tokens(x).float()
            sums = torch.stack([wide.sum(1), wide.square().sum(1)])
            mean, square = sums.unflatten(-1, (groups, -1)).sum(-1) / count
            rstd = (square - mean.square()).clamp(min=0).add(eps).rsqrt()
            scale = rstd.repeat_interleave(channels // groups, 1) * weight
            shift = bias - mean.repeat_interleave(channels // groups, 1) * scale
            y = _tokens(x) * scale.to(x.dtype)[:, None]
            y = _image(y.add_(shift.to(x.dtype)[:, None]), height, width)
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.groups, ctx.count = groups, count
        return y

    @staticmethod
    def backward(ctx, grad):
        x, weight, mean, rstd = ctx.saved_tensors
        groups = ctx.groups
        height, width = x.shape[2:]
        tokens = _tokens(x)
        grad = _tokens(grad.contiguous(memory_format=torch.channels_last))
        along = (grad * tokens).sum(1, dtype=torch.float32).unflatten(-1, (groups, -1))
        total = grad.sum(1, dtype=torch.float32).unflatten(-1, (groups, -1))
        gain = weight.float().unflatten(-1, (groups, -1))
        mean, rstd = mean[..., None], rstd[..., None]
        # With s = sum(gain g x) and b = sum(gain g) over a group of n numbers,
        # dx = rstd gain g - rstd^3 (s - mean b)/n (x - mean) - rstd b/n.
        gain_total = (gain * total).sum(-1, keepdim=True)
        slope = (gain * along).sum(-1, keepdim=True) - mean * gain_total
        slope = -(rstd**3) * slope / ctx.count
        level = -mean * slope - rstd * gain_total / ctx.count
        sizes = along.shape
        slope, level = slope.expand(sizes).flatten(1), level.expand(sizes).flatten(1)
        scale = (rstd * gain).flatten(1)
        grad_x = grad * scale.to(grad.dtype)[:, None]
        grad_x += tokens * slope.to(grad.dtype)[:, None]
        grad_x += level.to(grad.dtype)[:, None]
        grad_weight = ((along - mean * total) * rstd).sum(0).flatten().to(weight.dtype)
        grad_bias = total.sum(0).flatten().to(weight.dtype)
        return _image(grad_x, height, width), grad_weight, grad_bias, None, None


def _tokens(x):
    """(N, C, H, W) stored channels last, seen as (N, H * W, C)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _image(tokens, height: int, width: int):
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def group_norm(x, groups: int, weight, bias, eps: float):
    """``torch.nn.functional.group_norm`` of (N, C, H, W), by the faster of two ways."""
    if (
        x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and x.is_contiguous(memory_format=torch.channels_last)
    ):
        return _TokenGroupNorm.apply(x, weight, bias, groups, eps)
    return F.group_norm(x, groups, weight, bias, eps)


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


def attention(q, k, v, heads: int):
    """Multi-head attention of (N, L, C) queries over (N, M, C) keys and values -> (N, L, C)."""
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    if q.device.type != "cpu" or k.shape[2] > _EXPLICIT_TOKENS:
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    size, scale = q.shape[:2], q.shape[-1] ** -0.5
    q, k, v = (part.flatten(0, 1) for part in (q, k, v))
    scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=scale)
    # Autocast would widen the softmax to float32; inputs are bounded scores, outputs in [0, 1].
    with torch.autocast("cpu", enabled=False):
        weights = torch.softmax(scores, -1)
    return torch.bmm(weights, v).unflatten(0, size).transpose(1, 2).flatten(2)
