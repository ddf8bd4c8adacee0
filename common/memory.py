"""How this process deals with memory that it had and needs again."""

import ctypes
import sys

# Source: malloc.h of glibc; what each means: mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def keep_memory() -> None:
    """Keep freed memory for what comes next, in all threads. To be called before any library starts a thread, which gets a heap of its own.

    A network's tensors come and go. glibc gives large ones back to the kernel each time, and then pays a page fault a page to get them
    again. In threads beside the main one, such as those that extract features, it does so whatever its thresholds are, for their heaps
    hold 64 MB at most; so there is to be one heap. What that saves: benchmarks/results/features.txt.

    It is for commands of our own, not for code that others import. Where the C library is not glibc nothing changes.
    """
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        return
    for option, value in ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, 2_000_000_000), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 64 << 20)):
        ctypes.CDLL(None).mallopt(option, value)
