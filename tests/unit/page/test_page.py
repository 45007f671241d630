"""Pages in a real browser: the pointer moves, the irises go along, no other host is asked."""

import json
import re
import socket
import threading

import numpy as np
import pytest
from browser import CHROMIUM, opened
from page_command import ASKED, IRISES, READY, done, refused

from regaze.page import bundle
from regaze.page.serve import page_server

browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def atlas(portrait, models, tmp_path_factory):
    """An atlas of the portrait, and what the command said."""
    out = tmp_path_factory.mktemp("atlas") / "page.html"
    options = ["--models", models, "--source-gaze", "0", "0", "--reach", "15", "20"]
    return out, done(portrait, *options, "--cells", "5", "--out", out)


@browser
def test_the_irises_follow_the_pointer(atlas):
    page, told = atlas
    assert "25 directions, measured off by" in told
    with opened(page.as_uri()) as tab:
        tab.wait(READY)
        box = tab.run(
            '(() => { const b = document.querySelector("canvas").getBoundingClientRect();'
            "return [b.left, b.top, b.width, b.height]; })()"
        )
        left, top, width, height = box
        seen = {}
        for name, x, y in (
            ("left", left + 2, top + 0.4 * height),
            ("right", left + width - 2, top + 0.4 * height),
            ("up", left + width / 2, max(top, 2)),
            ("down", left + width / 2, top + height - 2),
        ):
            tab.move(x, y)
            tab.wait(f'{ASKED} !== ""')
            seen[name] = tab.run(IRISES)
            seen[f"{name} asked"] = [float(one) for one in tab.run(ASKED).split()]
        # Picture left is yaw positive, up is pitch positive, and irises lie where they look.
        assert seen["left asked"][1] > 5 and seen["right asked"][1] < -5
        assert seen["up asked"][0] > 3 and seen["down asked"][0] < -5
        assert seen["left"][0] < seen["right"][0] - 3
        assert seen["up"][1] < seen["down"][1] - 2
        assert len({seen[name][2] for name in ("left", "right", "up", "down")}) == 4
        assert tab.errors == []
        assert all(re.match("file:|data:|blob:", one) for one in tab.requests), tab.requests


@browser
def test_keys_buttons_and_what_is_read_aloud(atlas):
    page, _ = atlas
    label = 'document.querySelector("canvas").getAttribute("aria-label")'
    corner = 'document.querySelector(".corner")'
    with opened(page.as_uri()) as tab:
        tab.wait(READY)
        assert tab.run(label) == "portrait, as in the photo" and tab.run(f"{corner}.hidden")
        tab.run('document.querySelector("canvas").focus()')
        tab.press("ArrowLeft", 37)
        tab.press("ArrowUp", 38)
        assert tab.run(ASKED) == "7.50 10.00"
        assert tab.run(label) == (
            "portrait, looking 8 degrees up and 10 degrees to the left of the picture"
        )
        for _ in range(5):
            tab.press("ArrowRight", 39)
        assert tab.run(ASKED) == "7.50 -20.00"
        tab.press("0", 48)
        assert tab.run(ASKED) == "0.00 0.00"
        tab.press("m", 77)
        assert not tab.run(f"{corner}.hidden") and "measured" in tab.run(f"{corner}.textContent")
        tab.run("document.querySelector('button[data-do=source]').click()")
        assert tab.run(label) == "portrait, as in the photo"
        assert tab.errors == []


@browser
def test_motion_is_reduced_where_that_is_wished(atlas):
    page, _ = atlas
    with opened(page.as_uri(), reduced=True) as tab:
        tab.wait(READY)
        tab.move(300, 300)
        assert tab.run(ASKED) == "" and not tab.run('document.getElementById("still").hidden')
        for kind in ("mousePressed", "mouseReleased"):
            tab.move(300, 300, kind)
        assert tab.run(ASKED) != ""


