"""Keep freed memory in the process instead of giving it back to the system.

By default glibc returns every large block at once and asks for it again a moment later, and the
kernel fills each new page with zeros: with models as small as the demo's, up to half the time of an
evaluation.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def keep_freed_memory() -> None:
    """Raise glibc's thresholds out of reach; other C libraries have no `mallopt` and stay."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
