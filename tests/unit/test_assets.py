"""Assets: what is there, what is missing, what is wrong, and downloads that must be verified."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from regaze import assets
from regaze.assets import KNOWN, Asset, AssetError, AssetSettings, check, fetch, missing, require

CONTENT = b"weights" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    """Address of a server on this machine: /file, /short (cut off), /to (redirects), else 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path in ("/file", "/short"):
                self.send_response(200)
                self.send_header("Content-Length", str(len(CONTENT)))
                self.end_headers()
                self.wfile.write(CONTENT if self.path == "/file" else CONTENT[:99])
            elif self.path == "/unsized":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(CONTENT)
            elif self.path.startswith("/to?"):
                self.send_response(302)
                self.send_header("Location", self.path[4:])
                self.end_headers()
            else:
                self.send_error(404)

        def log_message(self, *_):
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def known(monkeypatch, server):
    """One asset of which the server has the right file."""

    def make(**changes):
        values = {"file_name": f"toy-{SHA[:10]}.pth", "url": f"{server}/file"} | changes
        asset = Asset(name="toy", purpose="tests", licence="none", how="ask for it", **values)
        monkeypatch.setattr(assets, "KNOWN", {"toy": asset})
        return asset

    make()
    return make


def get(path, **options):
    return fetch("toy", path, schemes=("http",), **options)


def nothing_left(folder):
    return list(folder.iterdir()) == []


def test_present_missing_wrong(known, tmp_path):
    path = tmp_path / "toy.pth"
    assert check("toy", path).state == "missing"
    path.write_bytes(CONTENT)
    state = check("toy", path)
    assert state.state == "present" and f"beginning with {SHA[:10]}" in state.detail
    assert require("toy", path) == path
    path.write_bytes(CONTENT + b"!")
    assert check("toy", path).state == "wrong"
    own = hashlib.sha256(CONTENT + b"!").hexdigest()
    assert check("toy", path, own).state == "present"
    assert check("toy", path, SHA).state == "wrong"


def test_a_missing_asset_tells_how_to_get_it(known, tmp_path):
    path = tmp_path / "somewhere" / "toy.pth"
    with pytest.raises(AssetError) as caught:
        require("toy", path)
    for part in ("assets.toy", str(path), "tests", "ask for it"):
        assert part in str(caught.value)
    assert missing("toy", path) == str(caught.value)


def test_a_wrong_asset_tells_both_checksums(known, tmp_path):
    path = tmp_path / "toy.pth"
    path.write_bytes(b"other")
    with pytest.raises(AssetError) as caught:
        require("toy", path)
    for part in (SHA[:10], hashlib.sha256(b"other").hexdigest()[:10], "assets.toy.sha256"):
        assert part in str(caught.value)
    assert missing("toy", path) == ""


def test_a_folder_is_no_asset(known, tmp_path):
    assert check("toy", tmp_path).state == "missing"


def test_unknown_asset(tmp_path):
    with pytest.raises(AssetError, match="expected one of face_alignment_landmarks"):
        check("nothing", tmp_path / "x")


def test_fetch_verifies_and_names(known, tmp_path, server):
    path = tmp_path / "below" / "toy.pth"
    assert get(path) == path
    assert path.read_bytes() == CONTENT
    known(url=f"{server}/gone")
    assert get(path) == path, "a right file is not fetched again"
    for address in ("/unsized", f"/to?{server}/file"):
        path.unlink()
        get(path, url=server + address)
        assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "changes, options, message",
    [
        ({"file_name": "toy-0123456789.pth"}, {}, "expected SHA-256 beginning with 0123456789"),
        ({"sha256": "0" * 64}, {}, "expected SHA-256 0000"),
        ({}, {"sha256": "1" * 64}, "expected SHA-256 1111"),
        ({"url": None}, {}, "cannot be downloaded"),
        ({"file_name": "toy.pth"}, {}, "sha256: needed"),
        ({}, {"most_bytes": 99}, "at most 99 bytes, found 7000"),
    ],
)
def test_nothing_is_left_of_a_bad_download(known, tmp_path, changes, options, message):
    known(**changes)
    with pytest.raises(AssetError, match=message):
        get(tmp_path / "toy.pth", **options)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    "address, message",
    [
        ("/gone", "Not Found"),
        ("/short", "expected 7000 bytes, found 99|download failed"),
        ("/unsized", "found more"),
        ("/to?ftp://127.0.0.1/file", "expected http"),
        ("/to?file:///etc/hostname", "not allowed"),
    ],
)
def test_bad_answers(known, tmp_path, server, address, message):
    options = {"most_bytes": 99} if address == "/unsized" else {}
    with pytest.raises(AssetError, match=message):
        get(tmp_path / "toy.pth", url=server + address, **options)
    assert nothing_left(tmp_path)


def test_only_https_by_default(known, tmp_path, server):
    for url in (f"{server}/file", "file:///etc/hostname", "nonsense"):
        with pytest.raises(AssetError, match="expected https"):
            fetch("toy", tmp_path / "toy.pth", url=url)


def test_a_wrong_file_in_the_way_is_kept(known, tmp_path):
    path = tmp_path / "toy.pth"
    path.write_bytes(b"mine")
    with pytest.raises(AssetError, match="in the way"):
        get(path)
    assert path.read_bytes() == b"mine"


def test_the_known_assets_are_consistent():
    for name, asset in KNOWN.items():
        assert asset.name == name
        digits = asset.file_name.split("-")[-1].split(".")[0]
        assert asset.checksum.startswith(digits) and len(digits) >= 8
        if asset.url is not None:
            assert asset.url.startswith("https://") and asset.url.endswith(asset.file_name)
            assert len(asset.sha256) == 64
    settings = AssetSettings()
    assert set(AssetSettings.model_fields) == set(KNOWN)
    assert settings.face_alignment_detector.path.endswith("s3fd-619a316812.pth")


def test_without_a_checksum_any_file_is_present_and_its_own_is_told(known, tmp_path):
    known(file_name="toy.pth")
    (tmp_path / "toy.pth").write_bytes(CONTENT)
    state = check("toy", tmp_path / "toy.pth")
    assert state.state == "present"
    assert state.detail == f"SHA-256 {SHA}, nothing to compare it with"
