"""The report's part on 3-D face encoders."""

import json

import numpy as np
from PIL import Image

from regaze.report.encoders import encoder_section

QUALITY = {
    "list": "test",
    "landmark_px": 0.92,
    "landmark_percent": 1.44,
    "landmark_percent_mean": 7.1,
    "rotation_deg": 1.44,
    "rotation_deg_mean": 13.0,
    "psnr_db": None,
    "shape_correlation": [0.95, None, 0.46],
}


def record(folder, **content):
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(content))
    return folder / "model.json"


def test_measured_encoders_are_listed_with_their_sheet(tmp_path):
    measured = record(tmp_path / "deca", name="deca", quality=QUALITY)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "deca/quality.png")
    published = record(tmp_path / "published", name="published")
    unseen = record(tmp_path / "unseen", quality=QUALITY)
    section = encoder_section([measured, published, unseen])
    assert [row["name"] for row in section["rows"]] == ["deca", "unseen"]
    cells = section["rows"][0]["cells"]
    assert cells[:3] == [("0.92", ""), ("1.44", "7.10"), ("1.4", "13.0")]
    assert cells[3] == ("—", "—") and cells[4] == ("0.95, 0.46", "")
    assert len(section["columns"]) == len(cells)
    assert [sheet["name"] for sheet in section["sheets"]] == ["deca"]
    assert section["sheets"][0]["uri"].startswith("data:image/")


def test_no_section_without_measured_encoders(tmp_path):
    assert encoder_section([]) is None
    assert encoder_section([record(tmp_path / "a", name="a")]) is None
