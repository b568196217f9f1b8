# SPDX-License-Identifier: Apache-2.0
"""Emulated machines on one wire of their own: made from a Debian root of the lab's cache, reached by SSH over the loopback.

Each has two network cards. One is QEMU's user network with `restrict=on`: nothing gets out of the machine by it, only the host
gets in, to port 22. The other is a Unix socket between the two machines.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: Both machines' image has these files: a card's address decides which one it is.
SSH_CARD, SSH_ADDRESS = "52:54:00:15:00:02", "10.0.2.15/24"
NETWORK = "[Match]\nMACAddress={card}\n[Network]\nAddress={address}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"


@dataclass
class Qemu:
    """QEMU out of a Debian root, run by that root's own loader (Debian 12's miscompiles this kernel's cmpxchg16b)."""

    root: Path

    def command(self) -> list[str]:
        """How to call it."""
        libraries = self.root / "usr/lib" / f"{platform.machine()}-linux-gnu"
        data = self.root / "usr/share"
        return [
            *(str(self.root / "lib64/ld-linux-x86-64.so.2"), "--library-path", str(libraries)),
            str(self.root / "usr/bin/qemu-system-x86_64"),
            *("-L", str(data / "qemu"), "-L", str(data / "seabios")),
        ]


def make_image(root: Path, image: Path, cards: dict[str, str], files: dict[str, Path], keys: Path) -> None:
    """A disk image of `root`, with the addresses of `cards`, with `files` (path in the image -> folder), and SSH keys made in `keys`."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True)
    tree = image.with_suffix(".tree")
    subprocess.run(["cp", "-a", str(root), str(tree)], check=True)
    units = tree / "etc/systemd/system"
    for (
        path
    ) in units.iterdir():  # a lab's machine does without what reaches the kernel; this one has a kernel of its own
        if path.is_symlink() and os.readlink(path) == "/dev/null":
            path.unlink()
    # Keys are made here: that takes an emulated processor its time.
    for name in ("sshd-keygen.service", "apt-daily.timer", "apt-daily-upgrade.timer", "systemd-firstboot.service"):
        (units / name).symlink_to("/dev/null")
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")
    for number, (card, address) in enumerate(cards.items()):
        (tree / f"etc/systemd/network/{number}.network").write_text(NETWORK.format(card=card, address=address))
    ssh = tree / "etc/ssh"
    for suffix in ("", ".pub"):
        shutil.copy(keys / f"host{suffix}", ssh / f"ssh_host_ed25519_key{suffix}")
    (tree / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(keys / "user.pub", tree / "root/.ssh/authorized_keys")
    for place, folder in files.items():
        shutil.copytree(
            folder, tree / place.lstrip("/"), dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    with image.open("wb") as handle:
        handle.truncate(3 << 30)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(image)], check=True)
    shutil.rmtree(tree)


@dataclass
class Machine:
    """One machine; its disk lives as long as `work`."""

    name: str
    card: str
    port: int
    wire: str
    work: Path
    qemu: Qemu
    boot: Path
    memory: int = 1536
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def console(self) -> Path:
        """What it says on its serial line."""
        return self.work / f"{self.name}.console"

    @property
    def disk(self) -> Path:
        """Its disk image."""
        return self.work / f"{self.name}.img"

    def start(self) -> None:
        """Switch it on; does not wait."""
        kernel, initrd = (next(self.boot.glob(f"{part}-*")) for part in ("vmlinuz", "initrd.img"))
        # Where nothing is on time, nothing may be timed.
        append = "root=/dev/vda rw console=ttyS0 quiet panic=5 no_timer_check"
        append += " systemd.default_timeout_start_sec=900 systemd.default_device_timeout_sec=900"
        append += f" systemd.hostname={self.name} systemd.machine_id={self.card.replace(':', '') * 3:.32}"
        with self.console.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.qemu.command(),
                    *("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max", "-smp", "2", "-m", str(self.memory)),
                    *("-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio", "-append", append),
                    *("-kernel", str(kernel), "-initrd", str(initrd)),
                    *("-drive", f"file={self.disk},format=raw,if=virtio,cache=unsafe"),
                    *("-netdev", f"user,id=ssh,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
                    *("-device", f"virtio-net-pci,netdev=ssh,romfile=,mac={SSH_CARD}"),
                    *("-netdev", f"stream,id=wire,addr.type=unix,addr.path={self.work}/wire,{self.wire}"),
                    *("-device", f"virtio-net-pci,netdev=wire,romfile=,mac={self.card}"),
                    *("-device", "virtio-rng-pci"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, limit: float = 1500) -> float:
        """Wait until SSH answers; the seconds it took."""
        began = time.monotonic()
        while time.monotonic() - began < limit:
            assert self.process and self.process.poll() is None, f"{self.name} has ended: see {self.console}"
            # QEMU accepts whatever is behind; the server speaks first.
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                    if probe.recv(4) == b"SSH-":
                        return time.monotonic() - began
            except OSError:
                pass
            time.sleep(2)
        raise AssertionError(f"{self.name} did not answer within {limit} s: see {self.console}")

    def off(self) -> None:
        """Pull the plug."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None

    @property
    def ssh_command(self) -> list[str]:
        """How to call ssh, up to the remote command."""
        return ["ssh", "-F", str(self.work / "ssh_config"), self.name]

    def run(
        self, command: str, check: bool = True, timeout: float = 300, input: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command on it as root."""
        done = subprocess.run(
            [*self.ssh_command, command], capture_output=True, text=True, timeout=timeout, input=input, check=False
        )
        assert not check or done.returncode == 0, (
            f"{self.name}: {command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def begin(self, command: str) -> subprocess.Popen[str]:
        """Start a shell command on it as root."""
        return subprocess.Popen(
            [*self.ssh_command, command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def ssh_config(work: Path, machines: Sequence[Machine]) -> None:
    """Writes `work`/ssh_config for them; connections are kept and shared."""
    hosts = "".join(
        f"Host {machine.name}\n  HostName 127.0.0.1\n  Port {machine.port}\n  HostKeyAlias machine\n"
        for machine in machines
    )
    (work / "known_hosts").write_text(f"machine {(work / 'host.pub').read_text()}")
    (work / "ssh_config").write_text(
        f"{hosts}Host *\n  User root\n  IdentityFile {work}/user\n  IdentitiesOnly yes\n  UserKnownHostsFile {work}/known_hosts\n"
        "  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  PreferredAuthentications publickey\n  ConnectTimeout 60\n"
        f"  ServerAliveInterval 20\n  ControlMaster auto\n  ControlPath {work}/cp-%n\n  ControlPersist 120\n"
    )


def free_port() -> int:
    """A port of the loopback that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
