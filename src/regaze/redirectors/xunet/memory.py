"""How much memory a picture takes while an X-UNet samples it, from the network's configuration."""

from __future__ import annotations

from regaze.redirectors.xunet.network import XUNetConfig, up_widths

_ACTIVATIONS = 6
"""Full-sized activations that are alive at once within a block, about."""


def bytes_per_image(
    config: XUNetConfig, *, weights: int = 1, sources: int = 1, width: int = 4
) -> int:
    """Return about how many bytes one picture takes at the peak of sampling.

    Counted are what is kept for all steps (pose maps, the source frame's modulations and
    features; by far the most) and what a step makes (the noisy frame's modulations, skips and
    activations). The weights of the network are not.

    Args:
        config: of the network.
        weights: guidance weights that are sampled side by side.
        sources: source pictures that steps choose from.
        width: bytes per number, 4 in float32 and 2 in bfloat16.
    """
    pixels = [
        config.height * config.width // (config.unshuffle * 2**level) ** 2
        for level in range(config.levels)
    ]
    maps = config.emb_ch * sum(pixels)
    first = min(config.attn_levels, default=config.levels) if config.prune else 0
    films, kept_films, skips = 0, 0, config.ch * pixels[0]
    for level, out in enumerate(config.widths):
        down = config.num_res_blocks + (level < config.levels - 1)
        up = config.num_res_blocks + 1 + (level > 0)
        middle = level == config.levels - 1
        numbers = 2 * out * pixels[level] * (down + up + middle)
        films += numbers
        kept_films += numbers if level >= first else 0
        skips += out * pixels[level] * down
    widest = max(max([*inputs, out]) * pixels[level] for level, inputs, out in up_widths(config))
    two = config.frames == 2
    kept = sources * (maps + (kept_films + skips // 2 if two else 0))
    prepare = maps + (films + config.emb_ch * pixels[0] if two else 0)
    step = weights * (films + config.frames * (skips + _ACTIVATIONS * widest))
    step += config.emb_ch * pixels[0]
    return width * (kept + max(prepare, step))
