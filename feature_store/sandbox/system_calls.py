"""System calls that a decoder has no use for, by their numbers on the two machines that we run on."""

from typing import Final, NamedTuple


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
