"""Redirection methods, a folder each; see :mod:`regaze.redirectors.base` for their contract.

Importing this package is cheap: configurations are checked without torch.
"""

from pathlib import Path


def methods() -> list[str]:
    """Names of the method folders, those with a ``settings.py``, on this package's path."""
    return sorted(
        {path.parent.name for root in __path__ for path in Path(root).glob("*/settings.py")}
    )
