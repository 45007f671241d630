"""Commands of ``regaze`` with many options; the others are in :mod:`regaze.cli`."""
