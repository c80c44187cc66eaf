"""One training by several processes that ``torchrun`` has started: each takes parts of every batch.

All hold the same weights and do the same, but for the gradients of a batch, which they share out
and add up. Two processes so give the model of one, up to rounding. Only the first writes.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from miracle_lib.errors import MiracleError

PATIENCE = timedelta(minutes=30)  # until one that hangs counts as lost


def asked_for() -> bool:
    """Whether ``torchrun`` has started more than one process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_number() -> int:
    """Number of this process on its machine: it takes the GPU of that number."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def together() -> Iterator[None]:
    """Join the other processes for the time of a training; without any, nothing happens.

    Raises
    ------
    MiracleError
        If another process has ended.
    """
    if not asked_for() or dist.is_initialized():
        yield
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_number())
        backend = "cpu:gloo,cuda:nccl"
    with _all_or_none():
        dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this is the process that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def is_mine(number: int) -> bool:
    """Whether this process takes the part of that number of a batch."""
    return not dist.is_initialized() or number % dist.get_world_size() == dist.get_rank()


@contextmanager
def _all_or_none() -> Iterator[None]:
    """Say in one sentence that another process has ended."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise MiracleError(
            "another process of this training has ended, and so does this one; the same command "
            "continues from the last checkpoint, if there is one"
        ) from error


@_all_or_none()
def add_up(parameters: Iterable[torch.nn.Parameter], shown: dict[str, float]) -> dict[str, float]:
    """Add the gradients of all processes in place, and return the sums of what they show."""
    if not dist.is_initialized():
        return shown
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
    each: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(each, shown)
    names = dict.fromkeys(name for one in each for name in one)
    return {name: sum(one.get(name, 0.0) for one in each) for name in names}
