"""The configuration of files and of --config: one meaning, Snakemake's layers, faults named."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from regaze.configfiles import merge, read_arguments, read_config
from regaze.settings import ConfigurationError, load_settings

DEFAULT = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text())
SCALARS = ["1", "'1'", "-2", "1.5", ".5", "1e-05", "1e-5", "1e3", "1_000", "0x10", "010", "'010'"]
SCALARS += ["1:30", ".inf", "2020-01-01", "'2020-01-01'", "true", "'true'", "off", '"on"', "y"]
SCALARS += ["null", "'null'", "~", '"~"', "", "''", "None", "none", "mine", "'a b'", "all"]
NESTED = ["[]", "[1, '1', null, 'null', 1e-05]", "[[0.5, off], {a: 1}]", "{}", "{a: {b: '1'}}"]


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


@pytest.mark.parametrize("value", [{}, {"b": {}}, {"b": 1}, 1, None, [1]])
@pytest.mark.parametrize("lower", [{}, {"a": {"b": 2}}, {"a": 1}, {"a": None}, {"a": [1]}])
def test_layers_are_those_of_snakemake(lower, value):
    from snakemake.utils import update_config

    ours, theirs = copy.deepcopy(lower), copy.deepcopy(lower)
    merge(ours, {"a": value})
    update_config(theirs, {"a": value})
    assert ours == theirs


def parsed(*arguments):
    """The default with ``--config``, as Snakemake and then the Snakefile merge it."""
    from snakemake.cli import parse_config
    from snakemake.utils import update_config

    config = copy.deepcopy(DEFAULT)
    update_config(config, parse_config(list(arguments)))
    merge(config, read_arguments(arguments))
    return config


def overlaid(text):
    config = copy.deepcopy(DEFAULT)
    merge(config, yaml.safe_load(text))
    return config


def leaves(value, write):
    """A mapping in flow style, with ``write`` of each of its leaves."""
    if not isinstance(value, dict):
        return write(value)
    inner = (f"{json.dumps(key)}: {leaves(item, write)}" for key, item in value.items())
    return f"{{{', '.join(inner)}}}"


@pytest.mark.parametrize("form", [*SCALARS, *NESTED])
def test_every_leaf_means_the_same_in_an_argument_as_in_a_file(form):
    written = {key: leaves(value, lambda _: form) for key, value in DEFAULT.items()}
    arguments = [f"{key}={text}" for key, text in written.items()]
    file = "\n".join(f"{key}: {text}" for key, text in written.items())
    # Unlike ==, repr tells 1 from 1.0 and True.
    assert repr(parsed(*arguments)) == repr(overlaid(file))


def test_the_default_written_as_arguments_is_the_default():
    def plain(value):
        return yaml.safe_dump(value, default_flow_style=True, width=10**6).split("\n...")[0].strip()

    arguments = [f"{key}={leaves(value, plain)}" for key, value in DEFAULT.items()]
    assert load_settings(parsed(*arguments)) == load_settings(DEFAULT)


@pytest.mark.parametrize(
    ("argument", "path", "value"),
    [
        ("models={xunet: {network: {frames: 1}}}", "models.xunet.network.frames", 1),
        ("models={xunet: {train: {transfer: null}}}", "models.xunet.train.transfer", None),
        ("models={xunet: {train: {lr: 1e-05}}}", "models.xunet.train.lr", 1e-5),
        ("models={xunet: {train: {betas: [.5, 1e-5]}}}", "models.xunet.train.betas", (0.5, 1e-5)),
        ("capture={head_model: null}", "capture.head_model", None),
        ('capture={head_model: "null"}', "capture.head_model", "null"),
        ("augmentation={images: null, counts: [100, all]}", "augmentation.counts", [100, "all"]),
        ("landmarks={fetch: yes}", "landmarks.fetch", True),
        ("evaluation={remove_background: true}", "evaluation.remove_background", True),
        ("sampling={batch: auto}", "sampling.batch", "auto"),
        ("identity=null", "identity", None),
        ("identity=", "identity", None),
        ("seed=010", "seed", 8),
    ],
)
def test_arguments_are_read_as_files_are(argument, path, value):
    here = load_settings(parsed(argument))
    for part in path.split("."):
        here = here[part] if isinstance(here, dict) else getattr(here, part)
    assert here == value and type(here) is type(value)


def test_names_of_digits_and_reserved_words_are_taken_in_quotes():
    entry = "{source: folder, root: x, person: 'null'}"
    text = f"'123': {entry}, 'off': {entry}"
    config = parsed(f"datasets={{{text}}}", "dataset='123'", "evaluation={datasets: ['off']}")
    settings = load_settings(config)
    assert settings.evaluated == ["123", "off"] and settings.datasets["off"].person == "null"
    assert settings == load_settings(
        overlaid(f"datasets: {{{text}}}\ndataset: '123'\nevaluation: {{datasets: ['off']}}")
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("dataset=123", "dataset: .*found 123; text .* needs quotes"),
        ("dataset=off", "dataset: .*found False; text .* needs quotes"),
        ("dataset=null", "dataset: .*found None; text .* needs quotes"),
        ("evaluation={datasets: [123]}", r"evaluation.datasets.0: .*found 123; .* needs quotes"),
        ("datasets={123: {source: folder, root: x}}", "datasets.123: .*found 123; .* needs quotes"),
        ("models={null: {class: sted}}", "models.None: .*found None; text .* needs quotes"),
        ("datasets={synthetic: {1: 2}}", "synthetic.1: Keys should be strings, found 1"),
        ("models={sted: {1: 2}}", "sted.1: Keys should be strings, found 1"),
        ("models={xunet: {network: {frames: '1'}}}", "frames: Input should be 1 or 2, found '1'"),
        ("resources={rules: {on: {mem_mb: 1}}}", "resources.rules.*found True; .* needs quotes"),
        ("augmentation={images: 'null'}", "augmentation.images: .*found 'null'"),
        # `dvc exp run -S seed=010` writes it in quotes.
        ("seed='010'", "seed: .* leading zeros, found '010', which is 10 to some .* and 8 to"),
        ("models={xunet: {train: {lr: '010'}}}", "models.xunet.train.lr: .* which is 10.0 to some"),
        ("augmentation={seeds: ['0', '010']}", "augmentation.seeds.1: .*found '010'"),
    ],
)
def test_what_may_be_meant_otherwise_is_refused(argument, message):
    key, _, value = argument.partition("=")
    for config in (parsed(argument), overlaid(f"{key}: {value}")):
        with pytest.raises(ConfigurationError, match=message):
            load_settings(config)


@pytest.mark.parametrize("argument", ["models={a: [1}", "seed=2020-99-99", "dataset=@mine"])
def test_an_argument_that_is_no_yaml_is_quoted_and_told_of_files(argument):
    with pytest.raises(ConfigurationError, match=r"(?s)--config .*: expected YAML.*--configfile"):
        read_arguments([argument])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"seed: 2020-99-99", "expected YAML, found: month must be in 1..12"),
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
