"""Videos: reading and writing them, following faces in them, smoothing what is measured."""
