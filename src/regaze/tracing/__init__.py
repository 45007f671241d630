"""Where results came from: ``regaze provenance``, by the records of :mod:`regaze.provenance`."""
