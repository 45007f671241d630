"""The field in its four variants: cameras and codes to pictures.

``headnerf`` (Hong et al., CVPR 2022) is told no gaze; ``headnerf_gazecat`` has it beside the shape
code; ``headnerf_gaze`` (``colincqian/GazeNeRF``) in a branch that adds to what the trunk says;
``gazenerf`` (Ruzzi et al., CVPR 2023) in two fields, of the face and of the eyes, the features of
the second turned by it. State dicts are those of the published code.

How rays are followed is in :mod:`.march`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from regaze.redirectors.gazenerf.cameras import gaze_columns
from regaze.redirectors.gazenerf.march import (
    CHUNK,
    Marched,
    Shader,
    chunks,
    finer_depths,
    joined,
    learnt,
    shown,
)
from regaze.redirectors.gazenerf.parts import Map, Prepared
from regaze.redirectors.gazenerf.radiance import (
    RadianceMLP,
    RadianceMLPGaze,
    Told,
    Where,
    mixed,
    wide,
)
from regaze.redirectors.gazenerf.rays import (
    DIRECTION_BANDS,
    FAR,
    NEAR,
    POINT_BANDS,
    Camera,
    Samples,
    Window,
    encoded,
    jittered,
    pixel_grid,
    plane_depths,
    ray_directions,
    samples_at,
    turn_features,
)
from regaze.redirectors.gazenerf.renderer import NeuralRenderer

VARIANTS = ("headnerf", "headnerf_gazecat", "headnerf_gaze", "gazenerf")
_DIRECTIONS = 3 + 6 * DIRECTION_BANDS


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
        self.told_shape, self.told_appearance, self.hidden = shape, appearance, hidden
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
            for start, points, rays in chunks(prepared.samples.of(row), self.bands):
                values = mlp.trunk(points, told.first, told.again)
                bias = told.colour if told.colour.ndim == 1 else told.colour[rays]
                parts[start] = values, mlp.colour(values, bias), mlp.passed(points)
            found.append(parts)
        return tuple(found)

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
        heads = list(range(len(prepared.codes[0]))) if of is None else of.tolist()
        shaders = self._shaders(prepared, heads, gaze, eyes, template)
        samples = [prepared.samples.of(head) for head in heads]
        if self.fine:
            options = self.bands, self.fine
            samples = [
                one.finer(finer_depths(shaders, one, number, *options))
                for number, one in enumerate(samples)
            ]
        made = self._marched(shaders, samples, heads, prepared.trunks)
        names = [*self.streams, *(["template"] if template is not None else [])]
        mlps = [*self.streams.values(), *self.streams.values()]
        found = {}
        for number, name in enumerate(names):
            colours, weights = (one.unflatten(0, (len(heads), -1)) for one in made[number])
            total = weights.sum(-1)
            features = mlps[number].features(colours, total)
            found[name] = Map(wide(features), 1 - total, weights)
        return found

    def _marched(
        self, shaders: list[Shader], samples: list[Samples], heads: list[int], trunks: tuple
    ) -> list:
        """Colours and weights of every stream, of all rays of one picture after the other."""
        if not torch.is_grad_enabled():
            known = trunks or [{}] * (max(heads) + 1)
            return joined(
                [
                    shown(shaders, one, number, self.bands, known[head])
                    for number, (one, head) in enumerate(zip(samples, heads, strict=True))
                ]
            )
        points, lengths = (
            torch.cat([getattr(one, name)[0] for one in samples]) for name in ("points", "lengths")
        )
        step = max(1, CHUNK // lengths.shape[1]) if self.recompute else len(points)
        made = []
        for start in range(0, len(points), step):
            own = slice(start, start + step)
            part = Marched(
                points[own], lengths[own], start, len(samples), len(points) // len(samples)
            )
            given = shaders, part, self.bands, self.hidden
            made.append(
                checkpoint(learnt, *given, use_reentrant=False, preserve_rng_state=False)
                if self.recompute
                else learnt(*given)
            )
        return joined(made)

    def _shaders(self, prepared, heads, gaze, eyes, template) -> list[Shader]:
        """What shades samples of all pictures, of each of which the head is known."""
        if self.variant == "headnerf_gaze":
            return [self._looking(prepared, heads, gaze, eyes, template)]
        of = torch.as_tensor(heads, device=prepared.codes[0].device)
        if self.gaze_dim:
            shape, appearance = (one[of] for one in prepared.codes)
            shape = torch.cat([shape, self._tiled(gaze)], 1)
            told = self._told(prepared.samples.directions[of], shape, appearance)
        else:
            told = {name: one.of(of) for name, one in prepared.told.items()}

        def shader(name: str) -> Shader:
            mlp, biases = self.streams[name], told[name]

            def shade(points, where, colours, kept=None, known=None):
                values = mlp.trunk(points, where.told(biases.first), where.told(biases.again), kept)
                seen = mlp.colour(values, where.told(biases.colour)) if colours else None
                return [(mlp.density(values), seen)]

            return shade

        return [shader(name) for name in self.streams]

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

    def _looking(self, prepared, heads, gaze, eyes, template) -> Shader:
        mlp, share = self.fg_CD_predictor, self.gaze_share
        plain = torch.zeros_like(gaze) if template is None else template
        asked = [gaze]
        if share < 1 or template is not None:
            asked.append(plain)
        rays = (self.gaze_embedding(one, eyes)[:, prepared.pixels] for one in asked)
        branch = [mlp.gaze_layers.told_biases(one) for one in rays]
        told = prepared.told["image"].of(torch.as_tensor(heads, device=gaze.device))

        def shade(points, where, colours, kept=None, known=None):
            own, numbers = _of_picture(branch, where)
            if known is None:
                values = mlp.trunk(points, where.told(told.first), where.told(told.again), kept)
                seen = mlp.colour(values, where.told(told.colour)) if colours else None
                added = [mlp.looking(points, numbers, biases, kept) for biases in own]
            else:
                values, seen, passed = known
                added = [mlp.looking_again(passed, numbers, biases) for biases in own]
            used = [added[0] if share == 1 else mixed(*added, share)]
            used += added[1:] if template is not None else []
            return [
                (mlp.density(values + more), seen + brighter if colours else None)
                for more, brighter in used
            ]

        return shade

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


def _of_picture(branch: list[tuple[Tensor, Tensor]], where: Where) -> tuple[list, Tensor]:
    """Biases (Q,h) of rays (B,R,h), of one picture where all samples are."""
    if not isinstance(where.picture, int):
        return [tuple(one.flatten(0, 1) for one in biases) for biases in branch], where.rays
    number, rays = where.picture, branch[0][0].shape[1]
    return [tuple(one[number] for one in biases) for biases in branch], where.rays - number * rays
