# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""The wire: a bridge in the control host's network namespace, one veth pair to each node, routes to pods.

Nothing is made in the host's namespace, not even for a moment: both ends of a pair are born inside.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
from pathlib import Path

from . import command, linux
from .spec import Lab, Machine

BRIDGE = "lab0"


def _is_netns(path: str) -> bool:
    """Whether a network namespace is bound at ``path`` (after a reboot it is an empty file again)."""
    with Path("/proc/self/mountinfo").open(encoding="utf-8") as handle:
        return any(line.split(" ")[4] == path and " - nsfs " in line for line in handle)


def identity(path: str) -> int:
    """Inode number of a namespace; 0 when there is none."""
    try:
        return Path(path).stat().st_ino
    except OSError:
        return 0


def inside(netns: str, *argv: str, check: bool = True) -> str:
    """Run a host program in a network namespace. ``nsenter``, as ``ip netns exec`` would hide /sys."""
    try:
        return command.run("nsenter", f"--net={netns}", *argv)
    except command.LabError:
        if check:
            raise
        return ""


def _hardware(machine: Machine) -> str:
    """A hardware address that stays: others remember it across a machine's restart."""
    return "02:00:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(machine.address).packed)


def _forward(netns: str) -> None:
    inside(netns, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")


def ensure_control(lab: Lab) -> bool:
    """The control host's namespace with the bridge and the routes. True when something was made."""
    changed = False
    if not _is_netns(lab.netns):
        with Path(lab.netns).open("ab"):
            pass
        pid = os.fork()
        if pid == 0:
            status = 1
            with contextlib.suppress(BaseException):
                linux.unshare(linux.CLONE_NEWNET)
                # The bind is made by this process' /proc entry, in the host's mount namespace, which we still share.
                linux.mount("/proc/self/ns/net", lab.netns, "", linux.MS_BIND)
                status = 0
            os._exit(status)
        if os.waitpid(pid, 0)[1] != 0:
            raise command.LabError(f"cannot make the network namespace {lab.netns}; the lab wants root")
        changed = True
    if BRIDGE not in inside(lab.netns, "ip", "-o", "link", "show"):
        inside(lab.netns, "ip", "link", "set", "lo", "up")
        inside(lab.netns, "ip", "link", "add", BRIDGE, "address", _hardware(lab.control), "type", "bridge")
        inside(lab.netns, "ip", "addr", "add", f"{lab.control.address}/{lab.prefix_length}", "dev", BRIDGE)
        inside(lab.netns, "ip", "link", "set", BRIDGE, "up")
        _forward(lab.netns)
        for machine in lab.machines:
            if machine.pod_subnet:
                inside(lab.netns, "ip", "route", "replace", machine.pod_subnet, "via", machine.address)
        changed = True
    return changed


def ensure_node(lab: Lab, machine: Machine, pid: int) -> bool:
    """Connect a node whose first process is ``pid``. True when something was made."""
    node = f"/proc/{pid}/ns/net"
    peer = f"to-{machine.name}"[:15]
    address = f"{machine.address}/{lab.prefix_length}"
    if address in inside(node, "ip", "-o", "addr", "show", "dev", "eth0", check=False) and inside(
        lab.netns, "ip", "-o", "link", "show", "dev", peer, check=False
    ):
        return False
    # Half a wire: the other end may hang in the namespace of a bridge that is no longer ours.
    inside(lab.netns, "ip", "link", "del", peer, check=False)
    inside(node, "ip", "link", "del", "eth0", check=False)
    inside(lab.netns, "ip", "link", "add", peer, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    inside(node, "ip", "link", "set", "eth0", "address", _hardware(machine))
    inside(lab.netns, "ip", "link", "set", peer, "master", BRIDGE, "up")
    inside(node, "ip", "link", "set", "lo", "up")
    inside(node, "ip", "addr", "add", address, "dev", "eth0")
    inside(node, "ip", "link", "set", "eth0", "up")
    _forward(node)
    # No default route: what is neither node nor pod is unreachable, and says so at once.
    for other in lab.machines:
        if other.pod_subnet and other.name != machine.name:
            inside(node, "ip", "route", "replace", other.pod_subnet, "via", other.address)
    return True


def remove(netns: str) -> bool:
    """Let go of the control namespace; the kernel takes bridge, pairs and routes with it."""
    if not os.path.exists(netns):
        return False
    while _is_netns(netns):
        linux.umount(netns, linux.MNT_DETACH)
    os.unlink(netns)
    return True


def answers(netns: str, address: str, port: int, seconds: int = 1) -> bool:
    """Whether something in the lab accepts connections."""
    done = subprocess.run(
        ["nsenter", f"--net={netns}", "nc", "-z", "-w", str(seconds), address, str(port)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    return done.returncode == 0
