"""The kernel's layers of `textgym.sandbox.run`: rights that a process drops permanently.

Each function drops a right of the calling process and its children, and returns whether the kernel
did so. None needs privileges. Numbers and structures are those of the Linux headers ``landlock.h``,
``seccomp.h``, ``filter.h``, ``sched.h`` and ``unistd.h``.

The functions get the C library as an argument `system`, because a process that runs a program must
not have `ctypes`.
"""

from __future__ import annotations

import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

# sched.h
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
# prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
# landlock.h: the rights of each version of the interface
_LANDLOCK_FILES = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}
_LANDLOCK_ALL_FILES = 0xFFFF
_LANDLOCK_NETWORK = 0b11
_LANDLOCK_SCOPES = 0b11
_LANDLOCK_READ_FILE = 1 << 2
_LANDLOCK_READ_FOLDER = 1 << 3
# seccomp.h
_ALLOW = 0x7FFF0000
_ERROR = 0x00050000
_KILL = 0x80000000
_EPERM = 1
_EACCES = 13
# filter.h: load a word, compare, compare bits, mask, return
_LOAD = 0x20
_EQUAL = 0x15
_RETURN = 0x06
_AND = 0x54
_AT_NUMBER = 0
_AT_ARCHITECTURE = 4
_AT_ARGUMENTS = 16

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# System calls by name, (x86_64, aarch64); -1 if an architecture lacks the call.
_HARMLESS = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, -1), "fstat": (5, 80),
    "lstat": (6, -1), "poll": (7, -1), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226),
    "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66),
    "access": (21, -1), "select": (23, -1), "sched_yield": (24, 124), "mremap": (25, 216),
    "madvise": (28, 233), "dup": (32, 23), "dup2": (33, -1), "dup3": (292, 24), "pause": (34, -1),
    "nanosleep": (35, 101), "getitimer": (36, 102), "alarm": (37, -1), "setitimer": (38, 103),
    "getpid": (39, 172), "exit": (60, 93), "uname": (63, 160), "getcwd": (79, 17),
    "readlink": (89, -1), "gettimeofday": (96, 169), "getrlimit": (97, 163),
    "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174),
    "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173),
    "sigaltstack": (131, 132), "gettid": (186, 178), "time": (201, -1), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "getdents64": (217, 61), "restart_syscall": (219, 128),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "exit_group": (231, 94), "newfstatat": (262, 79), "readlinkat": (267, 78),
    "faccessat": (269, 48), "pselect6": (270, 72), "ppoll": (271, 73),
    "set_robust_list": (273, 99), "pipe2": (293, 59), "getrandom": (318, 278),
    "membarrier": (324, 283), "statx": (332, 291), "rseq": (334, 293),
    "close_range": (436, 436), "faccessat2": (439, 439),
}  # fmt: skip
# Calls that no solution of an exercise needs, and that kill the process.
_HOSTILE = {
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "sendto": (44, 206),
    "sendmsg": (46, 211), "bind": (49, 200), "listen": (50, 201), "socketpair": (53, 199),
    "clone": (56, 220), "fork": (57, -1), "vfork": (58, -1), "execve": (59, 221),
    "ptrace": (101, 117), "mount": (165, 40), "unshare": (272, 97), "perf_event": (298, 241),
    "setns": (308, 268), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "memfd_create": (319, 279), "bpf": (321, 280), "execveat": (322, 281),
    "userfaultfd": (323, 282), "pidfd_send_signal": (424, 424), "io_uring_setup": (425, 425),
    "pidfd_open": (434, 434), "clone3": (435, 435),
}  # fmt: skip
_SIGNALS = {"kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131)}
_OPENS = {"open": (2, -1, 1), "openat": (257, 56, 2)}
"""Numbers, and the index of the argument with the flags."""
_WRITING = 0x3 | 0x40 | 0x200 | 0x400000
"""O_ACCMODE, O_CREAT, O_TRUNC, O_TMPFILE."""
_FCNTL = (72, 25)
_FCNTL_HARMLESS = (0, 1, 2, 3, 4, 1030)
_IOCTL = (16, 29)
_IOCTL_HARMLESS = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)
_PRLIMIT = (302, 261)
_SYSCALL_CAPSET = (126, 91)
_SYSCALL_LANDLOCK = 444


def c_library() -> Any:
    """The C library, for the functions below."""
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def limit_resources(memory_bytes: int, cpu_s: int) -> None:
    """Limit memory and CPU time, and forbid writing files and core dumps."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, 64)
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_CPU, cpu_s)


def limit_processes() -> None:
    """Forbid new processes; the kernel exempts the root user of the machine."""
    _limit(resource.RLIMIT_NPROC, 0)


def _limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def enter_namespaces(system: Any) -> bool:
    """Leave the machine's network, users, mounts and interprocess objects."""
    spaces = _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC | _CLONE_NEWNET
    # The second attempt, without a user namespace, needs privileges.
    return any(system.unshare(flags) == 0 for flags in (_CLONE_NEWUSER | spaces, spaces))


def children_get_own_pids(system: Any) -> bool:
    """Make the next child process 1 of a new process namespace, which ends with it."""
    return bool(system.unshare(_CLONE_NEWPID) == 0)


def die_with_parent(system: Any) -> None:
    """Have the kernel kill this process when its parent ends."""
    system.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)


