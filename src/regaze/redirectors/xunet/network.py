"""The X-UNet of 3DiM (Watson et al. 2022): noise of a target view from a source view and poses.

Parameter names, order and numbers are those of ``a6o/3d-diffusion-pytorch``, so its checkpoints
load; every deviation is an option of :class:`XUNetConfig` that is off by default.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from regaze.redirectors.xunet.blocks import (
    GroupNorm,
    ResnetBlock,
    XUNetBlock,
    film_maps,
)
from regaze.redirectors.xunet.conditioning import ConditioningProcessor
from regaze.redirectors.xunet.face_codes import (
    CONCATENATED_CHANNELS,
    STACKED_CELL,
    STACKED_CHANNELS,
    CodeProcessor,
    widen,
)
from regaze.redirectors.xunet.kernels import silu_of
from regaze.redirectors.xunet.rays import DIRECTION_OCTAVES, POSITION_OCTAVES
from regaze.redirectors.xunet.settings import NetworkOptions


class XUNetConfig(NetworkOptions):
    """Architecture of an X-UNet: the options of ``network:``, and what else decides it.

    Attributes:
        height, width: of the images, multiples of ``unshuffle * 2**(levels - 1)``.
        pos_octaves, dir_octaves: octaves of the camera position and of the ray directions that
            are told; higher ones are zero.
        in_channels, out_channels: of an image.
        prune: leave out what cannot reach the output: after the last cross-attention, frame 0.
        code_dim: numbers per 3-D face code; 0 without.

    Width of level i is ``ch * ch_mult[i]``. With ``concat_source`` a second image is appended to
    every frame's channels: for the noisy frame the batch's ``base`` (its ``x`` without one), for
    the source frame the source itself. With one frame, ``code: film`` and ``stack`` tell the noisy
    frame's code alone, see :mod:`regaze.redirectors.xunet.face_codes`.
    """

    height: int
    width: int
    pos_octaves: int = POSITION_OCTAVES
    dir_octaves: int = DIRECTION_OCTAVES
    in_channels: int = 3
    out_channels: int = 3
    prune: bool = True
    code_dim: int = 0

    @property
    def levels(self) -> int:
        return len(self.ch_mult)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every level."""
        return tuple(round(self.ch * factor) for factor in self.ch_mult)


def up_widths(config: XUNetConfig) -> list[tuple[int, list[int], int]]:
    """Return ``(level, input widths of its blocks, output width)`` of the way up, in order."""
    widths, last = config.widths, config.levels - 1
    table = []
    for level in range(last, -1, -1):
        incoming = config.ch if level == 0 else widths[level - 1]
        inputs = [widths[min(level + 1, last)] + widths[level]]
        inputs += [2 * widths[level]] * (config.num_res_blocks - 1)
        inputs.append(widths[level] + incoming)
        table.append((level, inputs, widths[level]))
    return table


@dataclass
class Prepared:
    """What of a call depends on neither the noisy image nor its noise level; see ``prepare``.

    ``told`` is what frame 1's code adds to its noise embedding or to its first convolution,
    ``source_told`` what frame 0's adds to the first convolution. ``skips`` are frame 0's that the
    way up reads beside frame 1's. ``shared`` holds what is the same for all images.
    """

    maps: list[torch.Tensor]
    films: dict[int, tuple[torch.Tensor, torch.Tensor]]
    h: torch.Tensor | None
    skips: list[torch.Tensor]
    told: torch.Tensor | None = None
    source_told: torch.Tensor | None = None
    shared: Shared | None = None


class Shared:
    """Answers to the learned position map by level: of no image, and so no rows of a state."""

    def __init__(self, learned: list[torch.Tensor]):
        self.learned = learned


def _fit(tensor, count: int):
    """Repeat (n, ...) to (count, ...) in turns 0 .. n-1, 0 .. n-1; ``count`` is a multiple."""
    times = _times(tensor, count)
    return tensor if times == 1 else torch.cat([tensor] * times)


