"""What is in a file of this field: ``regaze inspect FILE``.

Files are recognised by what is in them, never by their names; nothing is executed or unpickled, and
memory is bounded by the number of persons, not by the size of the file.
"""

from __future__ import annotations

from regaze.inspection.findings import Findings, InspectError, Table
from regaze.inspection.look import inspect_file
from regaze.inspection.show import show

__all__ = ["Findings", "InspectError", "Table", "inspect_file", "show"]
