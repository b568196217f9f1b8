# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""A machine: systemd as PID 1 over a Debian root, in namespaces and cgroups of its own.

Three processes take part::

    supervisor   stays on the host as long as the machine runs; when it dies the kernel kills the machine
      stage      joins the cgroups, makes the namespaces, starts PID 1 inside them, ends
        init     mounts, pivots, becomes systemd (a child of the supervisor from then on)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import traceback
from pathlib import Path

from . import cgroups, command, keys, linux, network, process, ssh
from .spec import File, Lab, Machine

#: On the host's plain file system, not on the machine's overlay: container runtimes make overlays of their own there.
DATA = (
    "var/lib/containerd",
    "var/lib/containers",
    "var/lib/etcd",
    "var/lib/kubelet",
)

#: One folder of the host that all machines see, in place of a file server: there is no NFS client to be had.
SHARED = "srv/shared"

#: Below /proc/sys: each network, IPC, PID and UTS namespace has its own. CRIU writes some of them.
_OWN_SYSCTLS = (
    "net",
    "fs/mqueue",
    *(f"kernel/msg{name}" for name in ("max", "mnb", "mni", "_next_id")),
    *(f"kernel/shm{name}" for name in ("all", "max", "mni", "_next_id", "_rmid_forced")),
    *(f"kernel/{name}" for name in ("auto_msgmni", "sem", "sem_next_id", "ns_last_pid", "hostname", "domainname")),
)

#: Below /proc/sys: the kubelet insists on these values and would write them, for the whole host. A machine has copies.
_KUBELET_SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}

_DEVICES = (("null", 3, 0o666), ("zero", 5, 0o666), ("full", 7, 0o666), ("random", 8, 0o666), ("urandom", 9, 0o666))


def running(lab: Lab, machine: Machine) -> process.Identity | None:
    """The machine's PID 1, if it and its supervisor are alive."""
    found = process.read_identities(lab.pidfile(machine.name))
    if "init" in found and "supervisor" in found and found["init"].alive() and found["supervisor"].alive():
        return found["init"]
    return None


def ensure(lab: Lab, machine: Machine, timeout: float = 60.0) -> bool:
    """Boot the machine unless it runs; True when something was done.

    Raises LabError when its configuration changed since it was made: applying that would mean to throw it away.
    """
    _plant(lab, machine)
    changed = False
    init = running(lab, machine)
    if init is None or (
        machine.control and network.identity(f"/proc/{init.pid}/ns/net") != network.identity(lab.netns)
    ):
        stop(lab.name, lab.pidfile(machine.name), machine.name)
        ssh.close_masters(lab.state)
        _start(lab, machine)
        init = running(lab, machine)
        if init is None:
            raise command.LabError(f"{machine.name} did not start: {_said(lab, machine)}")
        changed = True
    if not machine.control:
        changed |= network.ensure_node(lab, machine, init.pid)
    _wait_booted(lab, machine, init, timeout)
    return changed


def stop(lab_name: str, pidfile: str, machine: str) -> bool:
    """Kill the machine as a power cut would; True when there was something to kill."""
    found = process.read_identities(pidfile)
    alive = [identity for identity in found.values() if identity.alive()]
    # PID 1 first: the supervisor's death would only repeat it.
    for key in ("init", "supervisor"):
        if key in found:
            found[key].kill()
    removed = cgroups.kill_and_remove(lab_name, machine)
    for identity in alive:
        if not identity.wait_gone(10):
            raise command.LabError(f"process {identity.pid} of {machine} does not end")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(pidfile)
    return bool(alive) or removed


