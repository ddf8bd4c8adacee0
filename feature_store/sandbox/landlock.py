"""What files a process can reach, by Linux's Landlock: none can be changed, and only Python's, the system's and our own code can be read.

Neither the project's folder nor a store is among them, wherever the process works and whatever its path of modules names.
"""

import ctypes
import errno
import os
import struct
import sys
from pathlib import Path
from typing import Final

from upheld import ROOT

# Source: linux/landlock.h; the numbers are the same on every machine.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH: Final = 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_CHANGES: Final = 0b1_1111_1111_0010  # to write, remove and make files and folders
_SYSTEM: Final = ("/usr", "/lib", "/lib64", "/sys", "/dev/null", "/dev/urandom", "/proc/self", "/proc/cpuinfo", "/proc/meminfo")
_SETTINGS: Final = ("/etc/ld.so.cache", "/etc/localtime")  # where libraries lie, and which time it is; of accounts and keys nothing
_INSTALLED: Final = ("site-packages", "dist-packages")  # what folders with packages are called
_ABSENT: Final = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)  # an older kernel, switched off, or a container forbids it


def restrict_files() -> bool:
    """Give up all files but those that Python needs, for this thread and those it starts. The process can gain no privileges by then.

    Of other processes neither environment nor memory can be read.

    Returns:
        False where there is no Landlock; nothing has changed then.

    Raises:
        OSError: the kernel does not go along.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    handled = ctypes.c_uint64(_READ_FILE | _READ_FOLDER | _CHANGES)
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    if ruleset < 0 and ctypes.get_errno() in _ABSENT:
        return False
    _checked(min(ruleset, 0))
    for path in _readable():
        _allow(libc, ruleset, path)
    _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)
    return True


def _readable() -> set[str]:
    libraries = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if Path(path).is_absolute()]
    packages = [path for path in sys.path if Path(path).name in _INSTALLED]
    # decoders import more of our code as they need it
    ours = {str(ROOT / "upheld"), *(str((ROOT / "upheld" / package).resolve()) for package in ("common", "feature_store"))}
    named = {*_SYSTEM, *_SETTINGS, *ours, *packages, sys.prefix, sys.base_prefix, *libraries}
    return {path for path in named if Path(path).exists()}


def _allow(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    """Allow to read a file, or whatever is in a folder."""
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rights = _READ_FILE | _READ_FOLDER if Path(path).is_dir() else _READ_FILE
    rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, target))
    _checked(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
    os.close(target)


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"a decoder's files cannot be restricted here ({os.strerror(ctypes.get_errno())})")
