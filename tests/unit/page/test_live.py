"""A model in the page makes the pictures that PyTorch makes, once more in a real browser."""

import re
import threading

import numpy as np
import pytest
import torch
from browser import CHROMIUM, opened
from page_command import ASKED, IRISES, READY, done

from regaze.page import bundle
from regaze.page.serve import page_server
from regaze.redirectors.sample import load_redirector

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
there = all((bundle.cache() / name).is_file() for name in bundle.FILES)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.skipif(not there, reason="onnxruntime-web was not fetched: regaze page --fetch"),
]


@pytest.fixture(scope="module")
def live(portrait, models, tmp_path_factory):
    """A page in which the model draws the portrait."""
    out = tmp_path_factory.mktemp("live") / "page.html"
    options = ("--models", models, "--source-gaze", "0", "0", "--precision", "fp32")
    done(portrait, *options, "--live", "--out", out)
    return out


def drawn(tab, x, y):
    """Ask by the pointer, wait until it is drawn, and see where the irises are."""
    tab.move(x, y)
    tab.wait(f'{ASKED} !== "" && !faces[0].busy && !faces[0].waiting')
    return tab.run(IRISES)


def test_a_double_click_is_enough(live, models):
    assert live.stat().st_size < 14e6
    with opened(live.as_uri()) as tab:
        tab.wait(READY)
        left, right = drawn(tab, 20, 400), drawn(tab, 900, 400)
        assert left[0] < right[0] - 2 and left[2] != right[2]
        # The model's own picture, in full, beside PyTorch's.
        told = tab.run(
            "({asked: faces[0].asked, made: [...faces[0].pictures], "
            "source: [...faces[0].source.source.data], gaze: faces[0].told.gaze, "
            "head: faces[0].told.head})"
        )
        redirector, record = load_redirector(models / "photo")
        size = record["config"]["size_px"]
        one = torch.tensor
        batch = {
            "source": one(told["source"]).reshape(1, 3, size, size),
            "source_gaze": one([told["gaze"]]),
            "source_head": one([told["head"]]),
            "source_row": one([-1]),
            "target_gaze": one([np.radians(told["asked"]).tolist()], dtype=torch.float32),
            "target_head": one([told["head"]]),
            "target_row": one([-1]),
            "pair": one([0]),
        }
        with torch.no_grad():
            wanted = redirector.redirect(batch, seed=0).flatten().numpy()
        assert np.abs(np.array(told["made"]) - wanted).max() < 1e-4
        assert np.abs(np.array(told["source"]) - wanted).max() > 0.1
        assert tab.errors == []
        assert all(re.match("file:|data:|blob:", where) for where in tab.requests)


def test_a_served_page_has_threads(live):
    server = page_server(live.read_bytes(), 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        own = f"http://127.0.0.1:{server.server_port}/"
        with opened(own + "?threads=2") as tab:
            tab.wait(READY)
            assert tab.run("crossOriginIsolated") and tab.run("ort.env.wasm.numThreads") == 2
            assert drawn(tab, 20, 400)[0] < drawn(tab, 900, 400)[0] - 2
            assert tab.errors == []
            assert all(re.match(f"{own}|data:|blob:", where) for where in tab.requests)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_webcam_takes_the_photo_s_place(live):
    fake = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with opened(live.as_uri(), more=fake) as tab:
        tab.wait(READY)
        tab.run('document.getElementById("webcam").click()')
        tab.wait('Number(document.querySelector("canvas").dataset.frames) > 2')
        assert "Put your eyes" in tab.run('document.getElementById("state").textContent')
        assert tab.errors == []


def test_without_a_webcam_the_page_says_so(live):
    with opened(live.as_uri()) as tab:
        tab.wait(READY)
        tab.run('document.getElementById("webcam").click()')
        tab.wait('document.getElementById("state").textContent.startsWith("No webcam")')
