"""HeadNeRF's head model: its files, what is drawn of them, and the fit to a photo."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from regaze.face3d import nl3dmm_fit
from regaze.face3d.nl3dmm import FILES, load_nl3dmm
from regaze.face3d.nl3dmm_fit import fit_head, fit_square, read_fit, write_square

GRID = 21
IDEN, EXPR, TEXT = 5, 4, 3


def files(folder: Path) -> Path:
    """A dome of 441 vertices in the layout of the published files."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(0)
    line = np.linspace(-1, 1, GRID)
    x, y = np.meshgrid(line, line[::-1])
    mean = np.stack([80 * x, 100 * y, 60 * (1 - 0.5 * x**2 - 0.5 * y**2)], -1).reshape(-1)
    numbers, hidden = mean.size, 16
    net = {
        "decoder_nl3dmm_new.geo_fc2.weight": torch.randn(hidden, IDEN + EXPR) * 0.3,
        "decoder_nl3dmm_new.geo_fc2.bias": torch.zeros(hidden),
        "decoder_nl3dmm_new.geo_fc3.weight": torch.randn(numbers, hidden) * 4,
        "decoder_nl3dmm_new.geo_fc3.bias": torch.from_numpy(mean).float(),
    }
    torch.save(net, folder / FILES["shapes"])
    colours = {
        "mu_tex": 120 + 40 * np.tile(np.sin(np.arange(numbers // 3) / 9.0)[:, None], 3).ravel(),
        "b_tex": draws.normal(size=(TEXT, numbers)),
        "sig_tex": np.full(TEXT, 8.0),
        "sig_exp": np.ones(EXPR),
        "sig_id": np.ones(IDEN),
    }
    (folder / FILES["colours"]).write_bytes(pickle.dumps(colours))
    place = np.arange(GRID * GRID).reshape(GRID, GRID)
    quads = np.stack([place[:-1, :-1], place[1:, :-1], place[1:, 1:], place[:-1, 1:]], -1)
    quads = quads.reshape(-1, 4)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    np.savez(folder / FILES["topology"], fv_indices=triangles)
    rows = place[3:19:2]
    contour = np.concatenate([rows[:, :4], place[None, -1, 9:13], rows[::-1, -4:]])
    marks = {"contour_idx": contour, "inface_idx": draws.choice(place.size, 51, replace=False)}
    (folder / FILES["landmarks"]).write_bytes(pickle.dumps(marks))
    np.save(folder / FILES["skin"], np.ones(place.size))
    return folder


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    return load_nl3dmm(files(tmp_path / "headnerf"))


def drawn(model, side=48, iden=0.0, turn=(0.05, 0.2, 0.0)):
    """A head that is turned, wider and lit otherwise."""
    codes = [torch.zeros(1, size) for size in model.sizes]
    codes[0] += iden
    codes[2] += 0.5
    codes[3][:, :3] = 0.6
    rotation = torch.tensor([nl3dmm_fit._ROTATION]) @ nl3dmm_fit.head_rotation(torch.tensor([turn]))
    matrix = torch.diag(torch.tensor([2.03 * side, 2.03 * side, 1.0]))[None]
    matrix[:, :2, 2] = side // 2
    return model.draw(tuple(codes), rotation, torch.tensor([nl3dmm_fit._SHIFT]), matrix, side)


def test_sizes_and_a_picture(model):
    assert model.sizes == (IDEN, EXPR, TEXT, 27)
    with torch.no_grad():
        seen = drawn(model)
    assert 0.2 < seen.mask.float().mean() < 0.8
    assert seen.image[~seen.mask.expand(1, 3, -1, -1)].max() == 0
    assert seen.landmarks.shape == (1, 68, 2)
    # The contour is the outermost of its candidates: of a plane grid its very sides.
    left, right = seen.landmarks[0, :8, 0], seen.landmarks[0, 9:17, 0]
    assert left.max() < seen.landmarks[0, 8, 0] < right.min()
    assert (seen.landmarks[0, :17, 1].diff().sign()[[0, -1]] == torch.tensor([1.0, -1.0])).all()


def test_a_fit_finds_what_was_drawn(model):
    with torch.no_grad():
        seen = drawn(model, iden=0.4)
    losses = []
    found = fit_head(
        model, seen.image[0], seen.landmarks[0], scale=0.5, stages=((15, 100.0), (25, 25.0)),
        told=lambda step, loss: losses.append(loss),
    )  # fmt: skip
    assert len(losses) == 40 and losses[14] < 0.5 * losses[0] and losses[-1] < 0.5 * losses[15]
    assert found.code.shape == (sum(model.sizes),)
    assert torch.allclose(found.c2w_Rmat @ found.w2c_Rmat, torch.eye(3), atol=1e-3)
    assert torch.allclose(found.w2c_Rmat @ found.c2w_Tvec, -found.w2c_Tvec, atol=1e-3)
    assert torch.allclose(found.inmat @ found.inv_inmat, torch.eye(3), atol=1e-4)
    assert found.inmat[0, 2] == 48 and found.inmat[0, 0] == pytest.approx(2.03 * 96)


def test_files_of_a_fit_come_back(tmp_path, model, monkeypatch):
    with torch.no_grad():
        seen = drawn(model, side=64)
    square = (seen.image[0].permute(1, 2, 0) * 255).byte().numpy()
    marks = seen.landmarks[0].double().numpy()
    monkeypatch.setattr(nl3dmm_fit, "STAGES", ((2, 1.0),))
    made = fit_square(model, square, marks, 32)
    assert made.inmat[0, 2] == 32
    paths = write_square(tmp_path / "out", "somebody", square, marks, made)
    assert [one.name for one in paths] == [f"somebody{end}" for end in ENDS]
    again = read_fit(paths[2], sum(model.sizes))
    for name, value in vars(made).items():
        assert torch.equal(getattr(again, name), value), name
    assert np.loadtxt(paths[1]).shape == (136,)
    # HeadNeRF's own programs unpickle it.
    assert set(pickle.loads(paths[2].read_bytes())) == set(vars(made))


ENDS = (".png", "_lm2d.txt", "_nl3dmm.pkl")


def test_what_cannot_be_fitted(model):
    picture, marks = torch.zeros(3, 32, 40), torch.zeros(68, 2)
    with pytest.raises(ValueError, match=r"photo: expected a square one, found \(32, 40\) pixels"):
        fit_head(model, picture, marks)
    with pytest.raises(ValueError, match="landmarks: expected 68 finite points"):
        fit_head(model, picture[..., :32], marks * float("nan"))


def broken(folder, name, change):
    path = folder / FILES[name]
    content = pickle.loads(path.read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / FILES["skin"]).unlink(), "expected nl3dmm_dict.pkl, .* found no skinmask"),
        (lambda f: np.save(f / FILES["skin"], np.ones(7)), r"skinmask.npy: expected 441 numbers"),
        (lambda f: broken(f, "colours", lambda c: c.pop("mu_tex")), "mu_tex: expected numbers"),
        (
            lambda f: broken(f, "colours", lambda c: c.update(b_tex=np.ones((2, 9)))),
            r"b_tex: expected shape \(3, 1323\), found \(2, 9\)",
        ),
        (
            lambda f: broken(f, "landmarks", lambda c: c["inface_idx"].fill(900)),
            "inface_idx: expected numbers of 441 vertices, found 900 to 900",
        ),
        (
            lambda f: torch.save({"a": torch.ones(2)}, f / FILES["shapes"]),
            r"nl3dmm_net_dict.pth: expected one tensor \*.geo_fc2.weight",
        ),
    ],
)
def test_files_that_cannot_be_used(tmp_path, change, message):
    folder = files(tmp_path / "headnerf")
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_nl3dmm(folder)


class Bomb:
    """What a pickle could do."""

    def __reduce__(self):
        return (Path.touch, (Path("bomb"),))


def test_nothing_in_a_fit_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a_nl3dmm.pkl"
    path.write_bytes(pickle.dumps({"code": Bomb()}))
    with pytest.raises(ValueError, match="not in the allow-list"):
        read_fit(path)
    assert not Path("bomb").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"code": torch.ones(5)}, r"code: expected numbers \(306,\), found \(5,\)"),
        ({"w2c_Rmat": torch.ones(2, 3)}, r"w2c_Rmat: expected numbers \(3, 3\), found \(2, 3\)"),
        ({"w2c_Tvec": torch.full((3,), float("nan"))}, "w2c_Tvec: expected finite numbers"),
    ],
)
def test_fits_that_cannot_be_used(tmp_path, change, message):
    matrices = dict.fromkeys(nl3dmm_fit.MATRICES, torch.eye(3))
    content = {"code": torch.ones(306)} | matrices
    content |= dict.fromkeys(nl3dmm_fit.VECTORS, torch.ones(3)) | change
    path = tmp_path / "a_nl3dmm.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_fit(path, 306)
