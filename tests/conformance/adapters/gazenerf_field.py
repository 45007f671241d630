"""The radiance fields (CrisHY1995/headnerf, colincqian/GazeNeRF, AlessandroRuzzi/GazeNeRF)."""

from __future__ import annotations

import torch
from kit import adapter, assert_close, fill_input

from regaze.redirectors.gazenerf import rays
from regaze.redirectors.gazenerf.field import VARIANTS, HeadField
from regaze.redirectors.gazenerf.radiance import GazeBranch, RadianceMLP, RadianceMLPGaze
from regaze.redirectors.gazenerf.renderer import NeuralRenderer
from regaze.weights import load_strictly

LARGE = ("headnerf_model_Reso32", "gazenerf_default")
"""Whose tolerance is 1e-4."""


def loaded(network, case):
    """The network with the case's weights; filters are those that it is built with."""
    own = network.state_dict()
    load_strictly(network, {key: own[key] for key in case.manifest["constants"]} | case.state)
    return network.eval()


def tensors(arrays):
    return {name: torch.from_numpy(value) for name, value in arrays.items()}


def drawn(case, name, shape, low=-1.0, high=1.0):
    return torch.from_numpy(fill_input(name, shape, case.seed, low, high))


def field_of(case) -> HeadField:
    """The field that a case configures."""
    name, config = case.folder.name, case.config
    shape = config["iden_code_dims"] + config["expr_code_dims"]
    return HeadField(
        max((one for one in VARIANTS if name.startswith(one)), key=len),
        size_px=config["pred_img_size"],
        side=config["featmap_size"],
        channels=config["featmap_nc"],
        hidden=config["mlp_hidden_nchannels"],
        samples=config["num_sample_coarse"],
        shape=shape,
        appearance=config["text_code_dims"] + config["illu_code_dims"],
        gaze_dim=config.get("eye_gaze_dim", 0),
        near_points=config.get("include_vp", True),
        gaze_share=config.get("feat_addition_alpha", 1.0),
        directions=config.get("include_vd", False),
        white=config["bg_type"] == "white",
    )


def given(case):
    """Camera, codes, gaze and eyes of a case."""
    config, golden = case.config, tensors(case.golden)
    camera = rays.Camera(golden["Rmat"], golden["Tvec"], golden["inv_inmat"])
    count = len(camera.rotation)
    shape = config["iden_code_dims"] + config["expr_code_dims"]
    appearance = config["text_code_dims"] + config["illu_code_dims"]
    codes = (
        drawn(case, "shape_code", [count, shape]),
        drawn(case, "appea_code", [count, appearance]),
    )
    side = 16 * config["featmap_size"]
    eyes = (drawn(case, "eye_mask", [count, 1, 1, side, side])[:, 0] > 0.2).float()
    return camera, codes, drawn(case, "gaze", [count, 2], -0.8, 0.8), eyes


PICTURES = {
    "merge_img": "image",
    "bg_img": "background",
    "merge_img_face": "face",
    "merge_img_eyes": "eyes",
}


@adapter("gazenerf/headnerf_*", "gazenerf/gazenerf_*")
@torch.no_grad()
def fields(case):
    if not case.golden:
        with torch.device("meta"):
            found = field_of(case).state_dict()
        wanted = {key: entry["shape"] for key, entry in case.manifest["state"].items()}
        assert {key: list(value.shape) for key, value in found.items()} == wanted
        return
    field = loaded(field_of(case), case)
    camera, codes, gaze, eyes = given(case)
    atol = 1e-4 if case.folder.name in LARGE else 1e-5
    heads = field.prepare(camera, *codes)
    shown = {key: name for key, name in PICTURES.items() if key in case.golden}
    rays_of = field.follow(heads, gaze, eyes)
    found = field.pictures(rays_of, gaze, names=tuple(shown.values()))
    for key, name in shown.items():
        wanted = case.golden[key]
        step = found[name].shape[-1] // wanted.shape[-1]
        assert_close(found[name][..., ::step, ::step], wanted, atol, name=key)
    followed(case, heads, rays_of, atol)
    if "gaze_embed" in case.golden:
        trained(case, field, camera, codes, gaze, eyes)