def _plant(lab: Lab, machine: Machine) -> None:
    """Fill the upper layer of a new machine with the files that the role rendered for it."""
    directory = lab.directory(machine.name)
    planted = f"{directory}/planted.json"
    wanted = {"root": lab.root, "shared": SHARED, "files": [file._asdict() for file in machine.files]}
    if os.path.exists(planted):
        with Path(planted).open(encoding="utf-8") as handle:
            if json.load(handle) == wanted:
                return
        raise command.LabError(
            f"{machine.name} of lab {lab.name} was made from another root or configuration than the role has now; "
            f"run playbooks/lab.yml with -e lab_state=down -e lab_name={lab.name} first"
        )
    stop(lab.name, lab.pidfile(machine.name), machine.name)
    for name in ("upper", "work", "data"):
        shutil.rmtree(f"{directory}/{name}", ignore_errors=True)
    for name in ("upper", "work", "mnt", *(f"data/{path.replace('/', '-')}" for path in DATA)):
        os.makedirs(f"{directory}/{name}", exist_ok=True)
    os.makedirs(lab.shared, exist_ok=True)
    for file in [*machine.files, *keys.planted(lab, machine)]:
        _write(f"{directory}/upper", file)
    _same_directory_modes(f"{directory}/upper", lab.root)
    temporary = f"{planted}.new"
    with Path(temporary).open("w", encoding="utf-8") as handle:
        json.dump(wanted, handle)
    os.rename(temporary, planted)


def _write(upper: str, file: File) -> None:
    """Put one file into an upper layer; a link when its mode is ``link``."""
    path = os.path.join(upper, file.path)
    os.makedirs(os.path.dirname(path), mode=0o755 if not file.path.startswith("root/") else 0o700, exist_ok=True)
    if file.mode == "link":
        os.symlink(file.content, path)
        return
    with os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, int(file.mode, 8)), "w", encoding="utf-8"
    ) as handle:
        handle.write(file.content)


def _same_directory_modes(upper: str, lower: str) -> None:
    """Directories of an upper layer hide the lower ones' modes: take those over; /root is the role's to say."""
    for directory, _subdirectories, _files in os.walk(upper):
        below = lower + directory[len(upper) :]
        if os.path.isdir(below):
            shutil.copystat(below, directory)
            entry = os.stat(below)
            os.chown(directory, entry.st_uid, entry.st_gid)


def _start(lab: Lab, machine: Machine) -> None:
    """Start the supervisor and wait until PID 1 has become systemd."""
    directory = lab.directory(machine.name)
    argv = [sys.executable, "-B", "-m", __package__, "supervise", lab.state, machine.name]
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    }
    if cgroups.is_v2() and os.path.isdir("/run/systemd/system"):
        # The host's systemd is the only writer of the v2 tree: have it give us a part.
        argv = [
            "systemd-run", "--quiet", "--collect", f"--unit=podferry-lab-{lab.name}-{machine.name}", "--slice=system.slice",
            "--property=Delegate=yes", "--property=KillMode=mixed", "--property=OOMPolicy=continue", "--property=TasksMax=infinity",
            f"--property=StandardOutput=append:{directory}/supervisor.log", f"--property=StandardError=append:{directory}/supervisor.log",
            f"--setenv=PYTHONPATH={environment['PYTHONPATH']}", *argv,
        ]  # fmt: skip
    with Path(f"{directory}/supervisor.log").open("wb") as log:
        started = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            start_new_session=True,
            close_fds=True,
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if running(lab, machine):
                return
            if started.poll() not in (None, 0):
                break
            time.sleep(0.02)
    raise command.LabError(f"{machine.name} does not start: {_said(lab, machine)}")