@browser
def test_a_finger_moves_the_face_on_a_narrow_screen(atlas):
    page, _ = atlas
    with opened(page.as_uri(), (360, 700)) as tab:
        tab.call("Emulation.setTouchEmulationEnabled", enabled=True)
        tab.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": 360, "height": 700, "deviceScaleFactor": 2, "mobile": True},
        )
        tab.wait(READY)
        assert tab.run("document.documentElement.scrollWidth") <= 360
        tab.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": 30, "y": 400}])
        tab.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=[{"x": 40, "y": 400}])
        assert float(tab.wait(ASKED).split()[1]) > 3
        tab.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        assert tab.errors == []


def test_an_atlas_is_one_small_file_that_names_no_other_host(atlas):
    page, _ = atlas
    text = page.read_text(encoding="utf-8")
    assert len(text) < 5e6
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "http://" not in text and "https://" not in text
    told = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    (face,) = told["faces"]
    assert np.shape(face["used"]) == np.shape(face["measured"]) == (25, 2)
    # Rows from up to down, columns from the picture's left to its right.
    assert face["used"][0] == [15.0, 20.0] and face["used"][24] == [-15.0, -20.0]


@browser
def test_names_are_text_and_never_code(portrait, models, tmp_path):
    name = "a<script>boom()</script>&\"'.png"
    try:
        (tmp_path / name.replace("/", "_")).write_bytes(portrait.read_bytes())
    except OSError:
        pytest.skip("this file system has no such names")
    out = tmp_path / "page.html"
    done(tmp_path, "--models", models, "--source-gaze", "0", "0", "--cells", "3", "--out", out)
    with opened(out.as_uri()) as tab:
        tab.wait(READY)
        assert "<script>boom()" in tab.run("document.title") and tab.errors == []


def test_bad_input(portrait, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    common, out = ("--models", models), ("--out", "page.html")
    assert "out: expected a file to write, or --serve" in refused(portrait, *common)
    assert "cells: expected an odd number" in refused(portrait, *common, *out, "--cells", "4")
    assert "reach: expected" in refused(portrait, *common, *out, "--reach", "0", "50")
    assert "expected --live" in refused(portrait, *common, *out, "--fetch")
    assert "found a folder" in refused(portrait, *common, "--out", tmp_path)
    assert "nobody.jpg: expected a photo" in refused("nobody.jpg", *common, *out)
    blank = tmp_path / "blank.png"
    from PIL import Image

    Image.new("RGB", (200, 200), "grey").save(blank)
    assert "blank.png" in refused(blank, *common, *out)
    assert "regaze page" not in refused(portrait, *common, *out, "--model", "nothing")
    told = refused(portrait, *common, *out, "--live")
    assert "ort.wasm.bundle.min.mjs: expected a file of onnxruntime-web" in told
    (tmp_path / "mine").mkdir()
    for name in bundle.FILES:
        (tmp_path / "mine" / name).write_bytes(b"another")
    told = refused(portrait, *common, *out, "--live", "--runtime", tmp_path / "mine")
    assert "expected the file of onnxruntime-web 1.30.0, SHA-256" in told
    assert sorted(one.name for one in tmp_path.iterdir()) == ["blank.png", "mine"]
    (tmp_path / "page.html").write_text("mine")
    assert "--overwrite" in refused(portrait, *common, *out)
    assert (tmp_path / "page.html").read_text() == "mine"


def test_a_port_in_use_is_told_before_anything_is_made(portrait, models):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused(portrait, "--models", models, "--serve", "--port", port)
    assert f"found {port} in use" in told


def test_npm_that_fails_leaves_nothing(tmp_path, monkeypatch):
    tool = tmp_path / "bin" / "npm"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'no such package' >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="failed: no such package"):
        bundle.open_bundle(fetch=True)
    assert not bundle.cache().exists()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="expected npm"):
        bundle.open_bundle(fetch=True)


def test_the_server_has_the_headers_that_threads_need():
    import urllib.error
    import urllib.request

    server = page_server(b"<p>", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/"
        with urllib.request.urlopen(address) as answer:
            assert answer.read() == b"<p>"
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address + "etc/passwd")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
