"""What a process gives up before it looks at foreign bytes: memory beyond a limit, files, other programs, the network. Linux only.

Files by Landlock: none can be changed, and only Python's, the system's and our own code can be read. Neither the project's folder nor a
store is among them, wherever the process works and whatever its path of modules names.
"""

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Final, NamedTuple

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
# Source: linux/prctl.h, linux/seccomp.h, linux/audit.h, linux/filter.h.
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1
# BPF_LD|W|ABS, and BPF_JMP|K with JEQ, JGE, JSET, then BPF_RET|K
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | EPERM
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; arguments have 8 bytes, the low half first
_X32: Final = 0x40000000  # numbers from here on are x86-64's second set of system calls
_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_WRITING: Final = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC

_Rule = tuple[int, int, int, int]  # code, rules to skip if true and if false, constant


class Numbers(NamedTuple):
    """A call's number on each machine; None where it has no such call."""

    x86_64: int | None
    aarch64: int | None


# Source: the kernel's asm/unistd_64.h and asm-generic/unistd.h.
SECCOMP: Final = Numbers(317, 277)

# Never allowed.
FORBIDDEN: Final = {
    # the network, and other programs
    "socket": Numbers(41, 198),
    "connect": Numbers(42, 203),
    "execve": Numbers(59, 221),
    "execveat": Numbers(322, 281),
    # a way around this filter
    "io_uring_setup": Numbers(425, 425),
    "bpf": Numbers(321, 280),
    "userfaultfd": Numbers(323, 282),
    "perf_event_open": Numbers(298, 241),
    # other processes
    "ptrace": Numbers(101, 117),
    "process_vm_readv": Numbers(310, 270),
    "process_vm_writev": Numbers(311, 271),
    "pidfd_open": Numbers(434, 434),
    "pidfd_getfd": Numbers(438, 438),
    "pidfd_send_signal": Numbers(424, 424),
    "tkill": Numbers(200, 130),
    "rt_sigqueueinfo": Numbers(129, 138),
    "rt_tgsigqueueinfo": Numbers(297, 240),
    # changes to files and folders; `open` and `openat` are in OPENING
    "creat": Numbers(85, None),
    "openat2": Numbers(437, 437),  # its flags lie in memory, where a filter cannot look
    "unlink": Numbers(87, None),
    "unlinkat": Numbers(263, 35),
    "rmdir": Numbers(84, None),
    "rename": Numbers(82, None),
    "renameat": Numbers(264, 38),
    "renameat2": Numbers(316, 276),
    "truncate": Numbers(76, 45),
    "chmod": Numbers(90, None),
    "fchmod": Numbers(91, 52),
    "fchmodat": Numbers(268, 53),
    "fchmodat2": Numbers(452, 452),
    "chown": Numbers(92, None),
    "fchown": Numbers(93, 55),
    "lchown": Numbers(94, None),
    "fchownat": Numbers(260, 54),
    "mkdir": Numbers(83, None),
    "mkdirat": Numbers(258, 34),
    "link": Numbers(86, None),
    "linkat": Numbers(265, 37),
    "symlink": Numbers(88, None),
    "symlinkat": Numbers(266, 36),
    "mknod": Numbers(133, None),
    "mknodat": Numbers(259, 33),
    "utime": Numbers(132, None),
    "utimes": Numbers(235, None),
    "utimensat": Numbers(280, 88),
    "setxattr": Numbers(188, 5),
    "lsetxattr": Numbers(189, 6),
    "fsetxattr": Numbers(190, 7),
    # what is mounted where, and namespaces
    "mount": Numbers(165, 40),
    "umount2": Numbers(166, 39),
    "pivot_root": Numbers(155, 41),
    "chroot": Numbers(161, 51),
    "move_mount": Numbers(429, 429),
    "unshare": Numbers(272, 97),
    "setns": Numbers(308, 268),
}

# Allowed to read only: the call, and which of its arguments holds the flags.
OPENING: Final = {"open": (Numbers(2, None), 1), "openat": (Numbers(257, 56), 2)}
# Allowed to the process itself, which is the first argument: abort() is one of them.
SIGNALLING: Final = {"kill": Numbers(62, 129), "tgkill": Numbers(234, 131)}


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
    _checked(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    restrict_files()
    forbid_calls()


def restrict_files() -> bool:
    """Give up all files but those that Python needs, for this thread and those it starts. The process can gain no privileges by then.

    Of other processes neither environment nor memory can be read.

    Returns:
        False where there is no Landlock; nothing has changed then.

    Raises:
        OSError: the kernel does not go along.
    """
    libc = _libc()
    handled = ctypes.c_uint64(_READ_FILE | _READ_FOLDER | _CHANGES)
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    if ruleset < 0 and ctypes.get_errno() in _ABSENT:
        return False
    _checked(min(ruleset, 0))
    libraries = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if Path(path).is_absolute()]
    packages = [path for path in sys.path if Path(path).name in _INSTALLED]
    # decoders import more of our code as they need it
    ours = {str(ROOT / "upheld"), *(str((ROOT / "upheld" / package).resolve()) for package in ("common", "feature_store"))}
    for path in {*_SYSTEM, *_SETTINGS, *ours, *packages, sys.prefix, sys.base_prefix, *libraries}:
        if Path(path).exists():
            target = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rights = _READ_FILE | _READ_FOLDER if Path(path).is_dir() else _READ_FILE
            rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, target))
            _checked(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
            os.close(target)
    _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)
    return True


def forbid_calls() -> None:
    """Have every call in FORBIDDEN fail with EPERM, and those in OPENING and SIGNALLING beyond their bounds, in every thread, for good.

    Raises:
        OSError: the machine's numbers are not known, or the kernel does not go along.
    """
    machine = platform.machine()
    if machine not in _AUDIT_ARCH:
        raise OSError(f"no list of system calls for {machine}; decoders run on x86_64 and aarch64")
    # Each call's rules end with an answer, or are skipped.
    rules: list[_Rule] = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, _AUDIT_ARCH[machine]), (_RETURN, 0, 0, _DENY)]
    rules += [(_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _DENY)]
    for numbers in FORBIDDEN.values():
        rules += _on(machine, numbers, [(_RETURN, 0, 0, _DENY)])
    answers: list[_Rule] = [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _DENY)]
    for numbers, place in OPENING.values():
        rules += _on(machine, numbers, [(_LOAD, 0, 0, _ARGUMENTS + 8 * place), (_ANY_BIT, 1, 0, _WRITING), *answers])
    for numbers in SIGNALLING.values():
        rules += _on(machine, numbers, [(_LOAD, 0, 0, _ARGUMENTS), (_EQUAL, 0, 1, os.getpid()), *answers])
    rules.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in rules))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(rules), ctypes.addressof(code)))
    number_of_seccomp = getattr(SECCOMP, machine)
    _checked(_libc().syscall(number_of_seccomp, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, program))


def _on(machine: str, numbers: Numbers, then: list[_Rule]) -> list[_Rule]:
    """What is done on one call; nothing where the machine has no such call."""
    number = getattr(numbers, machine)
    return [] if number is None else [(_EQUAL, 0, len(then), number), *then]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"a decoder cannot be confined here ({os.strerror(ctypes.get_errno())})")