def _wait_booted(lab: Lab, machine: Machine, init: process.Identity, timeout: float) -> None:
    """Wait until SSH answers."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if network.answers(lab.netns, machine.address, 22):
            return
        if not init.alive():
            break
        time.sleep(0.1)
    raise command.LabError(f"{machine.name} does not come up: {_said(lab, machine)}")


def _said(lab: Lab, machine: Machine) -> str:
    """The end of what supervisor and console said."""
    text = ""
    for name in ("supervisor.log", "console.log"):
        with (
            contextlib.suppress(FileNotFoundError),
            Path(f"{lab.directory(machine.name)}/{name}").open(encoding="utf-8", errors="replace") as handle,
        ):
            text += handle.read()[-1500:]
    return text


def supervise(lab: Lab, machine: Machine) -> int:
    """Body of the supervisor; returns PID 1's wait status when the machine ends."""
    linux.become_subreaper()
    paths = cgroups.create(lab.name, machine.name)
    report_read, report_write = os.pipe()
    go_read, go_write = os.pipe()
    stage = os.fork()
    if stage == 0:
        os.close(report_read)
        os.close(go_write)
        _guarded(_stage, lab, machine, paths, report_write, go_read)
    os.close(report_write)
    os.close(go_read)
    with os.fdopen(report_read) as report:
        text = report.read()
    os.waitpid(stage, 0)
    if not text:
        return 1
    init = int(text)
    process.write_identities(
        lab.pidfile(machine.name), {"supervisor": process.identify(os.getpid()), "init": process.identify(init)}
    )
    os.write(go_write, b"g")
    os.close(go_write)
    while True:
        pid, status = os.wait()
        if pid == init:
            cgroups.kill_and_remove(lab.name, machine.name)
            return os.waitstatus_to_exitcode(status) & 0xFF


def _guarded(function, *arguments) -> None:  # type: ignore[no-untyped-def]
    """Run the body of a forked child, which must never return into its parent's code."""
    try:
        function(*arguments)
        os._exit(0)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _stage(lab: Lab, machine: Machine, paths: list[str], report: int, go: int) -> None:
    cgroups.join(paths)
    kinds = linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC | linux.CLONE_NEWCGROUP | linux.CLONE_NEWPID
    if machine.control:
        linux.setns(lab.netns, linux.CLONE_NEWNET)
    else:
        kinds |= linux.CLONE_NEWNET
    linux.unshare(kinds)
    if machine.clock_offset and linux.has_namespace("time"):
        linux.unshare(linux.CLONE_NEWTIME)
        with Path("/proc/self/timens_offsets").open("w", encoding="ascii") as handle:
            handle.write(f"monotonic {machine.clock_offset} 0\nboottime {machine.clock_offset} 0\n")
    init = os.fork()
    if init == 0:
        os.close(report)
        _guarded(_init, lab, machine, go)
    os.write(report, str(init).encode())