def followed(case, heads, found, atol) -> None:
    """What rays add up to; every so many channels and rays are stored of large ones."""
    for name, one in found.items():
        end = "" if name == "image" else f"_{name}"
        depth = (one.weights * heads.samples.depths[..., :-1]).sum(-1)
        for key, value in (
            (f"fg_feat{end}", one.features.transpose(1, 2)),
            (f"bg_alpha{end}", one.clear[:, None]),
            ("depth", depth[:, None]),
            ("weights", one.weights[:, None]),
        ):
            if key in case.golden:
                wanted = case.golden[key]
                steps = [-(-a // b) for a, b in zip(value.shape, wanted.shape, strict=True)]
                thinned = value[tuple(slice(None, None, step) for step in steps)]
                assert_close(thinned, wanted, atol, name=key)


def trained(case, field, camera, codes, gaze, eyes) -> None:
    """The branch's input, and pictures of samples that are drawn in the middle of their ranges."""
    embedding = field.gaze_embedding(gaze, eyes).transpose(1, 2)
    assert_close(embedding, case.golden["gaze_embed"], 1e-5, name="gaze_embed")
    draws = torch.full((len(gaze), field.side**2, field.count + 1), 0.5)
    heads = field.prepare(camera, *codes, draws=draws)
    found = field(
        heads, gaze, eyes=eyes, template=torch.zeros_like(gaze), names=("image", "template")
    )
    for key, name in (("train_merge_img", "image"), ("train_template_img", "template")):
        assert_close(found[name], case.golden[key], 1e-5, name=key)


def along(values):
    """Inputs (B,C,R,N) as so many pictures of one point."""
    return values.permute(0, 2, 3, 1).flatten(0, 2)


def close_points(found, case, key) -> None:
    wanted = case.golden[key]
    assert_close(found, along(torch.from_numpy(wanted)), 1e-5, name=key)


def shaded(mlp, vps, vds, added=None):
    """Densities and features of points whose codes all differ."""
    points, shape = vps.tensor_split([mlp.points], 1)
    told, values, colours = mlp.tell(shape, vds), [], []
    for row in range(len(points)):
        own = told.of(row)
        one = mlp.trunk(points[row : row + 1], own.first, own.again)
        values.append(one)
        colours.append(mlp.colour(one, own.colour))
    values, colours = torch.cat(values), torch.cat(colours)
    if added is not None:
        values, colours = values + added[0], colours + added[1]
    return mlp.density(values), mlp.features(colours, torch.ones(len(colours)))


@adapter("gazenerf/mlp_nerf")
@torch.no_grad()
def mlp_nerf(case):
    config = case.config
    sizes = config["vp_channels"] - 63, config["vd_channels"]
    mlp = loaded(RadianceMLP(63, *sizes, config["h_channel"], config["res_nfeat"]), case)
    vps, vds = (
        along(drawn(case, n, [2, config[f"{n[:2]}_channels"], 6, 4])) for n in ("vps", "vds")
    )
    density, features = shaded(mlp, vps, vds)
    close_points(density[:, None], case, "density")
    close_points(features, case, "feat")


@adapter("gazenerf/gaze_mlp")
@torch.no_grad()
def gaze_mlp(case):
    config = case.config
    branch = loaded(GazeBranch(63, config["gaze_channels"] - 63, config["h_channel"]), case)
    embedded = along(drawn(case, "gaze_embed", [2, config["gaze_channels"], 5, 4]))
    density, colour = added_by(branch, embedded)
    close_points(density, case, "density_feat")
    close_points(colour, case, "rgb_feat")


def added_by(branch, embedded):
    points, told = embedded.tensor_split([branch.points], 1)
    return branch(*branch.near(points, *branch.told_biases(told)))


@adapter("gazenerf/headnerf_gaze_mlp")
@torch.no_grad()
def headnerf_gaze_mlp(case):
    config = case.config
    sizes = config["vp_channels"] - 63, config["vd_channels"], config["h_channel"]
    options = {"rays": config["gaze_channels"] - 63, "near_points": True}
    mlp = loaded(RadianceMLPGaze(63, *sizes, config["res_nfeat"], **options), case)
    vps, vds = (
        along(drawn(case, n, [2, config[f"{n[:2]}_channels"], 5, 4])) for n in ("vps", "vds")
    )
    for start, name in (("", "gaze_embed"), ("template_", "gaze_embed_template")):
        embedded = along(drawn(case, name, [2, config["gaze_channels"], 5, 4]))
        density, features = shaded(mlp, vps, vds, added_by(mlp.gaze_layers, embedded))
        close_points(density[:, None], case, f"{start}density")
        close_points(features, case, f"{start}feat")


@adapter("gazenerf/neural_renderer")
@torch.no_grad()
def neural_renderer(case):
    config = case.config
    sizes = config["feat_nc"], config["featmap_size"], config["img_size"]
    network = loaded(NeuralRenderer(*sizes, config["bg_type"] == "white"), case)
    maps = drawn(case, "featmap", [1, sizes[0], sizes[1], sizes[1]], -2, 2)
    assert_close(network(maps)[..., ::4, ::4], case.golden["img"], 1e-5, name="img")
    larger = network.feat_upsample_list[0](maps)[:, ::16, ::4, ::4]
    assert_close(larger, case.golden["upsample0"], 1e-5, name="upsample0")
    rgb = network.rgb_upsample(maps[:, :3])
    assert_close(rgb, case.golden["rgb_up"], 1e-5, name="rgb_up")


@adapter("gazenerf/math_rays")
def math_rays(case):
    config, golden, atol = case.config, tensors(case.golden), 1e-5
    count, side, samples = config["B"], config["featmap_size"], config["num_sample_coarse"]
    camera = rays.Camera(golden["Rmat"], golden["Tvec"], golden["inv_inmat"])
    directions = rays.ray_directions(camera, rays.pixel_grid(side))
    depths = rays.plane_depths(camera, samples).expand(-1, side * side, -1)
    plain = rays.samples_at(camera, directions, depths)
    draws = drawn(case, "u", [count, side * side, samples + 1], 0, 1)
    moved = rays.samples_at(camera, directions, rays.jittered(depths, draws))
    density = drawn(case, "density", [count, 1, side * side, samples], -1, 2)[:, 0].relu()
    weights = rays.sample_weights(density, plain.lengths)
    further = torch.linspace(0, 1, config["num_sample_fine"] + 1)
    fine = rays.samples_at(camera, directions, rays.finer(depths, weights, further))
    for start, one in (("", plain), ("train_", moved), ("fine_", fine)):
        shown = one.points.permute(0, 3, 1, 2)
        assert_close(shown, golden[f"{start}pts"], atol, name=f"{start}pts")
        nodes = one.depths[:, None, :, :-1]
        assert_close(nodes, golden[f"{start}zvals"], atol, name=f"{start}zvals")
        assert_close(one.lengths[:, None], golden[f"{start}z_dists"], atol, name=f"{start}z_dists")
    seen = directions.transpose(1, 2)[..., None]
    assert_close(seen, golden["batch_ray_d"], atol, name="batch_ray_d")
    assert_close(seen.expand(-1, -1, -1, samples), golden["dirs"], atol, name="dirs")
    assert_close(weights[:, None], golden["weights"], atol, name="weights")
    assert_close(1 - weights.sum(-1)[:, None], golden["bg_alpha"], atol, name="bg_alpha")
    depth = (weights * plain.depths[..., :-1]).sum(-1)[:, None]
    assert_close(depth, golden["depth"], atol, name="depth")
    values = drawn(case, "feat", [count, 5, side * side, samples])
    assert_close((values * weights[:, None]).sum(-1), golden["ray_feat"], atol, name="ray_feat")
    for key, name, bands in (("embed10", "pts", 10), ("embed4", "dirs", 4)):
        some = golden[name].permute(0, 2, 3, 1)[:, :4, :3]
        assert_close(rays.encoded(some, bands).permute(0, 3, 1, 2), golden[key], atol, name=key)
