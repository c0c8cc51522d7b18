"""What leaves a process: the names that it looks up, its connections, its packets, and every file that it writes.

    python benchmarks/silence.py -- python -m vmeg_edge info
    python benchmarks/silence.py --allow out -- vmeg-edge score "$PWD/scan.mha" --out "$PWD/out/scan.jsonl"

The command runs in an empty folder, so paths are given in full, and in a network namespace of its own (loopback alone,
so nothing really leaves the machine). A name server there answers every question with 127.0.0.1 and writes it down. The
home directory is empty and the environment clean: what keeps quiet in CI must not look innocent. An engine's uploader
is a thread of the process that holds the engine and may wait for its first word, so a program under test should stay
for half a minute after its work.

Prints one JSON object and exits with 0 where the command was silent, 1 where it was not, 3 where Linux's namespaces
are not allowed. Files count wherever they are written, the folders of ``--allow``, vmeg-edge's own cache and what is
deleted again in the folder for temporary files left out. Without the right to watch the whole file system (fanotify
asks for root), the home directory, the working directory and the folder for temporary files are searched at the end.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

NOT_ALLOWED = 3
PORTS = (80, 443)
_OWN_CACHE = ".cache/vmeg-edge"
# From <linux/fanotify.h>: marks on the mounts of this namespace, of which a word comes for every file closed after
# writing, whoever of the processes in here wrote it.
_FAN_CLOEXEC, _FAN_MARK_ADD, _FAN_MARK_MOUNT, _FAN_CLOSE_WRITE, _AT_FDCWD = 0x1, 0x1, 0x10, 0x8, -100
_EVENT = struct.Struct("=IBBHQii")


def main() -> int:
    """Enter the namespaces, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--allow", action="append", default=[], metavar="FOLDER", help="the command may write in it")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    if asked.inside:
        report = watch(asked.command, [Path(folder).resolve() for folder in asked.allow])
        print(json.dumps(report, indent=1))
        return int(not report["silent"])
    if why := not_allowed():
        print(json.dumps({"not_allowed": why}))
        return NOT_ALLOWED
    return subprocess.run([*_enter(), sys.executable, __file__, "--inside", *sys.argv[1:]]).returncode


def not_allowed() -> str:
    """Why this system does not let us make the namespaces, in one line; empty where it does."""
    if shutil.which("unshare") is None:
        return "there is no `unshare` here (Linux alone has it, in util-linux)"
    tried = subprocess.run([*_enter(), "true"], capture_output=True, text=True)
    return " ".join(tried.stderr.split()) if tried.returncode else ""


def _enter() -> list[str]:
    return ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "--net", "--mount"]


def watch(command: list[str], allowed: list[Path]) -> dict[str, Any]:
    """Run ``command`` in this namespace, which must be a fresh one, and say what it did beside its work."""
    with tempfile.TemporaryDirectory() as top:
        room = Path(top).resolve()
        home, scratch, place = (room / name for name in ("home", "scratch", "place"))
        for folder in (home, scratch, place):
            folder.mkdir()
        _loopback_up()
        _own_name_service(room)
        net, files = _Net(), _Files()
        variables = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        variables |= {"HOME": str(home), "TMPDIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"}
        with (room / "said").open("w+") as said:
            net.began = time.monotonic()
            code = subprocess.run(command, env=variables, cwd=place, stdout=said, stderr=subprocess.STDOUT).returncode
            ran_s = time.monotonic() - net.began
            time.sleep(0.3)  # what it sent last is still on its way to us
            said.seek(0)
            words = said.read()
        written = files.end()
        left = {path for folder in (home, scratch, place) for path in folder.rglob("*") if not path.is_dir()}
        own = [*allowed, home / _OWN_CACHE, room / "said"]
        noted = sorted(
            str(path)
            for path in left | {path for path in written or () if path.exists() or not _is_scratch(path, scratch)}
            if not any(path.is_relative_to(folder) for folder in own)
        )
        report = {
            "exit": code,
            "ran_s": round(ran_s, 1),
            "names": net.names,
            "connections": net.connections,
            "packets": _counters(),
            "files": [path.replace(str(room) + "/", "") for path in noted],
            "files_watched": "everywhere" if written is not None else "home, working and temporary directory",
        }
        report["silent"] = not any((net.names, net.connections, any(report["packets"].values()), noted))
        return {**report, "said": words[-2000:]}


def _is_scratch(path: Path, scratch: Path) -> bool:
    return path.is_relative_to(scratch) or path.is_relative_to("/dev/shm")


