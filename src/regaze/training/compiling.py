"""Compiling a network for training, without changing the names of its weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from torch import nn

BACKEND = "REGAZE_COMPILE_BACKEND"
"""Environment variable that names another backend of torch.compile than inductor."""


def compile_network(network: nn.Module, cache: str | Path) -> None:
    """Let calls of ``network`` run compiled; compiling itself happens at the first one.

    Random numbers stay those of the uncompiled network. Shapes are fixed: another batch size
    compiles anew.

    Args:
        network: changed in place; its state dict keeps its names.
        cache: folder of compiled code, for later starts.

    Raises:
        RuntimeError: the network is on a GPU and triton is not installed.
    """
    backend = os.environ.get(BACKEND, "inductor")
    if backend == "inductor":
        if next(network.parameters()).device.type == "cuda" and not find_spec("triton"):
            raise RuntimeError(
                "train.compile: on a GPU it needs triton, which is not installed; `make gpu` "
                "installs it, or set train.compile: false"
            )
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(cache).resolve()))
        from torch._inductor import config

        config.fallback_random = True
    network.compile(dynamic=False, backend=backend)


@contextmanager
def uncompiled(network: nn.Module) -> Iterator[None]:
    """Run a network as it is, where other shapes and methods would only be compiled in vain."""
    compiled, network._compiled_call_impl = network._compiled_call_impl, None
    try:
        yield
    finally:
        network._compiled_call_impl = compiled


@contextmanager
def told() -> Iterator[None]:
    """Turn failures of the compiler into one error that says how to do without it.

    Raises:
        RuntimeError: the network could not be compiled.
    """
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2] if line.strip())
        raise RuntimeError(
            f"train.compile: the network could not be compiled here ({type(error).__name__}: "
            f"{reason}); set train.compile: false to train without"
        ) from error
