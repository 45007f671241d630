"""Every case below ``--conformance-dir`` through the adapter registered for its name."""

from pathlib import Path

import pytest
from kit import (
    NotCovered,
    find_adapter,
    is_built,
    load_adapters,
    load_case,
    not_covered,
    run_adapter,
)

load_adapters(Path(__file__).resolve().parent / "adapters")


def check(case_folder):
    """Run a case. One that nothing covers is skipped only as long as its system is not built."""
    function = find_adapter(f"{case_folder.parent.name}/{case_folder.name}")
    try:
        if function is None:
            not_covered()
        run_adapter(function, load_case(case_folder))
    except NotCovered as reason:
        end = pytest.fail if is_built(case_folder.parent.name) else pytest.skip
        end(f"not covered: {reason}")


def test_case(case_folder):
    check(case_folder)


@pytest.mark.parametrize(
    ("topic", "built"),
    [
        *((topic, True) for topic in ("sted", "xunet-diffusion", "face3d", "faze-preprocess")),
        *((topic, False) for topic in ("nothing", "nothing-sted")),
    ],
)
def test_a_case_without_an_adapter_fails_once_its_system_is_built(tmp_path, topic, built):
    (tmp_path / topic / "of a later release").mkdir(parents=True)
    end = pytest.fail if built else pytest.skip
    with pytest.raises(end.Exception, match="not covered: no adapter"):
        check(tmp_path / topic / "of a later release")


def test_a_case_that_its_adapter_does_not_understand_fails(tmp_path):
    folder = tmp_path / "xunet-diffusion/xunet-other"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"config": {"unheard_of": 1}, "state": {}}')
    with pytest.raises(pytest.fail.Exception, match="not covered: configuration keys unheard_of"):
        check(folder)
