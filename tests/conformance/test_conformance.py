"""Every case below ``--conformance-dir`` through the adapter registered for its name."""

from pathlib import Path

from kit import find_adapter, load_adapters, load_case, not_covered, run_adapter

load_adapters(Path(__file__).resolve().parent / "adapters")


def test_case(case_folder):
    function = find_adapter(f"{case_folder.parent.name}/{case_folder.name}")
    if function is None:
        not_covered()
    run_adapter(function, load_case(case_folder))
