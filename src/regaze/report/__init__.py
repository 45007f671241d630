"""What a run found, for a person to read: grids, sweeps, figures, the table and the page.

:func:`regaze.report.page.write_report` assembles everything; the other modules make its parts and
are usable alone (``grids`` and ``sweeps`` also write the picture files beside the samples).
"""
