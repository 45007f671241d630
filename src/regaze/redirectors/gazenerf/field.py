"""The field in its four variants: cameras and codes to pictures.

``headnerf`` (Hong et al., CVPR 2022) is told no gaze; ``headnerf_gazecat`` has it beside the shape
code; ``headnerf_gaze`` (``colincqian/GazeNeRF``) in a branch that adds to what the trunk says;
``gazenerf`` (Ruzzi et al., CVPR 2023) in two fields, of the face and of the eyes, the features of
the second turned by it. State dicts are those of the published code.

Samples without density change neither a picture nor a gradient. While training, densities are
therefore computed first without gradients, and everything else for the samples that have some.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from regaze.redirectors.gazenerf.cameras import gaze_columns
from regaze.redirectors.gazenerf.parts import Map, Prepared
from regaze.redirectors.gazenerf.radiance import RadianceMLP, RadianceMLPGaze, Told, mixed, wide
from regaze.redirectors.gazenerf.rays import (
    DIRECTION_BANDS,
    FAR,
    NEAR,
    POINT_BANDS,
    Camera,
    Samples,
    Window,
    encoded,
    finer,
    jittered,
    pixel_grid,
    plane_depths,
    ray_directions,
    sample_weights,
    samples_at,
    turn_features,
)
from regaze.redirectors.gazenerf.renderer import NeuralRenderer

VARIANTS = ("headnerf", "headnerf_gazecat", "headnerf_gaze", "gazenerf")
_DIRECTIONS = 3 + 6 * DIRECTION_BANDS
_CHUNK = 8192
"""Samples at a time where nothing is kept for gradients."""

Shader = Callable[[Tensor, Tensor, bool], list[tuple[Tensor, Tensor | None]]]
"""Encoded points (M,63) on rays with the numbers (M,), and whether colours are wanted, to
densities (M,) and colours (M,h/2) of every stream."""


class HeadField(nn.Module):
    """A field with its renderer.

    Args:
        variant: one of :data:`VARIANTS`.
        size_px: side of the pictures.
        side: of the feature map.
        channels: of the feature map; of ``gazenerf`` a multiple of three.
        hidden: width of the perceptrons.
        samples: per ray.
        shape, appearance: numbers of the two codes.
        gaze_dim: numbers that the gaze is told in (``headnerf_gazecat``, ``headnerf_gaze``): the
            two angles again and again.
        near_points: whether the gaze branch sees points (``headnerf_gaze``).
        gaze_columns: the gaze is told as two columns of a rotation in place of its angles.
        gaze_share: of the gaze's features against those of a gaze of 0 (``headnerf_gaze``).
        directions: whether rays' directions are seen.
        fine: further samples per ray where the density is.
        white: whether the background begins white.
        recompute: activations are computed again for gradients, ray chunk by ray chunk.
        bands: frequencies by which points are encoded, 1, 2, 4, ...
        near, far: world z of the planes between which rays are sampled.
        gaze_scale: the gaze is told in so many times radians.
        gain: factor of the trunks' first weights.
    """

    def __init__(
        self,
        variant: str,
        *,
        size_px: int,
        side: int,
        channels: int,
        hidden: int,
        samples: int,
        shape: int,
        appearance: int,
        gaze_dim: int = 64,
        gaze_columns: bool = False,
        near_points: bool = True,
        gaze_share: float = 1.0,
        directions: bool = False,
        fine: int = 0,
        white: bool = True,
        recompute: bool = False,
        bands: int = POINT_BANDS,
        near: float = NEAR,
        far: float = FAR,
        gaze_scale: float = 1.0,
        gain: float = 1.0,
    ):
        super().__init__()
        self.bands, self.planes, self.gaze_scale = bands, (near, far), gaze_scale
        self.variant, self.side, self.count, self.fine = variant, side, samples, fine
        self.gaze_dim = {"headnerf": 0, "gazenerf": 2}.get(variant, gaze_dim)
        self.gaze_columns = gaze_columns
        self.gaze_share, self.recompute, self.directions = gaze_share, recompute, directions
        self.told_shape, self.told_appearance = shape, appearance
        self.neural_render = NeuralRenderer(channels, side, size_px, white)
        told = shape + (self.gaze_dim if variant != "headnerf_gaze" else 0)
        seen = _DIRECTIONS if directions else 0
        sizes = (3 + 6 * bands, told, appearance, hidden, channels, seen)
        if variant == "gazenerf":
            self.fg_CD_predictor_face = RadianceMLP(*sizes)
            self.fg_CD_predictor_eyes = RadianceMLP(*sizes)
        elif variant == "headnerf_gaze":
            rays = 1 + gaze_dim + 2
            self.fg_CD_predictor = RadianceMLPGaze(*sizes, rays=rays, near_points=near_points)
        else:
            self.fg_CD_predictor = RadianceMLP(*sizes)
        for one in self.streams.values():
            one.amplify(gain)

    @property
    def streams(self) -> dict[str, RadianceMLP]:
        """The perceptrons by what they are of."""
        if self.variant == "gazenerf":
            return {"face": self.fg_CD_predictor_face, "eyes": self.fg_CD_predictor_eyes}
        return {"image": self.fg_CD_predictor}

    # What is needed of heads, whatever their gazes.

    def prepare(
        self,
        camera: Camera,
        shape: Tensor,
        appearance: Tensor,
        draws: Tensor | None = None,
        window: Window | None = None,
    ) -> Prepared:
        """What does not depend on the gaze.

        Args:
            camera: B of them.
            shape, appearance: codes (B,s) and (B,a).
            draws: (B,R,N+1) uniform in [0, 1), by which samples are moved; None: not at all.
            window: of the map, whose R rays are followed; all without it.
        """
        window = window or Window(0, 0, self.side)
        numbers = window.rows(self.side, shape.device)
        pixels = pixel_grid(self.side, shape.device)[numbers]
        with torch.autocast(shape.device.type, enabled=False):
            directions = ray_directions(camera, pixels)
            depths = plane_depths(camera, self.count, *self.planes).expand(-1, len(pixels), -1)
            depths = depths if draws is None else jittered(depths, draws)
            samples = samples_at(camera, directions, depths)
        codes = shape, appearance
        told_later = self.variant in ("gazenerf", "headnerf_gazecat")
        told = {} if told_later else self._told(directions, *codes)
        made = Prepared(samples, numbers, codes, told)
        if self.variant == "headnerf_gaze" and not torch.is_grad_enabled() and not self.fine:
            made = Prepared(samples, numbers, codes, told, self._trunks(made))
        return made

    def _told(self, directions: Tensor, shape: Tensor, appearance: Tensor) -> dict[str, Told]:
        seen = encoded(directions, DIRECTION_BANDS) if self.directions else None
        return {name: one.tell(shape, appearance, seen) for name, one in self.streams.items()}

    def _trunks(self, prepared: Prepared) -> tuple[dict[int, tuple], ...]:
        found, mlp = [], self.fg_CD_predictor
        for row in range(len(prepared.codes[0])):
            told, parts = prepared.told["image"].of(row), {}
            for start, points, rays in self._chunks(prepared.samples, row):
                values = mlp.trunk(points, told.first, told.again)
                colours = mlp.colour(values, _of_rays(told.colour, rays))
                parts[start] = values, colours, mlp.passed(points)
            found.append(parts)
        return tuple(found)

    def _chunks(self, samples: Samples, row: int, known: Mapping = MappingProxyType({})):
        """First ray, encoded points (M,63) and numbers (M,) of their rays, of one picture.

        Points (M,3) are not encoded of rays of which all that is made of them is known.
        """
        rays, count = samples.points.shape[1:3]
        step = max(1, _CHUNK // count)
        for start in range(0, rays, step):
            points = samples.points[row, start : start + step]
            numbers = torch.arange(start, start + len(points), device=points.device)
            points = points.flatten(0, 1)
            if start not in known:
                points = encoded(points, self.bands)
            yield start, points, numbers.repeat_interleave(count)

    # What gazes make of them.

    def follow(
        self,
        prepared: Prepared,
        gaze: Tensor | None = None,
        eyes: Tensor | None = None,
        of: Tensor | None = None,
        template: Tensor | None = None,
    ) -> dict[str, Map]:
        """What all rays add up to, by stream.

        Args:
            prepared: of K heads.
            gaze: (B,2) radians, in whatever frame the field learnt it; ``headnerf`` looks at none.
            eyes: (B,1,h,w), shares of pixels that are eyes, of the head's picture
                (``headnerf_gaze``).
            of: (B,) int64, the head of each; default one each.
            template: (B,2), a gaze whose features alone make a stream ``template``
                (``headnerf_gaze``).
        """
        heads = len(prepared.codes[0])
        rows = range(heads) if of is None else of.tolist()
        shaders = self._shaders(prepared, rows, gaze, eyes, template)
        made = [
            self._picture(prepared, head, *one) for head, one in zip(rows, shaders, strict=True)
        ]
        names = [*self.streams, *(["template"] if template is not None else [])]
        mlps = [*self.streams.values(), *self.streams.values()]
        found = {}
        for number, name in enumerate(names):
            colours, weights = (torch.stack([one[number][part] for one in made]) for part in (0, 1))
            total = weights.sum(-1)
            features = mlps[number].features(colours, total)
            found[name] = Map(wide(features), 1 - total, weights)
        return found

    def _shaders(self, prepared, rows, gaze, eyes, template) -> list[tuple[list[Shader], Mapping]]:
        """Of every picture its shaders, and its trunk by chunk where that is known."""
        if self.variant == "headnerf_gaze":
            return self._looking(prepared, rows, gaze, eyes, template)
        told = prepared.told
        if self.gaze_dim:
            heads = torch.as_tensor(list(rows), device=gaze.device)
            shape, appearance = (one[heads] for one in prepared.codes)
            shape = torch.cat([shape, self._tiled(gaze)], 1)
            directions = prepared.samples.directions[heads]
            told, rows = self._told(directions, shape, appearance), range(len(gaze))

        def shader(name: str, row: int) -> Shader:
            mlp, biases = self.streams[name], told[name].of(row)

            def shade(points, rays, colours):
                values = mlp.trunk(points, biases.first, biases.again)
                seen = mlp.colour(values, _of_rays(biases.colour, rays)) if colours else None
                return [(mlp.density(values), seen)]

            return shade

        return [([shader(name, row) for name in self.streams], {}) for row in rows]

    def _tiled(self, gaze: Tensor) -> Tensor:
        numbers = gaze_columns(gaze) if self.gaze_columns else gaze
        return self.gaze_scale * numbers.repeat(1, self.gaze_dim // numbers.shape[1])

    def gaze_embedding(self, gaze: Tensor, eyes: Tensor) -> Tensor:
        """What the gaze branch is told of every ray besides points, (B, side^2, 1+G+2)."""
        shares = F.adaptive_avg_pool2d(eyes, self.side).flatten(1).unsqueeze(-1)
        places = pixel_grid(self.side, gaze.device) * (2 / (self.side - 1)) - 1
        count = shares.shape[1]
        gazes = self._tiled(gaze)[:, None].expand(-1, count, -1)
        return torch.cat([shares, gazes, places.expand(len(gaze), -1, -1)], -1)

    def _looking(self, prepared, rows, gaze, eyes, template) -> list[tuple[list[Shader], Mapping]]:
        mlp, share = self.fg_CD_predictor, self.gaze_share
        plain = torch.zeros_like(gaze) if template is None else template
        asked = [gaze]
        if share < 1 or template is not None:
            asked.append(plain)
        rays = (self.gaze_embedding(one, eyes)[:, prepared.pixels] for one in asked)
        branch = [mlp.gaze_layers.told_biases(one) for one in rays]
        heads = list(rows)

        def shader(number: int) -> Shader:
            told = prepared.told["image"].of(heads[number])
            own = [tuple(one[number] for one in biases) for biases in branch]

            def shade(points, rays, colours, known=None):
                if known is None:
                    values = mlp.trunk(points, told.first, told.again)
                    seen = mlp.colour(values, _of_rays(told.colour, rays)) if colours else None
                    added = [mlp.looking(points, rays, biases) for biases in own]
                else:
                    values, seen, passed = known
                    added = [mlp.looking_again(passed, rays, biases) for biases in own]
                used = [added[0] if share == 1 else mixed(*added, share)]
                used += added[1:] if template is not None else []
                return [
                    (mlp.density(values + more), seen + brighter if colours else None)
                    for more, brighter in used
                ]

            return shade

        trunks = prepared.trunks or [{}] * (max(heads) + 1)
        return [([shader(number)], trunks[head]) for number, head in enumerate(heads)]

    def _picture(self, prepared: Prepared, head: int, shaders: list[Shader], trunks) -> list:
        """Colours (R,h/2) added up and weights (R,N) of every stream, of one picture."""
        samples = prepared.samples.of(head)
        if self.fine:
            samples = samples.finer(self._finer_depths(samples, shaders))
        if not torch.is_grad_enabled():
            return self._shown(samples, shaders, trunks)
        points, lengths = samples.points[0], samples.lengths[0]
        step = max(1, _CHUNK // lengths.shape[1]) if self.recompute else len(points)
        made = []
        for shade in shaders:
            parts = []
            for start in range(0, len(points), step):
                own = slice(start, start + step)
                given = (shade, points[own], lengths[own], start)
                parts.append(
                    checkpoint(self._learnt, *given, use_reentrant=False, preserve_rng_state=False)
                    if self.recompute
                    else self._learnt(*given)
                )
            made += _joined(parts)
        return made

    def _shown(self, samples: Samples, shaders: list[Shader], trunks: Mapping) -> list:
        parts, count = [], samples.lengths.shape[2]
        for start, points, rays in self._chunks(samples, 0, trunks):
            known = {"known": trunks[start]} if start in trunks else {}
            lengths = samples.lengths[0, start : start + len(points) // count]
            made = []
            for shade in shaders:
                for densities, colours in shade(points, rays, True, **known):
                    weights = sample_weights(densities.view_as(lengths), lengths)
                    shaped = wide(colours).unflatten(0, lengths.shape)
                    made.append(((weights[:, None] @ shaped)[:, 0], weights))
            parts.append(made)
        return _joined(parts)

    def _learnt(self, shade: Shader, points: Tensor, lengths: Tensor, start: int) -> list:
        """The same of rays from number ``start`` on, for gradients."""
        flat = points.flatten(0, 1)
        rays = torch.arange(len(points), device=flat.device).repeat_interleave(lengths.shape[1])
        filled = self._filled(shade, flat, rays + start)
        own = rays[filled]
        some = encoded(flat[filled], self.bands)
        made = []
        for densities, colours in shade(some, own + start, True):
            whole = densities.new_zeros(len(rays)).index_copy(0, filled, densities)
            weights = sample_weights(whole.view_as(lengths), lengths)
            with torch.autocast(points.device.type, enabled=False):
                seen = weights.flatten()[filled][:, None] * wide(colours)
                total = seen.new_zeros(len(points), seen.shape[1]).index_add(0, own, seen)
            made.append((total, weights))
        return made

    @torch.no_grad()
    def _filled(self, shade: Shader, points: Tensor, rays: Tensor) -> Tensor:
        """Numbers (F,) of the points (M,3) that have a density in one of the shader's streams."""
        there = []
        for part, own in zip(points.split(_CHUNK), rays.split(_CHUNK), strict=True):
            found = shade(encoded(part, self.bands), own, False)
            there.append(torch.stack([one > 0 for one, _ in found]).any(0))
        return torch.cat(there).nonzero()[:, 0]

    @torch.no_grad()
    def _finer_depths(self, samples: Samples, shaders: list[Shader]) -> Tensor:
        """Depths (1,R,N+M+1) of one picture with further samples where the densities are."""
        weights, lengths = [], samples.lengths[0]
        for _, points, rays in self._chunks(samples, 0):
            own = lengths[rays[:: lengths.shape[1]]]
            found = [one for shade in shaders for one, _ in shade(points, rays, False)]
            weights.append(sum(sample_weights(one.view_as(own), own) for one in found))
        draws = torch.linspace(0, 1, self.fine + 1).to(lengths)
        return finer(samples.depths, torch.cat(weights)[None], draws)

    # Pictures of that.

    def feature_maps(
        self, found: Mapping[str, Map], gaze: Tensor | None, window: Window | None = None
    ) -> dict[str, Tensor]:
        """Maps (B,C,h,w) of streams before the background, which ``image`` is the whole of."""
        behind = self.neural_render.bg_featmap
        behind = behind if window is None else window.cut(behind)
        made = {}
        for name, one in found.items():
            maps = one.features.transpose(1, 2).unflatten(2, behind.shape[2:])
            clear = one.clear.unflatten(1, behind.shape[2:])[:, None]
            made[name] = maps + clear * behind
        if self.variant == "gazenerf":
            made["eyes"] = turn_features(made["eyes"], gaze)
            made["image"] = torch.maximum(made["face"], made["eyes"])
        return made

    def forward(
        self,
        prepared: Prepared,
        gaze: Tensor | None = None,
        *,
        eyes: Tensor | None = None,
        of: Tensor | None = None,
        template: Tensor | None = None,
        window: Window | None = None,
        names: tuple[str, ...] = ("image",),
    ) -> dict[str, Tensor]:
        """Pictures (B,3,S,S) in [0,1] by name; see :meth:`follow` for the arguments.

        Args:
            names: some of ``image``, of ``gazenerf`` ``face`` and ``eyes``, ``template`` where one
                is given, and ``background`` (1,3,S,S).
            window: the one that the heads were prepared with; pictures are of it alone. Their
                outermost pixels are others than those of whole pictures, as far as two pixels of
                the feature map reach.
        """
        return self.pictures(self.follow(prepared, gaze, eyes, of, template), gaze, window, names)

    def pictures(
        self,
        found: Mapping[str, Map],
        gaze: Tensor | None,
        window: Window | None = None,
        names: tuple[str, ...] = ("image",),
    ) -> dict[str, Tensor]:
        """The pictures of what rays add up to, all in one batch; see :meth:`forward`."""
        behind = self.neural_render.bg_featmap
        with torch.autocast(behind.device.type, enabled=False):
            maps = self.feature_maps(found, gaze, window)
            maps["background"] = behind if window is None else window.cut(behind)
            chosen = [maps[name] for name in names]
            made = self.neural_render(torch.cat(chosen)).split([len(one) for one in chosen])
        return dict(zip(names, made, strict=True))


def _of_rays(bias: Tensor, rays: Tensor) -> Tensor:
    """A bias (h,) of all rays, or those (R,h) of the rays (M,)."""
    return bias if bias.ndim == 1 else bias[rays]


def _joined(parts: list) -> list:
    """Streams of all chunks of rays together."""
    return [
        tuple(torch.cat(values) for values in zip(*stream, strict=True))
        for stream in zip(*parts, strict=True)
    ]