def drop_capabilities(system: Any) -> bool:
    """Drop all privileges, and the right to gain any by running a program."""
    import ctypes

    if system.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    architecture = _architecture()
    if architecture is None:
        return False
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    return bool(system.syscall(_SYSCALL_CAPSET[architecture[1]], header, nothing) == 0)


def restrict_files(system: Any, readable: Iterable[str]) -> bool:
    """Use Landlock to forbid file systems and TCP, except for reading below `readable`."""
    import ctypes

    version = system.syscall(_SYSCALL_LANDLOCK, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    files = _LANDLOCK_FILES.get(version, _LANDLOCK_ALL_FILES)
    attributes = [
        files,
        *[_LANDLOCK_NETWORK] * (version >= 4),
        *[_LANDLOCK_SCOPES] * (version >= 6),
    ]
    rules = (ctypes.c_uint64 * len(attributes))(*attributes)
    ruleset = system.syscall(_SYSCALL_LANDLOCK, rules, ctypes.c_size_t(ctypes.sizeof(rules)), 0)
    if ruleset < 0:
        return False
    try:
        for path in readable:
            try:
                file = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            rights = _LANDLOCK_READ_FILE
            if os.path.isdir(path):
                rights |= _LANDLOCK_READ_FOLDER
            rule = rights.to_bytes(8, sys.byteorder) + file.to_bytes(4, sys.byteorder)
            done = system.syscall(_SYSCALL_LANDLOCK + 1, ruleset, 1, ctypes.c_char_p(rule), 0)
            os.close(file)
            if done != 0:
                return False
        return bool(system.syscall(_SYSCALL_LANDLOCK + 2, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def can_filter_calls(system: Any) -> bool:
    """Whether `filter_calls` is supported."""
    import ctypes

    if _architecture() is None:
        return False
    # A filter at address 0 is refused with EFAULT if filters are supported, else with EINVAL.
    ctypes.set_errno(0)
    system.prctl(_PR_SET_SECCOMP, 2, None, 0, 0)
    return ctypes.get_errno() == 14


def filter_calls(system: Any, may_open: bool) -> bool:
    """Use seccomp to allow only the system calls that computations need.

    Files cannot be opened for writing, and signals can only be sent to this process. System calls
    for processes, threads, programs, sockets and other processes' memory kill the process.

    Args:
        system: The C library.
        may_open: Whether files may be opened for reading.
    """
    import ctypes

    program = b"".join(
        code.to_bytes(2, sys.byteorder) + bytes((yes, no)) + value.to_bytes(4, sys.byteorder)
        for code, yes, no, value in _filter(may_open, os.getpid())
    )
    buffer = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    whole = Program(len(program) // 8, ctypes.addressof(buffer))
    return bool(system.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(whole), 0, 0) == 0)


def _architecture() -> tuple[int, int] | None:
    if sys.maxsize < 1 << 32:
        return None
    return _ARCHITECTURES.get(os.uname().machine)


def _filter(may_open: bool, pid: int) -> list[tuple[int, int, int, int]]:
    """The filter's instructions: operation, jumps if equal and if not equal, operand."""
    architecture = _architecture()
    assert architecture is not None, "call can_filter_calls first"
    audit, column = architecture
    code = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_EQUAL, 1, 0, audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _AT_NUMBER),
    ]

    def on_call(numbers: Sequence[int], body: list[tuple[int, int, int, int]]) -> None:
        if numbers[column] >= 0:
            code.extend([(_EQUAL, 0, len(body), numbers[column]), *body])

    def one_of(argument: int, values: Sequence[int], other: int) -> list[tuple[int, int, int, int]]:
        body = [(_LOAD, 0, 0, _AT_ARGUMENTS + 8 * argument)]
        for value in values:
            body += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
        return [*body, (_RETURN, 0, 0, other)]

    for numbers in _HARMLESS.values():
        on_call(numbers, [(_RETURN, 0, 0, _ALLOW)])
    for first, second, argument in _OPENS.values():
        reading = [(_LOAD, 0, 0, _AT_ARGUMENTS + 8 * argument), (_AND, 0, 0, _WRITING)]
        reading += [(_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
        on_call(
            (first, second), [*(reading if may_open else []), (_RETURN, 0, 0, _ERROR | _EACCES)]
        )
    on_call(_FCNTL, one_of(1, _FCNTL_HARMLESS, _ERROR | _EPERM))
    on_call(_IOCTL, one_of(1, _IOCTL_HARMLESS, _ERROR | _EPERM))
    # Limits may be read (both halves of the pointer to the new value are 0), but not set.
    read_limits = [(_LOAD, 0, 0, _AT_ARGUMENTS + 16), (_EQUAL, 0, 3, 0)]
    read_limits += [(_LOAD, 0, 0, _AT_ARGUMENTS + 20), (_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
    on_call(_PRLIMIT, [*read_limits, (_RETURN, 0, 0, _ERROR | _EPERM)])
    for numbers in _SIGNALS.values():
        on_call(numbers, one_of(0, (pid,), _KILL))
    for numbers in _HOSTILE.values():
        on_call(numbers, [(_RETURN, 0, 0, _KILL)])
    return [*code, (_RETURN, 0, 0, _ERROR | _EPERM)]
