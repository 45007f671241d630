"""Random draws of a batch that several processes share.

Every process draws for the whole batch from one seed and keeps the rows of its own part, so that
together they use the numbers that a single process with the whole batch uses. Losses need not know:
within :class:`WholeBatch` the usual functions of torch do this by themselves. Losses whose draws
depend on the number of images ask :func:`whole_batch` for it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_OF_SIZE = {torch.rand, torch.randn}
_OF_LAST_SIZE = {torch.randint}
_LIKE = {torch.rand_like, torch.randn_like, torch.randint_like}
_FILLING = {
    Tensor.normal_,
    Tensor.uniform_,
    Tensor.bernoulli_,
    Tensor.exponential_,
    Tensor.random_,
}
_DROPOUT = {F.dropout, torch.dropout}
_REFUSED = {
    torch.bernoulli,
    torch.multinomial,
    torch.normal,
    torch.poisson,
    torch.feature_dropout,
    torch.alpha_dropout,
    torch.rrelu,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
    F.gumbel_softmax,
    F.rrelu,
}

_entered: list[WholeBatch] = []


def whole_batch(count: int) -> tuple[int, slice]:
    """Return the size of the batch over all processes and the rows of it that are this process'.

    Args:
        count: images of this process. Outside :class:`WholeBatch` they are the whole batch.
    """
    if not _entered:
        return count, slice(0, count)
    here = _entered[-1]
    return here.world * count, slice(here.rank * count, (here.rank + 1) * count)


class WholeBatch(TorchFunctionMode):
    """Within this context random tensors are rows of what is drawn for the whole batch.

    A first axis of ``count`` or a multiple of it is that of the batch; a multiple is taken for as
    many batches one after the other, as ``torch.cat`` makes them. All other draws and permutations
    are the same in all processes, whose seeds must agree. Draws that cannot be shared so, because
    they depend on other tensors' rows, raise ValueError.

    Args:
        rank: this process among ``world``, each with an equal part of the batch.
        world: number of processes.
        count: images of this process.
    """

    def __init__(self, rank: int, world: int, count: int):
        super().__init__()
        self.rank, self.world, self.count = rank, world, count

    def __enter__(self):
        _entered.append(self)
        return super().__enter__()

    def __exit__(self, *error):
        _entered.pop()
        return super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _OF_SIZE:
            size = kwargs.pop("size", None) or args
            if len(size) == 1 and not isinstance(size[0], int):
                size = size[0]
            return self._mine(func(self._whole(size), **kwargs), size)
        if func in _OF_LAST_SIZE:
            *args, size = (*args, kwargs.pop("size")) if "size" in kwargs else args
            return self._mine(func(*args, self._whole(size), **kwargs), size)
        if func in _LIKE:
            like, *args = args
            whole = self._enlarged(like)
            return self._mine(func(whole, *args, **kwargs), like.shape)
        if func in _FILLING:
            filled, *args = args
            if any(isinstance(value, Tensor) for value in (*args, *kwargs.values())):
                raise ValueError(f"{func.__name__}: tensors of parameters cannot be shared")
            whole = self._enlarged(filled)
            return filled.copy_(self._mine(func(whole, *args, **kwargs), filled.shape))
        if func in _DROPOUT:
            return self._dropout(*args, **kwargs)
        if func in _REFUSED or (
            func is F.scaled_dot_product_attention and kwargs.get("dropout_p", 0) > 0
        ):
            raise ValueError(
                f"{func.__name__}: its draws cannot be shared among processes; draw with "
                "torch.rand or torch.randn of the batch's shape instead"
            )
        return func(*args, **kwargs)

    def _of_batch(self, size) -> bool:
        return len(size) > 0 and size[0] > 0 and size[0] % self.count == 0

    def _whole(self, size) -> tuple[int, ...]:
        return (self.world * size[0], *size[1:]) if self._of_batch(size) else tuple(size)

    def _enlarged(self, like: Tensor) -> Tensor:
        """An empty tensor for the whole batch in the same order of memory, which draws follow."""
        if not self._of_batch(like.shape):
            return torch.empty_like(like)
        return torch.empty_like(like[:1].expand(self._whole(like.shape)))

    def _mine(self, whole: Tensor, size) -> Tensor:
        if not self._of_batch(size):
            return whole
        batches = whole.view(-1, self.world, self.count, *size[1:])
        return batches[:, self.rank].reshape(tuple(size))

    def _dropout(self, values, p=0.5, training=True, inplace=False) -> Tensor:
        if not training or p == 0:
            return values
        with torch.no_grad():
            factors = F.dropout(self._enlarged(values).fill_(1), p, True)
        kept = self._mine(factors, values.shape)
        return values.mul_(kept) if inplace else values * kept