def _init(lab: Lab, machine: Machine, go: int) -> None:
    if os.read(go, 1) != b"g":  # the supervisor is gone
        return
    linux.die_with_parent(signal.SIGKILL)
    os.setsid()
    os.umask(0o022)
    directory = lab.directory(machine.name)
    console = os.open(f"{directory}/console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    _mounts(lab, machine)
    linux.pivot_root(f"{directory}/mnt")
    linux.mount("", "/", "", linux.MS_REC | linux.MS_SHARED)  # the kubelet wants its mounts to propagate
    socket.sethostname(machine.name)
    null = os.open("/dev/null", os.O_RDONLY)
    for target, source in ((0, null), (1, console), (2, console)):
        os.dup2(source, target)
    os.closerange(3, 1024)
    # systemd reads PID 1's arguments as a kernel command line when it runs in a container.
    argv = ["/usr/lib/systemd/systemd"] + ([] if cgroups.is_v2() else ["SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"])
    os.execve(argv[0], argv, {"container": "lab", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "dumb"})


def _mounts(lab: Lab, machine: Machine) -> None:
    directory = lab.directory(machine.name)
    root = f"{directory}/mnt"
    safe = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    linux.mount(
        "overlay", root, "overlay", 0, f"lowerdir={lab.root},upperdir={directory}/upper,workdir={directory}/work"
    )
    for path in DATA:
        os.makedirs(f"{root}/{path}", exist_ok=True)
        linux.mount(f"{directory}/data/{path.replace('/', '-')}", f"{root}/{path}", "", linux.MS_BIND)
    os.makedirs(f"{root}/{SHARED}", exist_ok=True)
    linux.mount(lab.shared, f"{root}/{SHARED}", "", linux.MS_BIND)
    for source in [lab.images, *lab.bin_dirs]:
        _bind_readonly(source, root + source)
    linux.mount("proc", f"{root}/proc", "proc", safe)
    # What belongs to the machine's namespaces can be written, the rest is the host's.
    linux.mount(f"{root}/proc/sys", f"{root}/proc/sys", "", linux.MS_BIND)
    # So do these, which CRIU sets: they act on the machine's own PID and IPC namespaces.
    for name in ("ns_last_pid", "sem_next_id", "msg_next_id", "shm_next_id"):
        linux.mount(f"{root}/proc/sys/kernel/{name}", f"{root}/proc/sys/kernel/{name}", "", linux.MS_BIND)
    for name in _OWN_SYSCTLS:
        if os.path.exists(f"{root}/proc/sys/{name}"):
            linux.mount(f"{root}/proc/sys/{name}", f"{root}/proc/sys/{name}", "", linux.MS_BIND)
    linux.mount("", f"{root}/proc/sys", "", linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | safe)
    for name, value in _KUBELET_SYSCTLS.items():
        if os.path.exists(f"{root}/proc/sys/{name}"):
            copy = Path(f"{directory}/sysctl.{name.replace('/', '.')}")
            copy.write_text(f"{value}\n", encoding="ascii")
            linux.mount(str(copy), f"{root}/proc/sys/{name}", "", linux.MS_BIND)
    # CRI-O sets a limit of every controller that is on this list, and a machine has its own only.
    listed = Path("/proc/cgroups").read_text(encoding="ascii").splitlines(keepends=True)
    there = Path(f"{directory}/cgroups")
    there.write_text("".join(line for line in listed if not line.startswith("hugetlb")), encoding="ascii")
    linux.mount(str(there), f"{root}/proc/cgroups", "", linux.MS_BIND)
    if os.path.exists(f"{root}/proc/sysrq-trigger"):
        _bind_readonly(f"{root}/proc/sysrq-trigger", f"{root}/proc/sysrq-trigger")
    linux.mount("sysfs", f"{root}/sys", "sysfs", safe | linux.MS_RDONLY)
    cgroups.mount_inside(root)
    linux.mount("tmpfs", f"{root}/dev", "tmpfs", linux.MS_NOSUID, "mode=755,size=4m")
    for name, minor, mode in _DEVICES:
        os.mknod(f"{root}/dev/{name}", stat.S_IFCHR, os.makedev(1, minor))
        os.chmod(f"{root}/dev/{name}", mode)
    # The kernel's log is the host's. The kubelet only wants to be able to open it.
    os.mknod(f"{root}/dev/kmsg", stat.S_IFCHR | 0o644, os.makedev(1, 3))
    os.mknod(f"{root}/dev/tty", stat.S_IFCHR, os.makedev(5, 0))
    os.chmod(f"{root}/dev/tty", 0o666)
    with contextlib.suppress(OSError):
        os.mknod(f"{root}/dev/fuse", stat.S_IFCHR | 0o600, os.makedev(10, 229))
    os.mkdir(f"{root}/dev/net")
    with contextlib.suppress(OSError):
        os.mknod(f"{root}/dev/net/tun", stat.S_IFCHR | 0o666, os.makedev(10, 200))  # criu check looks for it
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        os.symlink(target, f"{root}/dev/{name}")
    os.mkdir(f"{root}/dev/pts")
    linux.mount(
        "devpts",
        f"{root}/dev/pts",
        "devpts",
        linux.MS_NOSUID | linux.MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=620,gid=5",
    )
    os.mkdir(f"{root}/dev/shm")
    linux.mount("tmpfs", f"{root}/dev/shm", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=1777")
    os.mkdir(f"{root}/dev/mqueue")
    linux.mount("mqueue", f"{root}/dev/mqueue", "mqueue", safe)
    linux.mount("tmpfs", f"{root}/run", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
    linux.mount("tmpfs", f"{root}/tmp", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=1777")


def _bind_readonly(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    linux.mount(source, target, "", linux.MS_BIND)
    linux.mount("", target, "", linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY)
