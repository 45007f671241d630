"""Where Snakemake looks for ``--logger regaze``; see :mod:`regaze.progress.live`."""

from regaze.progress.live import LogHandler

__all__ = ["LogHandler"]