def _times(tensor, count: int) -> int:
    """How often (n, ...) goes into ``count`` rows; a graph of any number of them has to see one."""
    return 1 if tensor.shape[0] == count else count // tensor.shape[0]


class XUNet(nn.Module):
    """Predict the noise of frame 1; see :class:`XUNetConfig` and ``forward``."""

    def __init__(self, config: XUNetConfig):
        super().__init__()
        self.config = c = config
        fold = c.unshuffle**2
        self.conditioningprocessor = ConditioningProcessor(
            c.height // c.unshuffle,
            c.width // c.unshuffle,
            c.levels,
            c.emb_ch,
            c.use_pos_emb,
            c.use_ref_pose_emb,
            squashed=c.logsnr_input == "squashed",
            pos_octaves=c.pos_octaves,
            dir_octaves=c.dir_octaves,
            together=c.frames == 1,
            code_channels=CONCATENATED_CHANNELS if c.code == "concatenate" else 0,
        )
        images = 2 if c.concat_source else 1
        self.conv = nn.Conv2d(c.in_channels * fold * images, c.ch, 3, padding=1)
        self.xunetblocks = nn.ModuleList()
        incoming = c.ch
        for level, width in enumerate(c.widths):
            blocks = nn.ModuleList()
            for _ in range(c.num_res_blocks):
                blocks.append(self._block(incoming, width, level in c.attn_levels))
                incoming = width
            if level < c.levels - 1:
                blocks.append(self._resnet(width, width, "down"))
            self.xunetblocks.append(blocks)
        self.middle = self._block(incoming, incoming, c.levels in c.attn_levels)
        self.upsample = nn.ModuleDict()
        for level, inputs, width in up_widths(c):
            blocks = nn.ModuleList(
                self._block(incoming, width, level in c.attn_levels) for incoming in inputs
            )
            if level > 0:
                blocks.append(self._resnet(width, width, "up"))
            self.upsample[str(level)] = blocks
        self.lastgn = GroupNorm(c.widths[0], c.norm_groups)
        self.lastconv = nn.Conv2d(c.widths[0], c.out_channels * fold, 3, padding=1)
        nn.init.zeros_(self.lastconv.weight)
        nn.init.zeros_(self.lastconv.bias)
        # Last of all, so that a seed gives the other weights what it gives them without codes.
        if c.code == "stack":
            widen(self.conv, STACKED_CHANNELS)
        if c.code != "none":
            self.codeprocessor = CodeProcessor(c.code, c.code_dim, c.emb_ch, c.height, c.width)
        self._plan()

    def code_inputs(self) -> list[tuple[str, int, int]]:
        """Weights that have columns for the code: name, columns per group of inputs, groups."""
        if self.config.code == "stack":
            return [("conv.weight", STACKED_CHANNELS, 1)]
        if self.config.code == "concatenate":
            groups = 2 if self.config.frames == 1 else 1
            return [
                (f"conditioningprocessor.convs.{level}.weight", CONCATENATED_CHANNELS, groups)
                for level in range(self.config.levels)
            ]
        return []

    def _resnet(self, incoming: int, width: int, resample: str | None = None) -> ResnetBlock:
        c = self.config
        return ResnetBlock(
            incoming,
            width,
            c.emb_ch,
            c.norm_groups,
            c.dropout,
            c.film_activation == "silu",
            resample,
        )

    def _block(self, incoming: int, width: int, attention: bool) -> XUNetBlock:
        c = self.config
        kinds = ([False, True] if c.frames == 2 else [False]) if attention else []
        return XUNetBlock(self._resnet(incoming, width), kinds, c.attn_heads, c.norm_groups)

    def _plan(self) -> None:
        """Write the network down as a list of steps, so that each frame runs only where it must.

        The frames meet in cross-attention alone. Before the first one they run apart (frame 0
        once per source, whatever the noise); after the last one frame 0 is dead.
        """
        steps: list[tuple[str, nn.Module | None]] = [("push", None)]
        film_levels: list[tuple[int, int]] = []

        def add(module, level):
            if isinstance(module, ResnetBlock):
                film_levels.append((len(steps), level))
                steps.append(("resnet", module))
                return
            add(module.resnetblock, level)
            for name in ("attnblock_self", "attnblock_cross"):
                if hasattr(module, name):
                    steps.append((name.removeprefix("attnblock_"), getattr(module, name)))

        for level, blocks in enumerate(self.xunetblocks):
            for block in blocks:
                add(block, level)
                steps.append(("push", None))
        add(self.middle, self.config.levels - 1)
        for name, blocks in self.upsample.items():
            for block in blocks:
                if isinstance(block, XUNetBlock):
                    steps.append(("pop", None))
                add(block, int(name))
        crosses = [index for index, (kind, _) in enumerate(steps) if kind == "cross"]
        self._steps = steps
        if self.config.frames == 1:
            self._join, self._part = 0, 0
        elif self.config.prune and crosses:
            self._join, self._part = crosses[0], crosses[-1]
        else:
            self._join, self._part = 0, len(steps)
        # Skips of before the join that are read where frame 0 still runs: the last ones.
        both = [kind for kind, _ in steps[self._join : self._part]]
        self._joined_skips = max(0, both.count("pop") - both.count("push"))
        # Which steps of a level each frame's modulation is needed for, in order.
        self._film_steps = {
            frame: [
                [
                    index
                    for index, at in film_levels
                    if at == level and (frame or index < self._part)
                ]
                for level in range(self.config.levels)
            ]
            for frame in (0, 1)
        }

    def _films(self, frame: int, maps, level_embedding):
        """Modulations ``{step: (1 + scale, shift)}`` of one frame, (B, C, h, w) each."""
        films = {}
        for indices, pose_map in zip(self._film_steps[frame], maps, strict=True):
            noise = level_embedding[..., None, None].to(pose_map.dtype)
            layers = [self._steps[index][1].film for index in indices]
            computed = film_maps(layers, silu_of(pose_map + noise))
            films.update(zip(indices, computed, strict=True))
        return films

    def _noise(self, logsnr, told):
        """Noise embedding (B, E) of one frame, with what its code adds."""
        noise = self.conditioningprocessor.noise_embedding(logsnr)
        return noise + told if self.config.code == "film" else noise

    def _tell(self, code):
        """What one frame's projected code (B, channels) adds, in the form of ``Prepared.told``."""
        if self.config.code == "film":
            return code
        if self.config.code == "concatenate":  # in the pose maps
            return None
        maps = self.codeprocessor.stacked(code, STACKED_CELL // self.config.unshuffle)
        return F.conv2d(maps, self.conv.weight[:, -STACKED_CHANNELS:], padding=1)

    def _stem(self, image, beside, told):
        if self.config.concat_source:
            image = torch.cat([image, beside], 1)
        if self.config.unshuffle > 1:
            image = F.pixel_unshuffle(image, self.config.unshuffle)
        image = image.contiguous(memory_format=torch.channels_last)
        if self.config.code != "stack":
            return self.conv(image)
        # Apart from the code's channels: their sum is the same at every step of sampling.
        weight = self.conv.weight[:, :-STACKED_CHANNELS].contiguous()
        told = told if image.shape[0] == 1 else _fit(told, image.shape[0])
        return F.conv2d(image, weight, self.conv.bias, padding=1) + told

    def _run(self, h, skips, films, start: int, end: int):
        for index in range(start, end):
            kind, module = self._steps[index]
            if kind == "push":
                skips.append(h)
            elif kind == "pop":
                skip = skips.pop()
                # One for all, where the noisy images were one.
                skip = _fit(skip, h.shape[0]) if skip.shape[0] == 1 else skip[-h.shape[0] :]
                h = torch.cat([h, skip], 1)
            elif kind == "resnet":
                h = module(h, films[index])
            else:
                h = module(h, last=kind == "cross" and index == self._part)
        return h

    def _check(self, batch, frames: int = 2):
        c = self.config
        expected = {
            "x": (c.in_channels, c.height, c.width),
            "z": (c.in_channels, c.height, c.width),
            "logsnr": (2,),
            "R": (frames, 3, 3),
            "t": (frames, 3),
            "K": (3, 3),
        }
        if "base" in batch:
            expected["base"] = (c.in_channels, c.height, c.width)
        if c.code != "none":
            expected["code"] = (frames, c.code_dim)
        optional = {"z"} if frames == 2 else {"x", "z", "logsnr"}
        if c.frames == 1 and "base" in batch:
            optional.add("x")
        size = batch["R"].shape[0] if "R" in batch else 0
        for name, shape in expected.items():
            if name not in batch:
                if name in optional:
                    continue
                raise ValueError(f"X-UNet batch: {name} is missing, expected (B, {shape})")
            if tuple(batch[name].shape) != (size, *shape):
                raise ValueError(
                    f"X-UNet batch: {name} has shape {tuple(batch[name].shape)}, "
                    f"expected {(size, *shape)}"
                )

    def _poses(self, batch: dict, cond_mask, frames: slice, shared: Shared | None = None):
        """Pose maps of frames (F * B, E, h, w) and what their codes add, (F) or Nones."""
        K = batch["K"]
        if self.config.unshuffle > 1:
            shrink = torch.tensor([1 / self.config.unshuffle] * 2 + [1.0], device=K.device)
            K = K * shrink[:, None]
        code, told = None, [None] * (frames.stop - frames.start)
        if self.config.code != "none":
            code = self.codeprocessor(batch["code"], cond_mask)
            told = [self._tell(code[:, frame]) for frame in range(code.shape[1])]
        maps = self.conditioningprocessor.pose_maps(
            batch["R"],
            batch["t"],
            K,
            cond_mask,
            code if self.config.code == "concatenate" else None,
            frames,
            None if shared is None else shared.learned,
        )
        return maps, told

    def shared(self) -> Shared:
        """What is the same for all images, whatever their source and target.

        Half of the pose maps' cost in single precision, so that who samples repeatedly keeps it.
        """
        return Shared(self.conditioningprocessor.learned_maps())

    def prepare(self, batch: dict, cond_mask=None, shared: Shared | None = None) -> Prepared:
        """Compute once what stays the same while one set of images is sampled.

        That is every pose map, frame 0's modulations, and frame 0 up to the first
        cross-attention. Give the result to ``forward`` as ``prepared``, with the same ``x``,
        ``R``, ``t``, ``K``, ``base``, ``code`` and ``cond_mask``; ``logsnr`` may differ in
        column 1 only. :meth:`look` changes the source image of what was prepared. ``shared`` is of
        :meth:`shared` with these weights, where it was called already.
        """
        self._check(batch)
        maps, told = self._poses(batch, cond_mask, slice(0, 2), shared)
        if self.config.frames == 1:
            return Prepared(maps, {}, None, [], told[1])
        size = batch["R"].shape[0]
        noise = self._noise(batch["logsnr"][:, 0], told[0])
        films = self._films(0, [pose_map[:size] for pose_map in maps], noise)
        maps = [pose_map[size:] for pose_map in maps]
        return self.look(Prepared(maps, films, None, [], told[1], told[0]), batch["x"])

    def prepare_source(self, batch: dict, logsnr: float) -> Prepared:
        """The part of :meth:`prepare` that is the source's alone, of a network of two frames.

        Args:
            batch: ``x``, ``K``, and ``R`` (B, 1, 3, 3), ``t`` (B, 1, 3), ``code`` (B, 1, code_dim)
                of frame 0.
            logsnr: frame 0's level.
        """
        self._check(batch, 1)
        shared = self.shared()
        maps, told = self._poses(batch, None, slice(0, 1), shared)
        level = batch["t"].new_full((batch["t"].shape[0],), logsnr)
        films = self._films(0, maps, self._noise(level, told[0]))
        prepared = Prepared([], films, None, [], None, told[0], shared)
        return self.settle(self.look(prepared, batch["x"]))

    def prepare_target(self, source: Prepared, batch: dict) -> Prepared:
        """Complete :meth:`prepare_source` by the target's part.

        Args:
            source: of as many images, or of one.
            batch: ``K``, and ``R`` (B, 1, 3, 3), ``t`` (B, 1, 3), ``code`` (B, 1, code_dim) of
                frame 1.
        """
        self._check(batch, 1)
        maps, told = self._poses(batch, None, slice(1, 2), source.shared)
        return replace(source, maps=maps, told=told[0])

    def look(self, prepared: Prepared, x) -> Prepared:
        """Return ``prepared`` with source images ``x`` (B, 3, H, W), poses and codes as before.

        ``prepared`` may be of one image whose poses and codes then count for all of ``x``.
        """
        if self.config.frames == 1:
            return prepared
        skips: list[torch.Tensor] = []
        h = self._stem(x, x, prepared.source_told)
        h = self._run(h, skips, prepared.films, 0, self._join)
        return replace(prepared, h=h, skips=skips[len(skips) - self._joined_skips :])

    def settle(self, prepared: Prepared) -> Prepared:
        """Return ``prepared`` without what only :meth:`look` needs, a large part of its memory."""
        films = {step: film for step, film in prepared.films.items() if step >= self._join}
        return replace(prepared, films=films, source_told=None)

    def forward(self, batch: dict, cond_mask=None, prepared: Prepared | None = None):
        """Return the output for frame 1, (B, out_channels, H, W).

        Args:
            batch: ``x`` (B, 3, H, W) source in [-1, 1], or noise where unconditioned; ``z``
                (B, 3, H, W) noisy target; ``logsnr`` (B, 2), column 0 the source's (+20);
                ``R`` (B, 2, 3, 3), ``t`` (B, 2, 3), ``K`` (B, 3, 3) as of ``gaze_poses``;
                with ``concat_source`` optionally ``base`` (B, 3, H, W), taken as it is; for a
                network with codes ``code`` (B, 2, code_dim), raw.
            cond_mask: (B,) bool; False zeroes the encoded poses of both frames and what their
                codes add. None: all True.
            prepared: of :meth:`prepare`, for repeated calls that differ in ``z`` and its level.
                It may be of fewer images: ``z`` then holds all of them in turn several times, or
                ``prepared`` is of one image whose source images were given to :meth:`look`. And
                ``z`` may be one for all images of ``prepared``, with one ``base`` or ``x``.
                ``logsnr`` may then be (1, 2), one level for all, which costs least.

        Raises:
            ValueError: a missing entry or a wrong shape, naming it.
        """
        if prepared is None:
            prepared = self.prepare(batch, cond_mask)
        noise = self._noise(batch["logsnr"][:, 1], prepared.told)
        films = self._films(1, prepared.maps, noise)
        count = max(batch["z"].shape[0], prepared.maps[0].shape[0])
        if prepared.maps[0].shape[0] not in (1, count):
            films = {step: tuple(_fit(one, count) for one in film) for step, film in films.items()}
        beside = batch.get("base", batch.get("x")) if self.config.concat_source else None
        h = self._stem(batch["z"], beside, prepared.told)
        skips: list[torch.Tensor] = []
        if self.config.frames == 2:

            def join(source, target):
                turns = [[one] * _times(one, count) for one in (source, target)]
                return torch.cat([*turns[0], *turns[1]])

            h = self._run(h, skips, films, 0, self._join)
            h = join(prepared.h, h)
            at = len(skips) - self._joined_skips
            joined = [join(*pair) for pair in zip(prepared.skips, skips[at:], strict=True)]
            skips = [*skips[:at], *joined]
            for index, film in prepared.films.items():
                if index >= self._join:
                    pairs = zip(film, films[index], strict=True)
                    films[index] = tuple(join(*pair) for pair in pairs)
        h = self._run(h, skips, films, self._join, len(self._steps))
        h = h[-count:]
        out = self.lastconv(self.lastgn.then_silu(h))
        if self.config.unshuffle > 1:
            out = F.pixel_shuffle(out, self.config.unshuffle)
        return out
