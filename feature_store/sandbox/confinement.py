"""What a process gives up before it looks at foreign bytes: memory beyond a limit, files, other programs, the network. Linux only."""

import ctypes
import os
import platform
import resource
import signal
import struct
from pathlib import Path
from typing import Final

from upheld.feature_store.sandbox import landlock
from upheld.feature_store.sandbox.system_calls import FORBIDDEN, OPENING, SECCOMP, SIGNALLING, Numbers

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
    landlock.restrict_files()
    _forbid_calls()


def _forbid_calls() -> None:
    """What `feature_store/sandbox/system_calls.py` lists fails with EPERM, in every thread of the process and for good."""
    machine = platform.machine()
    if machine not in _AUDIT_ARCH:
        raise OSError(f"no list of system calls for {machine}; decoders run on x86_64 and aarch64")
    rules = _rules(machine)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in rules))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(rules), ctypes.addressof(code)))
    number_of_seccomp = getattr(SECCOMP, machine)
    _checked(_libc().syscall(number_of_seccomp, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, program))


def _rules(machine: str) -> list[_Rule]:
    """The filter: each call's rules end with an answer, or are skipped."""
    rules: list[_Rule] = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, _AUDIT_ARCH[machine]), (_RETURN, 0, 0, _DENY)]
    rules += [(_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _DENY)]
    for numbers in FORBIDDEN.values():
        rules += _on(machine, numbers, [(_RETURN, 0, 0, _DENY)])
    answers: list[_Rule] = [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _DENY)]
    for numbers, place in OPENING.values():
        rules += _on(machine, numbers, [(_LOAD, 0, 0, _ARGUMENTS + 8 * place), (_ANY_BIT, 1, 0, _WRITING), *answers])
    for numbers in SIGNALLING.values():
        rules += _on(machine, numbers, [(_LOAD, 0, 0, _ARGUMENTS), (_EQUAL, 0, 1, os.getpid()), *answers])
    return [*rules, (_RETURN, 0, 0, _ALLOW)]


def _on(machine: str, numbers: Numbers, then: list[_Rule]) -> list[_Rule]:
    """What is done on one call; nothing where the machine has no such call."""
    number = getattr(numbers, machine)
    return [] if number is None else [(_EQUAL, 0, len(then), number), *then]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"a decoder cannot be confined here ({os.strerror(ctypes.get_errno())})")
