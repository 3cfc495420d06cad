"""How many members of a stack fit in memory, from peaks that are measured and not estimated.

On a GPU the peak is torch's own count; on a CPU it is the process's resident memory, which Linux
can start to count anew. A stack's memory grows by the same amount with each member, so two small
stacks tell it.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch


@dataclass(frozen=True)
class Room:
    """Where stacks of models are, not what they are: the device, bytes for a stack, and for a pass.

    memory: bytes that may be in use; batch_tokens: tokens of the whole stack in a pass.
    """

    device: torch.device
    memory: int
    batch_tokens: int


PROBE = 8  # members of the largest stack that is tried; more tell nothing new


def in_use(device: torch.device) -> int:
    """Bytes in use now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return resident("VmRSS") or most_resident()


def peak(device: torch.device, work: Callable[[], None]) -> int:
    """Most bytes in use while `work` ran: of torch on a GPU, of the process on a CPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew; proc(5)
    except OSError:  # not Linux, or not allowed: the peak since the process began
        work()
        return most_resident()
    work()
    return resident("VmHWM")


def resident(field: str) -> int:
    """A field of /proc/self/status in bytes; 0 where there is none."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)


def most_resident() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def stack_width(
    work: Callable[[int], None], members: int, memory: int, least: int, device: torch.device
) -> int:
    """Members of each stack such that `members` are done in as few, equal stacks as fit.

    work(n): the most that a stack of n members does at a time. memory: bytes that its peak may
    reach. least: bytes that a member takes at the very least (its weights), a floor under what is
    measured. Stacks of 1, 2, 4 and 8 members are tried, as long as they must fit and may be needed.
    """
    before = in_use(device)
    one = peak(device, lambda: work(1))
    each, tried = max(least, one - before), 1
    while tried < min(members, PROBE):
        several = min(2 * tried, members)
        if one + each * (several - 1) > memory or one + each * (members - 1) < memory / 2:
            break  # it may not fit, or all fit by far
        if tried == 1:
            one = peak(device, lambda: work(1))  # again, without what a first use brings with it
        most = peak(device, partial(work, several))
        each, tried = max(least, (most - one) // (several - 1)), several
    fit = max(1, (memory - one) // each + 1)
    return -(-members // -(-members // fit))
