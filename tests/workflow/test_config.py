"""What --config says is what the same words say in a file."""

import re

import pytest
from running import planned, snakemake

CHANGES = {
    "models": "{sted: null, xunet: {network: {frames: 1}, train: {transfer: null, lr: 1e-05}}}",
    "capture": "{head_model: null}",
    "identity": "null",
}


def test_config_of_the_command_line_is_that_of_a_file(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("\n".join(f"{key}: {value}" for key, value in CHANGES.items()))
    given = [f"{key}={value}" for key, value in CHANGES.items()]
    told = snakemake(tmp_path, "-n", "--config", *given)
    written = snakemake(tmp_path, "-n", overlays=[file])
    assert planned(told) == planned(written)
    assert "train_identity" not in planned(told) and "results/models/sted" not in told.stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("capture={head_model: 'null'}", "capture.head_model: null: no such file"),
        ("dataset=123", "dataset: Input should be a valid string, found 123; text .* quotes"),
        ("seed='010'", "seed: expected a number without leading zeros, found '010'"),
        ("models={sted: {}", "--config models={sted: {}: expected YAML, .*--configfile"),
    ],
)
def test_what_config_cannot_mean_is_refused(tmp_path, given, message):
    done = snakemake(tmp_path, "-n", "--config", given)
    assert done.returncode != 0
    assert re.search(message, done.output, re.DOTALL), done.output
