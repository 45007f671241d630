"""Configuration files for commands: layered as Snakemake layers them, faults named."""

import pytest

from regaze.configfiles import merge, read_config
from regaze.settings import ConfigurationError


def test_mappings_are_merged_key_by_key_and_all_else_is_replaced(tmp_path):
    below, above, empty = (tmp_path / f"{name}.yaml" for name in ("below", "above", "empty"))
    below.write_text("a: {b: 1, c: {d: [1, 2]}}\ne: {f: 1}\ng: 1")
    above.write_text("a: {c: {d: [3]}}\ne: null\ng: {h: 2}")
    empty.write_text("# nothing yet")
    found = read_config([below, empty, str(above)])
    assert found == {"a": {"b": 1, "c": {"d": [3]}}, "e": None, "g": {"h": 2}}
    assert read_config([]) == read_config([empty]) == {}


def test_what_lies_above_is_left_as_it_was():
    below, above = {"a": {"b": 1}}, {"a": {"c": 2}}
    merge(below, above)
    assert below == {"a": {"b": 1, "c": 2}} and above == {"a": {"c": 2}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "expected YAML, found: .*No such file"),
        (b"a: [1", "expected YAML, found: while parsing a flow sequence"),
        (b"a: \xff", "expected YAML, found: .*can't decode byte 0xff"),
        (b"- 1", "expected a mapping, found list"),
        (b"text", "expected a mapping, found str"),
    ],
)
def test_files_that_are_no_configuration_are_named(tmp_path, content, words):
    path = tmp_path / "own.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"own.yaml: {words}"):
        read_config([path])
