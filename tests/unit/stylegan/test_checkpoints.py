"""Files of e4e and StyleGAN2: what is read, what is refused, and that nothing in them runs."""

import os
from argparse import Namespace

import pytest
import torch
from torch import nn

from regaze.identity.irse import irse_trunk
from regaze.stylegan.checkpoints import Inverter, read_e4e
from regaze.stylegan.generator import Generator


class Small(nn.Module):
    """An encoder with the keys that tell how many rows a code has."""

    def __init__(self, rows):
        super().__init__()
        layers = [nn.ModuleDict({"linear": nn.Linear(48, 8)}) for _ in range(rows)]
        self.styles, self.norm = nn.ModuleList(layers), nn.BatchNorm1d(48)

    def forward(self, images):
        values = self.norm(nn.functional.adaptive_avg_pool2d(images, 4).flatten(1))
        return torch.stack([style["linear"](values) for style in self.styles], 1)


class Bomb:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def inverter(size=8, seed=0):
    torch.manual_seed(seed)
    decoder = Generator(size, style_dim=8, n_mlp=2, width=8)
    network = Inverter(decoder, Small(decoder.n_latent))
    network.latent_avg.normal_()
    return network.eval()


def e4e_of(network, **changes):
    state = network.state_dict()
    average = state.pop("latent_avg")
    options = {"start_from_latent_avg": True, "stylegan_size": network.decoder.size}
    return {"state_dict": state, "latent_avg": average, "opts": options} | changes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pt"


def assert_same(first, second):
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(first.invert(images), second.invert(images))


def test_an_e4e_file_gives_its_inversions(path):
    trained, other = inverter(), inverter(seed=1)
    torch.save(e4e_of(trained), path)
    other.load(read_e4e(path), path)
    assert_same(trained, other)


def test_counters_of_batch_norm_may_be_absent(path):
    trained, other = inverter(), inverter(seed=1)
    content = e4e_of(trained)
    del content["state_dict"]["encoder.norm.num_batches_tracked"]
    torch.save(content, path)
    other.load(read_e4e(path), path)
    assert_same(trained, other)


def test_an_average_code_may_be_one_row(path):
    other = inverter(seed=1)
    torch.save(e4e_of(inverter(), latent_avg=torch.arange(8.0)), path)
    other.load(read_e4e(path), path)
    assert torch.equal(other.latent_avg, torch.arange(8.0).expand(4, 8))


def test_without_an_average_code_offsets_mean_nothing(path):
    content = e4e_of(inverter())
    del content["latent_avg"]
    torch.save(content, path)
    told = r"weights.pt: latent_avg: expected the average code .* found none"
    with pytest.raises(ValueError, match=told):
        inverter().load(read_e4e(path), path)
    content["opts"]["start_from_latent_avg"] = False
    torch.save(content, path)
    other = inverter()
    other.load(read_e4e(path), path)
    assert not other.latent_avg.any()


@pytest.mark.parametrize(("average", "found"), [(torch.zeros(6, 8), r"\(6, 8\)"), ("text", "str")])
def test_another_average_code_is_refused(path, average, found):
    torch.save(e4e_of(inverter(), latent_avg=average), path)
    with pytest.raises(ValueError, match=f"latent_avg: expected 4 rows or one, found {found}"):
        inverter().load(read_e4e(path), path)


def test_another_style_count_is_one_line(path):
    torch.save(e4e_of(inverter(16)), path)
    told = "weights.pt: expected a style_count of 4, that of pictures of 8 px, found 6, of 16 px"
    with pytest.raises(ValueError, match=told) as error:
        inverter().load(read_e4e(path), path)
    assert "\n" not in str(error.value)
    torch.save({"g_ema": inverter(16).decoder.state_dict()}, path)
    with pytest.raises(ValueError, match=told):
        inverter().load_generator(path)


def test_a_key_too_few_and_one_too_many_are_listed(path):
    content = e4e_of(inverter())
    content["state_dict"]["decoder.extra"] = content["state_dict"].pop("decoder.input.input")
    torch.save(content, path)
    with pytest.raises(ValueError, match="missing decoder.input.input; unexpected decoder.extra"):
        inverter().load(read_e4e(path), path)


@pytest.mark.parametrize("load", [read_e4e, lambda path: inverter().load_generator(path)])
def test_files_that_are_no_weights(path, load):
    network = inverter()
    with pytest.raises(FileNotFoundError, match="weights.pt: expected a checkpoint with"):
        load(path)
    path.write_text("<!doctype html><html><body>Sign in</body></html>")
    with pytest.raises(ValueError, match=r"weights.pt: a web page \(HTML\).*get it again"):
        load(path)
    content = e4e_of(network) | {"g_ema": network.decoder.state_dict()}
    torch.save(content, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"weights.pt: a zip archive that is cut off"):
        load(path)
    torch.save({"model": {}}, path)
    with pytest.raises(ValueError, match=r"weights.pt: expected a checkpoint with .*\['model'\]"):
        load(path)
    mark = path.with_name("mark")
    torch.save(content | {"opts": Bomb(mark)}, path)
    with pytest.raises(ValueError, match="neither a tensor nor a plain value"):
        load(path)
    assert not mark.exists()


def test_a_generators_file_may_lack_noise_and_average(path):
    trained, other = inverter(), inverter(seed=1)
    state = trained.decoder.state_dict()
    old = {key: value for key, value in state.items() if not key.startswith("noises.")}
    torch.save({"g_ema": old, "args": Namespace(size=8)}, path)
    other.load_generator(path)
    average = trained.decoder.mean_latent(10_000)
    torch.testing.assert_close(other.latent_avg, average.expand(4, 8))
    codes = torch.randn(1, 4, 8)
    noise = trained.decoder.stored_noise()
    with torch.no_grad():
        torch.testing.assert_close(other.decoder(codes, noise), trained.decoder(codes, noise))
    del old["input.input"]
    torch.save({"g_ema": old}, path)
    with pytest.raises(ValueError, match="weights.pt: g_ema: .*missing input.input"):
        other.load_generator(path)


def test_the_trunk_starts_from_an_identity_network():
    network = inverter()
    network.encoder.input_layer, network.encoder.body = irse_trunk()
    stem, body = irse_trunk()
    state = {f"input_layer.{key}": value for key, value in stem.state_dict().items()}
    state |= {f"body.{key}": value for key, value in body.state_dict().items()}
    network.load_trunk(state | {"output_layer.3.bias": torch.zeros(512)})
    assert torch.equal(network.encoder.body[3].res_layer[1].weight, body[3].res_layer[1].weight)
    with pytest.raises(ValueError, match="backbone.pth: 1 keys .* missing input_layer.0.weight"):
        network.load_trunk(
            {k: v for k, v in state.items() if k != "input_layer.0.weight"}, "backbone.pth"
        )
