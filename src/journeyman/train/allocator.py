"""Memory that is freed in one step is used again in the next, instead of going back to the system in between."""

from __future__ import annotations

import ctypes
import gc
import sys

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST = 2**30


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep freed blocks of up to 1 GiB; whether it could be told.

    By default every block above some megabytes is mapped afresh, and the kernel clears its pages as they are first
    touched: a tenth of a training step's time on a CPU (measured on a virtual machine). All threads draw from one arena, so
    that what one of them has freed serves the others.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return False
    settings = ((_M_MMAP_THRESHOLD, _LARGEST), (_M_TRIM_THRESHOLD, _LARGEST), (_M_ARENA_MAX, 1))
    done = [bool(mallopt(name, value)) for name, value in settings]  # each is asked, whatever became of the others
    return all(done)


def share_one_arena() -> bool:
    """Let all threads of a long-lived process draw from one of glibc's arenas; whether that could be told.

    By default a thread that finds the arena taken begins another, eight for each core at most. What is freed in one is no use to
    the others, so that a server with many threads grows for hours towards the largest that each arena ever was.
    """
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"):
        return False
    return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1))


def return_freed_memory() -> None:
    """Give the system back what `keep_freed_memory` has kept, and what only cycles hold, such as a model with replaced forwards."""
    gc.collect()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