class _Net:
    """A name server and two listeners, and what they met: (seconds since the command began, what)."""

    def __init__(self) -> None:
        self.began = 0.0
        self.names: list[tuple[float, str]] = []
        self.connections: list[tuple[float, str]] = []
        questions = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        questions.bind(("127.0.0.1", 53))
        threading.Thread(target=self._answer, args=(questions,), daemon=True).start()
        for port in PORTS:
            door = socket.create_server(("127.0.0.1", port))
            threading.Thread(target=self._listen, args=(door, port), daemon=True).start()

    def _since(self) -> float:
        return round(time.monotonic() - self.began, 2)

    def _answer(self, questions: socket.socket) -> None:
        """Answer as RFC 1035 has it: an A record of 127.0.0.1, and no record of any other kind."""
        while True:
            asked, peer = questions.recvfrom(4096)
            labels, at = [], 12
            while asked[at]:
                labels.append(asked[at + 1 : at + 1 + asked[at]].decode("ascii", "replace"))
                at += 1 + asked[at]
            self.names.append((self._since(), ".".join(labels)))
            (kind,) = struct.unpack_from("!H", asked, at + 1)
            record = struct.pack("!HHHIH4s", 0xC00C, 1, 1, 60, 4, socket.inet_aton("127.0.0.1")) if kind == 1 else b""
            head = asked[:2] + struct.pack("!HHHHH", 0x8180, 1, int(bool(record)), 0, 0)
            questions.sendto(head + asked[12 : at + 5] + record, peer)

    def _listen(self, door: socket.socket, port: int) -> None:
        while True:
            peer, _ = door.accept()
            met = self._since()
            peer.settimeout(1)
            try:
                first = peer.recv(4096)
            except OSError:
                first = b""
            kind = ", TLS" if first[:1] == b"\x16" else ""
            self.connections.append((met, f"port {port}, {len(first)} bytes{kind}"))
            peer.close()


class _Files:
    """Every file that is closed after writing in this mount namespace, where the kernel lets us ask for that."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._events = self._libc.fanotify_init(_FAN_CLOEXEC, os.O_RDONLY)
        self._seen: set[Path] = set()
        self._over = threading.Event()
        if self._events < 0:
            return
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            # The kernel's own file systems refuse, and a mount that another covers cannot be named.
            self._libc.fanotify_mark(
                self._events,
                _FAN_MARK_ADD | _FAN_MARK_MOUNT,
                ctypes.c_uint64(_FAN_CLOSE_WRITE),
                _AT_FDCWD,
                line.split()[4].encode().decode("unicode_escape").encode(),
            )
        os.set_blocking(self._events, False)
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def end(self) -> set[Path] | None:
        """The regular files that were written, deleted ones included; ``None`` where nobody could watch."""
        if self._events < 0:
            return None
        self._over.set()
        self._thread.join()
        return self._seen

    def _collect(self) -> None:
        last = False
        while not last:
            last = self._over.wait(0.2)
            while True:
                try:
                    read = os.read(self._events, 1 << 16)
                except BlockingIOError:
                    break
                at = 0
                while at < len(read):
                    length, _version, _, _head, _mask, file, _process = _EVENT.unpack_from(read, at)
                    path = os.readlink(f"/proc/self/fd/{file}").removesuffix(" (deleted)")
                    if stat.S_ISREG(os.fstat(file).st_mode):
                        self._seen.add(Path(path))
                    os.close(file)
                    at += length


def _loopback_up() -> None:
    """What `ip link set lo up` does, by netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, 0x8913, request), 16)  # SIOCGIFFLAGS
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))  # SIOCSIFFLAGS, IFF_UP


def _own_name_service(room: Path) -> None:
    """Our name server, by DNS alone: other services would ask the host's own through a socket in its file system."""
    for path, text in (
        ("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
        ("/etc/nsswitch.conf", "hosts: files dns\n"),
    ):
        ours = room / Path(path).name
        ours.write_text(text)
        if os.path.exists(path):
            subprocess.run(["mount", "--bind", str(ours), os.path.realpath(path)], check=True)


def _counters() -> dict[str, int]:
    """What this namespace has sent, by any protocol to any address, and what it could not send for want of a route."""
    rows = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")]
    ipv4 = dict(zip(rows[0][1:], map(int, rows[1][1:]), strict=True))
    lines = Path("/proc/net/snmp6").read_text().splitlines() if os.path.exists("/proc/net/snmp6") else []
    ipv6 = {name: int(value) for name, value in map(str.split, lines)}
    return {
        "sent": ipv4["OutRequests"],
        "without_a_route": ipv4["OutNoRoutes"] + ipv6.get("Ip6OutNoRoutes", 0),
        "sent_by_ipv6": ipv6.get("Udp6OutDatagrams", 0) + ipv6.get("Ip6OutRequests", 0) - ipv6.get("Icmp6OutMsgs", 0),
    }


if __name__ == "__main__":
    sys.exit(main())
