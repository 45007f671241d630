"""Work in several threads, handed out in the order of what is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item, Made = TypeVar("Item"), TypeVar("Made")


def in_order(
    work: Callable[[Item], Made], items: Iterable[Item], threads: int
) -> Iterator[tuple[Item, Made]]:
    """Items with what ``work`` makes of them, ``threads`` at a time and no more than that waiting.

    Args:
        work: of one item; what it raises is raised at that item.
        items: taken in this thread.
        threads: how many, beside this one.
    """
    threads = max(1, threads)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > threads:
                    first, made = waiting.popleft()
                    yield first, made.result()
            for first, made in waiting:
                yield first, made.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Hold PyTorch's networks to one thread.

    What is worked on side by side, as frames are, has so little to do for a network that further
    threads, on cores that do something else, cost more than they save.
    """
    # Photos are read in threads without it, and it takes a second to import.
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
