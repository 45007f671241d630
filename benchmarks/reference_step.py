"""Steps of the published network: the plain way of its port against ours, on a CPU or a GPU.

    OMP_NUM_THREADS=1 python benchmarks/reference_step.py                 # CPU, one thread, 64 px
    python benchmarks/reference_step.py --device cuda --batch 32          # one GPU

Both ways use the same weights in the same process and take turns. ``training`` is forward,
backward and the optimiser's step; ``sampling`` a guided step, that is a conditional and an
unconditional evaluation. Outputs and gradients are compared first (dropout 0, float32). On a GPU
ours is timed in float32, with TF32, and in bfloat16 as it trains by default, and compiled; the
plain way in float32, which is all the port knows, and with TF32. Medians of the repeats: process
CPU seconds on a CPU, so that other work on the machine counts little, events on a GPU.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from contextlib import nullcontext

import plain_port
import torch
from xunet_step import batch_of, wake

from regaze.redirectors.xunet.network import XUNet, XUNetConfig


def seconds(function, repeats: int, device: str) -> list[float]:
    """Seconds of every call after one to warm up."""
    function()
    found = []
    for _ in range(repeats):
        if device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            end.record()
            torch.cuda.synchronize()
            found.append(start.elapsed_time(end) / 1e3)
        else:
            began = time.process_time()
            function()
            found.append(time.process_time() - began)
    return found


def relative(found, expected) -> float:
    """Norm of the difference over the norm of what is expected."""
    return float((found - expected).norm() / expected.norm())


def training_step(forward, model, batch, mask, optimiser, precision: str):
    """A function that trains one step."""
    device = batch["x"].device.type
    noise = torch.randn_like(batch["z"])

    def step():
        low = precision == "bf16"
        with torch.autocast(device, torch.bfloat16) if low else nullcontext():
            out = forward(model, batch, mask)
        (out.float() - noise).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def to_format(model, memory_format) -> None:
    """Lay out the weights of convolutions."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)


def set_tf32(on: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


def ours(model, batch, mask):
    return model(batch, mask)


def compare(model, batch, mask) -> None:
    """Print how far outputs and gradients of the two ways are apart."""
    set_tf32(False)
    results = []
    for forward in (plain_port.forward, ours):
        out = forward(model, batch, mask)
        out.square().mean().backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        results.append((out.detach(), gradient))
        model.zero_grad(set_to_none=True)
    (plain, plain_gradient), (fast, fast_gradient) = results
    print(f"outputs apart by {relative(fast, plain):.1e} of their norm,", end=" ")
    print(f"gradients by {relative(fast_gradient, plain_gradient):.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--ch", type=int, default=128, help="base channels")
    parser.add_argument("--batch", type=int, default=2, help="images")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also compiled (GPU)")
    given = parser.parse_args()
    torch.manual_seed(0)
    device = given.device
    config = XUNetConfig(given.size, given.size, ch=given.ch, dropout=0.0)
    model = wake(XUNet(config)).to(device)
    batch = {name: value.to(device) for name, value in batch_of(given.batch, given.size).items()}
    del batch["base"]
    mask = torch.arange(given.batch, device=device) > 0
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} CPU thread(s);", end=" ")
    print(f"{given.size} px, ch {given.ch}, batch {given.batch}")
    compare(model, batch, mask)

    ways = [("plain port, fp32", plain_port.forward, False, "fp32", "plain")]
    ways += [("ours, fp32", ours, False, "fp32", "fused")]
    if device == "cuda":
        ways.insert(1, ("plain port, TF32", plain_port.forward, True, "fp32", "plain"))
        ways.append(("ours, TF32", ours, True, "fp32", "fused"))
        ways.append(("ours, bf16", ours, True, "bf16", "fused"))
    if given.compile:
        compiled = torch.compile(model)
        ways += [("ours, bf16, compiled", lambda _, *a: compiled(*a), True, "bf16", "fused")]
    first = None
    print("training step")
    for label, forward, tf32, precision, adam in ways:
        set_tf32(tf32)
        plainly = adam == "plain"
        to_format(model, torch.contiguous_format if plainly else torch.channels_last)
        optimiser = torch.optim.Adam(model.parameters(), 1e-6, betas=(0.9, 0.99), fused=not plainly)
        step = training_step(forward, model, batch, mask, optimiser, precision)
        took = statistics.median(seconds(step, given.repeats, device))
        first = first or took
        line = (
            f"  {label:24} {took:.4f} s, {given.batch / took:7.1f} images/s, {first / took:.2f} x"
        )
        if device == "cuda":
            line += f", peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
            torch.cuda.reset_peak_memory_stats()
        print(line, flush=True)
        del optimiser, step
    print("guided sampling step")
    masks = [torch.full_like(mask, kept) for kept in (True, False)]
    first = None
    model.eval()
    with torch.inference_mode():
        for label, forward, tf32, precision, _ in ways:
            set_tf32(tf32)
            low = torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()
            with low:
                if forward is plain_port.forward:
                    to_format(model, torch.contiguous_format)

                    def step():
                        return [plain_port.forward(model, batch, kept) for kept in masks]  # noqa: B023
                else:
                    to_format(model, torch.channels_last)
                    ready = [model.prepare(batch, kept) for kept in masks]

                    def step():
                        both = zip(masks, ready, strict=True)  # noqa: B023
                        return [model(batch, *pair) for pair in both]

                took = statistics.median(seconds(step, given.repeats, device))
            first = first or took
            print(f"  {label:24} {took:.4f} s, {first / took:.2f} x", flush=True)


if __name__ == "__main__":
    main()
