"""Run by `test_windows`: everything is imported and used as if this were Windows, and what came of it is printed.

Libraries are loaded first, as they are here: theirs is not the question. Then our modules are forgotten and loaded
again, and find no POSIX module, an `os`, a `signal`, a `select` and a `socket` without their POSIX names, and
`sys.platform` ``win32``. What cannot be had this way is a Windows file system and Windows' processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from importlib import import_module
from pathlib import Path
from typing import Any

# Modules that Python for Windows has not, and names that its own modules lack (docs.python.org, "Availability: Unix").
MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "curses", "readline", "crypt")
NAMES = {
    "os": """
        chown chroot confstr copy_file_range ctermid eventfd fchdir fchmod fchown fdatasync fork forkpty fpathconf
        fstatvfs getegid geteuid getgid getgrouplist getgroups getloadavg getpgid getpgrp getpriority getresuid getsid
        getuid getxattr initgroups killpg lchown lockf major makedev memfd_create minor mkfifo mknod nice openpty
        pathconf pidfd_open pipe2 posix_fadvise posix_fallocate posix_spawn pread preadv pwrite pwritev readv
        register_at_fork sched_getaffinity sched_setaffinity sched_yield sendfile setgid setpgid setpriority setsid
        setuid setxattr splice statvfs sync sysconf sysconf_names tcgetpgrp ttyname uname wait wait3 wait4 waitid
        writev O_CLOEXEC O_DIRECTORY O_DSYNC O_NDELAY O_NOCTTY O_NOFOLLOW O_NONBLOCK O_PATH O_SYNC WEXITSTATUS
        WIFEXITED WIFSIGNALED WNOHANG WTERMSIG EX_OK F_LOCK""",
    "signal": """
        SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2
        SIGWINCH alarm getitimer pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigwait
        sigtimedwait""",
    "select": "poll epoll select",  # `select.select` is there, but for sockets alone, and nothing of ours selects them
    "socket": "AF_UNIX AF_NETLINK AF_PACKET CMSG_LEN SCM_RIGHTS sendmsg recvmsg if_nameindex MSG_DONTWAIT MSG_NOSIGNAL",
}


class _Without(types.ModuleType):
    """A module without some of its names, with others beside them."""

    def __init__(self, module: types.ModuleType, absent: set[str], **more: Any) -> None:
        super().__init__(module.__name__)
        self.__dict__.update({"_module": module, "_absent": absent, **more})

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__["_absent"]:
            raise AttributeError(f"Windows has no {self.__name__}.{name}")
        return getattr(self.__dict__["_module"], name)


def all_modules() -> list[str]:
    """Of the runtime and of the toolchain, as they are called once installed."""
    root = Path(__file__).resolve().parents[1]
    files = [path.relative_to(root) for path in (root / "vmeg_edge").rglob("*.py")]
    files += [Path("vmeg_edge", path.relative_to(root)) for path in (root / "converters").rglob("*.py")]
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    return sorted(name for name in names if not name.endswith("__main__"))


def imported(names: list[str]) -> dict[str, str]:
    """What each module that cannot be imported says."""
    failures = {}
    for name in names:
        try:
            import_module(name)
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"
    return failures


def disguise() -> None:
    """Load our modules anew from now on, as Windows would."""
    import signal

    for name in [name for name in sys.modules if name.partition(".")[0] == "vmeg_edge" and "_native" not in name]:
        del sys.modules[name]
    sys.modules.update(dict.fromkeys(MODULES))  # type: ignore[arg-type]
    more = {"signal": {"SIGBREAK": signal.SIGUSR1}}
    for name, absent in NAMES.items():
        sys.modules[name] = _Without(sys.modules[name], set(absent.split()), **more.get(name, {}))
    subprocess.CREATE_NO_WINDOW = 0  # type: ignore[attr-defined]
    sys.platform = "win32"


def used(folder: Path) -> dict[str, int]:
    """The exit code of each command, run in this process; the processes that they start are as ever."""
    from vmeg_edge.cli import run

    results, record, report = folder / "results.jsonl", folder / "record", folder / "report.json"
    picture = folder / "picture.png"
    commands = {
        "info": ["info", "--json"],
        "verify": ["verify"],
        "demo": ["demo", "--out", str(folder / "demo"), "--frames", "3"],
        "score": ["score", str(picture), "--out", str(results), "--overlay", str(folder / "overlay.mp4")],
        "score, standard output": ["score", str(picture), "--out", "-"],
        "stream": ["stream", "phantom:", "--isolate", "--duration", "1", "--record", str(record), "--json"],
        "replay": ["stream", str(record), "--json"],
        "bench": ["bench", "--iterations", "4", "--rounds", "1", "--backend", "onnxruntime", "--json", str(report)],
    }
    return {name: run(arguments) for name, arguments in commands.items()}


def main() -> None:

    folder = Path(sys.argv[1])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    names = all_modules()
    before = imported(names)
    disguise()
    failures = imported(names)
    codes = used(folder)
    out.write(json.dumps({"modules": len(names), "before": before, "failures": failures, "codes": codes}))


if __name__ == "__main__":
    main()
