"""One HDF5 of patches as ``swook/faze_preprocess`` writes it: GazeCapture.h5, MPIIGaze.h5."""

import h5py
import numpy as np

from captures import gazecapture


def faces_hdf5(path, people=None, *, channel_order="rgb", attribute=False, variant="sted"):
    """Write the file; returns person -> list of shots.

    Args:
        path: of the file.
        people: person -> list of shots; default those of GazeCapture.
        channel_order: ``rgb``, or ``bgr`` as in ST-ED's files of Columbia and EYEDIAP.
        attribute: whether the file says so, which upstream's do not.
        variant: ``sted``, 128 x 128 and eight labels, or ``faze``, 64 x 256 and four.
    """
    if people is None:
        everybody = gazecapture.frames().items()
        people = {person: [frame.shot for frame in rows] for person, rows in everybody}
    with h5py.File(path, "w") as file:
        if attribute:
            file.attrs["channel_order"] = channel_order
        for person, shots in people.items():
            labels = np.radians([shot.labels() for shot in shots]).astype(np.float32)
            pixels = np.stack([shot.patch(128, 500.0, 600.0) for shot in shots])
            if variant == "faze":
                # the strip's own camera is of no matter here: only shape and labels are read
                labels, pixels = labels[:, :4], np.repeat(pixels[:, 16:80], 2, axis=2)
            if channel_order == "bgr":
                pixels = pixels[..., ::-1]
            group = file.create_group(person)
            for name, values in (("pixels", pixels), ("labels", labels)):
                chunk = (1, *values.shape[1:])
                group.create_dataset(name, data=values, chunks=chunk, compression="lzf")
    return people
