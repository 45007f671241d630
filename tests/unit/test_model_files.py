"""Weights and records that are cut off or altered: the file and the remedy are named."""

import pytest
import torch
from safetensors.torch import save_file

from regaze.weights import read_record, read_weights

REMEDY = "if the workflow made it, delete it and run the same command again"


def test_weights_are_read_or_named(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(3)}, path)
    assert read_weights(path)["a"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"model.safetensors: not a readable .*{REMEDY}"):
        read_weights(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors"):
        read_weights(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"name": "m"', f"not a readable JSON file .*{REMEDY}"),
        (b'{"name": "\xff"}', f"not a readable JSON file .*{REMEDY}"),
        (b"[1]", "expected an object, found list"),
        (b"null", "expected an object, found NoneType"),
    ],
)
def test_records_are_read_or_named(tmp_path, content, words):
    path = tmp_path / "model.json"
    with pytest.raises(FileNotFoundError, match="model.json"):
        read_record(path)
    path.write_text('{"name": "m"}')
    assert read_record(path) == {"name": "m"}
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"model.json: {words}"):
        read_record(path)
