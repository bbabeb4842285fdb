"""A program of its own: runs Python source from its standard input behind walls, and nothing of `cai` is imported.

    python -I -S -B walls.py CPU_SECONDS MEMORY_BYTES FILE_BYTES confined|unconfined

    1. limits    of CPU seconds, memory and bytes a file, hard ones, and no core dump
    2. files     Landlock (Linux 5.19 on, ABI 3): the standard library and the system's shared libraries can be read,
                 nothing else can be read, and nothing can be written, made, renamed or removed
    3. calls     seccomp: a list of system calls that may be made. Not on it, so refused: sockets, new processes and
                 threads, other programs, signals, limits, modes and owners of files

It ends with the code `NO_WALLS` where a wall cannot be put up, before anything is run. Landlock and seccomp need no
privilege and cannot be taken down again. x86-64 alone, whose numbers of system calls these are.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
import sysconfig

NO_WALLS = 97

# 1. Limits ------------------------------------------------------------------------------------------------------------


def limit(cpu: int, memory: int, file: int) -> None:
    limits = (resource.RLIMIT_CPU, cpu), (resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, file)
    for kind, most in (*limits, (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (most, most))


# 2. Files -------------------------------------------------------------------------------------------------------------

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EVERY_RIGHT = (1 << 15) - 1  # of ABI 3: run, read, write, make, remove, rename, truncate
READ = (1 << 2) | (1 << 3)  # a file, a folder


def shut_files(libc: ctypes.CDLL) -> None:
    if libc.syscall(CREATE_RULESET, None, 0, 1) < 3:
        refuse("this system has no Landlock of ABI 3 (Linux 6.2 on, lsm=landlock)")
    attributes = ctypes.create_string_buffer(struct.pack("=Q", EVERY_RIGHT))
    rules = libc.syscall(CREATE_RULESET, attributes, 8, 0)
    paths = sysconfig.get_paths()
    for place in {paths["stdlib"], paths["platstdlib"], "/usr/lib", "/lib", "/lib64", "/usr/share/zoneinfo"}:
        if not os.path.isdir(place):  # noqa: PTH112 (pathlib would be one import more behind the walls)
            continue
        folder = os.open(place, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", READ, folder))
        if libc.syscall(ADD_RULE, rules, 1, rule, 0):
            refuse("Landlock does not take its rules")
        os.close(folder)
    if libc.syscall(RESTRICT_SELF, rules, 0):
        refuse("Landlock cannot be put in force")
    os.close(rules)


# 3. System calls ------------------------------------------------------------------------------------------------------

X86_64 = 0xC000003E
CALLS = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
    "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "ioctl": 16, "pread64": 17, "readv": 19,
    "writev": 20, "access": 21, "select": 23, "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32,
    "nanosleep": 35, "getpid": 39, "exit": 60, "uname": 63, "fcntl": 72, "getcwd": 79, "readlink": 89,
    "gettimeofday": 96, "getrusage": 98, "sysinfo": 99, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108,
    "getppid": 110, "sigaltstack": 131, "gettid": 186, "futex": 202, "sched_getaffinity": 204, "getdents64": 217,
    "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "openat": 257,
    "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "pselect6": 270, "ppoll": 271, "poll": 7, "open": 2,
    "stat": 4, "lstat": 6, "getrandom": 318, "statx": 332, "faccessat2": 439,
}  # fmt: skip
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000  # REFUSE: with EPERM


def shut_calls(libc: ctypes.CDLL) -> None:
    lines = [(LOAD, 0, 0, 4), (JUMP_IF_EQUAL, 1, 0, X86_64), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    for number in CALLS.values():
        lines += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    lines.append((RETURN, 0, 0, REFUSE))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(lines), ctypes.addressof(code)))
    if libc.prctl(22, 2, program, 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        refuse("seccomp cannot be put in force")


def refuse(why: str) -> None:
    print(why, file=sys.stderr, flush=True)
    os._exit(NO_WALLS)


def main() -> None:
    cpu, memory, file = map(int, sys.argv[1:4])
    confined, source = sys.argv[4] == "confined", sys.stdin.read()
    if confined:
        if sys.platform != "linux" or platform.machine() != "x86_64":
            refuse("its walls are those of Linux on x86-64")
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        shut_files(libc)
        limit(cpu, memory, file)
        shut_calls(libc)
    else:
        limit(cpu, memory, file)
    sys.argv[:] = ["answer.py"]
    exec(compile(source, "answer.py", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
