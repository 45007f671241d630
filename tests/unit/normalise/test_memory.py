"""The memory of a faces job does not depend on how many persons it is given."""

import subprocess
import sys

import cv2
import numpy as np

PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np
from regaze.normalise.pipeline import normalise_shard
from regaze.sources.records import PersonRecords

ROWS = 6
root, out, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
pose = np.tile([0.0, 0.1, 0.0, 0.0, -30.0, 500.0], (ROWS, 1))


class Many:
    kind = "many"

    def read(self, person):
        names = tuple(["photo.jpg"] * (ROWS - 1) + ["absent.jpg"])
        return PersonRecords(
            root=root, person=person, file_name=names, head_pose=pose,
            camera_parameters=np.tile([60.0, 60.0, 32.0, 24.0], (ROWS, 1)),
            distortion=np.full((ROWS, 5), 0.001), gaze_target=np.zeros((ROWS, 3)),
            landmarks=np.full((ROWS, 68, 2), 20.0),
        )


persons = [f"{number:05d}" for number in range(count)]
counts = normalise_shard(
    Many(), persons, out / "faces.h5", out / "rejected.parquet",
    frame_check="none", patch_size=32, threads=2,
)
assert (counts.rows_in, counts.rows_out) == (count * ROWS, count * (ROWS - 1))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_peak_memory_is_that_of_a_few_persons(tmp_path):
    photo = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "photo.jpg"), photo)
    peaks = {}
    for count in (10, 400):
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(tmp_path), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[count] = int(done.stdout) / 1024
    # The 390 persons more are 14 MB in the faces file and as much again on the way there.
    assert peaks[400] - peaks[10] < 14, f"peak memory in MB by number of persons: {peaks}"
