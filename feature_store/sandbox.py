"""What a process gives up before it looks at foreign bytes: memory beyond a limit, files, other programs, the network. Linux only."""

import ctypes
import os
import platform
import resource
import signal
import struct
from pathlib import Path
from typing import Final

# Source: linux/prctl.h, linux/seccomp.h, linux/audit.h, linux/filter.h.
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_RET|K
_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | EPERM
_X32: Final = 0x40000000  # numbers from here on are x86-64's second set of system calls

# machine -> (AUDIT_ARCH, number of seccomp, numbers of socket, connect, execve, execveat, ptrace, io_uring_setup).
# Source: the kernel's system call tables.
_SYSCALLS: Final = {
    "x86_64": (0xC000003E, 317, (41, 42, 59, 322, 101, 425)),
    "aarch64": (0xC00000B7, 277, (198, 203, 221, 281, 117, 425)),
}


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends, and leave Ctrl-C to that one."""
    _checked(_libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def confine(memory_bytes: int) -> None:
    """Give up what decoding does not need. Call it after everything is imported; there is no way back.

    Args:
        memory_bytes: address space allowed beyond what the process has now.

    Raises:
        OSError: the kernel does not go along.
    """
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    space = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no file grows
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _forbid_calls()


def _forbid_calls() -> None:
    """Sockets, other programs and debugging fail with EPERM, in every thread of the process and for good."""
    if platform.machine() not in _SYSCALLS:
        raise OSError(f"no list of system calls for {platform.machine()}; decoders run on x86_64 and aarch64")
    arch, number_of_seccomp, denied = _SYSCALLS[platform.machine()]
    rules = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _DENY), (_LOAD, 0, 0, 0)]  # of struct seccomp_data: arch, nr
    rules.append((_AT_LEAST, len(denied) + 1, 0, _X32))  # a jump counts the rules it skips: all up to the last one
    rules += [(_EQUAL, len(denied) - nth, 0, number) for nth, number in enumerate(denied)]
    rules += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _DENY)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in rules))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(rules), ctypes.addressof(code)))
    _checked(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(_libc().syscall(number_of_seccomp, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, program))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"a decoder cannot be confined here ({os.strerror(ctypes.get_errno())})")
