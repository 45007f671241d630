"""How benchmarks tell the time."""

import time

import torch


def now(device: str) -> float:
    """Seconds: of the process on CPUs, which it may share; of the clock elsewhere."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
