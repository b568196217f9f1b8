# SPDX-License-Identifier: Apache-2.0
"""A store for checkpoints on NFS between two machines: roles, rights, a real checkpoint, and a server that goes away in the middle of a save.

`tests/vm/nfs` calls it. Both machines are emulated, and it does not care how slow that is; it says how long each step took.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.support import ticks
from vm import machines
from vm.machines import Machine, Qemu

ROOT = Path(__file__).resolve().parents[2]
CACHE = "/var/cache/podferry-lab"
GUEST = """systemd-sysv dbus linux-image-amd64 initramfs-tools zstd kmod udev iproute2 nftables procps util-linux openssh-server python3
    criu/testing libcompel1/testing libnet9/testing libnl-3-200/testing libnl-genl-3-200/testing runc/testing age nfs-kernel-server nfs-common"""
CARDS = {
    machines.SSH_CARD: machines.SSH_ADDRESS,
    "52:54:00:77:00:11": "10.77.0.11/24",
    "52:54:00:77:00:12": "10.77.0.12/24",
}
A, B = CARDS["52:54:00:77:00:11"][:-3], CARDS["52:54:00:77:00:12"][:-3]
#: On the same wire, and of no node.
OTHER = "10.77.0.99"
MOUNT, EXPORT = "/var/lib/podferry/nfs", "/srv/podferry"
#: What the client gives a silent server: nfs_client_timeout, three times.
PATIENCE = 30
INVENTORY = f"""
all:
  vars: {{ansible_user: root, ansible_ssh_common_args: -F {{work}}/ssh_config, ansible_ssh_pipelining: true, ansible_control_path_dir: {{work}},
          ansible_python_interpreter: /usr/bin/python3}}
  children:
    nodes: {{hosts: {{node-a: {{podferry_address: {A}}}, node-b: {{podferry_address: {B}}}}}}}
    nfs_servers: {{hosts: {{node-b: }}}}
"""
RECAP = re.compile(r"^\S+ +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=0 ", re.M)
PLACES = "/etc /var/lib/podferry /srv /usr/local"


def root(*packages: str) -> Path:
    """A Debian 13 root with these packages, from the lab's cache."""
    mirror = os.environ.get("PODFERRY_MIRROR", "http://deb.debian.org/debian")
    tool = [
        sys.executable,
        "-B",
        "-m",
        "podferry_lab",
        "root",
        "--cache",
        CACHE,
        "--suite",
        "trixie",
        "--mirror",
        mirror,
    ]
    made = subprocess.run([*tool, *packages], stdout=subprocess.PIPE, text=True, check=True)
    return Path(json.loads(made.stdout)["path"])


class Trial:
    """The two machines and what is done to them, in its order. Node-b is the server, too."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.a, self.b = self.made()

    def made(self) -> tuple[Machine, Machine]:
        """Both machines, switched off."""
        guest, qemu = root(*GUEST.split()), Qemu(root("qemu-system-x86"))
        code = "/opt/ansible_collections/podferry/live/plugins"
        tools = self.work / "tools"
        tools.mkdir()
        for tool in ("tests/vm/store_tool.py", "tests/vm/container", "roles/lab/files/images/counter.py"):
            shutil.copy(ROOT / tool, tools)
        files = {f"{code}/module_utils": ROOT / "plugins/module_utils", "/opt": tools}
        machines.make_image(guest, self.work / "node-a.img", CARDS, files, self.work)
        subprocess.run(
            ["cp", "--sparse=always", str(self.work / "node-a.img"), str(self.work / "node-b.img")], check=True
        )
        wires = ("server=on", "server=off,reconnect-ms=1000")
        both = tuple(
            Machine(name, card, machines.free_port(), wire, self.work, qemu, guest / "boot")
            for name, card, wire in zip(("node-a", "node-b"), list(CARDS)[1:], wires, strict=True)
        )
        machines.ssh_config(self.work, both)
        (self.work / "inventory.yml").write_text(INVENTORY.replace("{work}", str(self.work)))
        return both[0], both[1]

    def play(self, *flags: str) -> int:
        """Run playbooks/nfs.yml on them; how many tasks changed something."""
        done = subprocess.run(
            ["ansible-playbook", "-i", str(self.work / "inventory.yml"), "playbooks/nfs.yml", *flags],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_TIMEOUT": "60",
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        with (self.work / "plays.log").open("a") as log:
            log.write(done.stdout)
        recap = RECAP.findall(done.stdout)
        assert done.returncode == 0 and recap, done.stdout[-8000:]
        return sum(map(int, recap))

    def store(self, machine: Machine, *arguments: str, check: bool = True, timeout: float = 600) -> dict[str, Any]:
        """Call store_tool.py on a machine."""
        done = machine.run(store_command(*arguments), check=check, timeout=timeout)
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def state(self) -> dict[str, str]:
        """Names, owners, modes and contents of what the roles may touch, and which units are enabled, by machine."""
        line = f"find {PLACES} -xdev ! -path '*/cred*' -printf '%p %m %u %l\\n' -type f -exec sha256sum {{}} + | sort; "
        # systemd may be too busy to answer when all of it is emulated; no list is not an empty list.
        line += (
            "until systemctl list-unit-files --no-legend --state=enabled >/run/units; do sleep 5; done; sort /run/units"
        )
        return {machine.name: machine.run(line, timeout=900).stdout for machine in (self.a, self.b)}

    def boot(self) -> None:
        """Both come up, on cgroup v2, and see each other."""
        for machine in (self.a, self.b):
            machine.start()
        for machine in (self.a, self.b):
            machine.wait()
            machine.run("systemctl is-system-running --wait", check=False, timeout=1500)
            assert machine.run("stat -fc %T /sys/fs/cgroup").stdout.strip() == "cgroup2fs"
        print(f"Linux {self.a.run('uname -r').stdout.strip()}, cgroup v2", flush=True)
        until("node-a reaches node-b", lambda: self.a.run(f"ip route get {B}", check=False).returncode == 0, 60)

    def roles(self) -> None:
        """Check mode foretells and touches nothing; a run does it, a second one nothing."""
        before = self.state()
        foretold = self.play("--check", "--diff")
        assert self.state() == before, difference(before, self.state())
        changed = self.play()
        assert foretold > 0 and changed >= foretold, f"{foretold} changes were foretold, {changed} were made"
        again = self.play()
        assert again == 0, f"the second run changed {again}"
        assert self.play("--check") == 0
        print(f"note: {foretold} changes foretold, {changed} made, none by the second run", flush=True)

    def rights(self) -> None:
        """Root is squashed, the folder is the account's alone, others are refused, only version 4 is there."""
        self.a.run(f"echo secret >{MOUNT}/probe && chmod 0600 {MOUNT}/probe")
        uid = self.b.run("id -u podferry-store").stdout.strip()
        assert self.b.run(f"stat -c '%u %a' {EXPORT} {EXPORT}/probe").stdout.split() == [uid, "700", uid, "600"]
        # Root of node-a cannot give it away, nor take the folder: it is nobody but that account there.
        for command in (f"chown 0:0 {MOUNT}/probe", f"chown 0:0 {MOUNT}", f"mknod {MOUNT}/device b 1 1"):
            assert self.a.run(command, check=False).returncode != 0, command
        nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
        for machine, place in ((self.a, MOUNT), (self.b, MOUNT), (self.b, EXPORT)):
            refused = machine.run(f"{nobody} cat {place}/probe", check=False)
            assert refused.returncode != 0 and "Permission denied" in refused.stderr, (machine.name, place, refused)
        assert self.b.run(f"cat {MOUNT}/probe").stdout == "secret\n"
        self.a.run(f"rm {MOUNT}/probe")
        assert self.b.run("cat /proc/fs/nfsd/versions").stdout.split() == ["-3", "+4", "-4.0", "+4.1", "+4.2"]
        listening = self.b.run("ss -Hltun | awk '{ print $5 }'").stdout.split()
        assert any(address.endswith(":2049") for address in listening)
        assert not [
            address
            for address in listening
            if address.endswith(":111") and not address.startswith(("127.0.0.1:", "[::1]:"))
        ], listening
        old = self.a.run(
            f"mount -t nfs -o nfsvers=3,soft,timeo=20,retrans=1 {B}:{EXPORT} /mnt", check=False, timeout=200
        )
        assert old.returncode != 0

    def stranger(self) -> None:
        """Another address on the same wire is refused; that it is let in once it is exported to is the proof that this can fail."""
        card = self.a.run("ip -o -4 address show to 10.77.0.0/24 | awk '{ print $2 }' | head -n 1").stdout.strip()
        self.a.run(
            f"ip netns add other && ip link add link {card} name other0 netns other type macvlan mode bridge && "
            f"ip -n other address add {OTHER}/24 dev other0 && ip -n other link set other0 up && ip -n other link set lo up"
        )
        mount = f"mount -t nfs4 -o nfsvers=4.2,soft,timeo=100,retrans=1 {B}:{EXPORT} /mnt"
        for welcome in (False, True):
            if welcome:
                self.b.run(f"exportfs -o rw,no_subtree_check {OTHER}:{EXPORT}")
            mounted = self.a.run(f"ip netns exec other sh -c '{mount} && umount /mnt'", check=False)
            assert (mounted.returncode == 0) is welcome, mounted
        self.b.run(f"exportfs -u {OTHER}:{EXPORT}")
        self.a.run("ip netns del other")

    def across(self) -> None:
        """What one machine saves, the other sees at once and loads, byte by byte, both ways."""
        for number, (one, other) in enumerate(((self.a, self.b), (self.b, self.a))):
            identity = f"20260101T00000{number}Z-{number:012x}"
            one.run(
                "mkdir -p /run/state/counter/criu && cd /run/state && head -c 8388608 /dev/urandom >counter/criu/pages-1.img && "
                "echo x >counter/criu/core-1.img && tar -cf counter/rootfs.tar /etc/debian_version && echo '{}' >pod.json && echo '{}' >state.json"
            )
            assert identity not in self.store(other, "list")["ids"]
            saved = self.store(one, "save", identity, "/run/state")
            assert self.store(other, "list")["ids"][-1] == identity
            other.run("rm -rf /run/loaded && mkdir -m 0700 /run/loaded")
            loaded = self.store(other, "load", identity, "/run/loaded")
            sums = "find . -type f -exec sha256sum {} + | sort"
            assert one.run(f"cd /run/state && {sums}").stdout == other.run(f"cd /run/loaded && {sums}").stdout
            one.run("rm -r /run/state")
            print(
                f"note: 8 MiB saved on {one.name} in {saved['seconds']:.1f} s, loaded on {other.name} in {loaded['seconds']:.1f} s",
                flush=True,
            )

    def checkpoint(self) -> None:
        """A container that counts on node-a is dumped, stored, loaded on node-b and restored there; the original counts on."""
        self.a.run("sh /opt/container run")
        until("the counter counts", lambda: len(self.counted(self.a)) > 50, 120)
        self.a.run("mkdir -m 0700 /run/state && sh /opt/container dump /run/state")
        saved = self.store(self.a, "save", "20260102T000000Z-0000000000aa", "/run/state")
        self.b.run("rm -rf /run/loaded && mkdir -m 0700 /run/loaded")
        self.store(self.b, "load", "20260102T000000Z-0000000000aa", "/run/loaded")
        at = len(self.counted(self.a))
        self.b.run("sh /opt/container restore /run/loaded")
        arrived = self.counted(self.b)
        until("the copy counts on", lambda: len(self.counted(self.b)) > len(arrived) + 100, 120)
        until(
            "its memory was verified", lambda: "memory verified" in self.b.run("cat /run/counter/upper/log").stdout, 300
        )
        until("the original counts on", lambda: len(self.counted(self.a)) > at + 50, 120)
        print(
            f"note: dumped at tick {arrived[0].number}..{arrived[-1].number}, {saved['bytes']['stored']} bytes stored, restored on node-b; "
            "no tick lost or doubled on either",
            flush=True,
        )
        self.b.run("sh /opt/container end; rm -rf /run/loaded")

    def counted(self, machine: Machine) -> list[ticks.Tick]:
        """The counter's ticks on a machine; fails when one is lost or doubled."""
        log = machine.run("cat /run/counter/upper/log").stdout
        whole = log[: log.rfind("\n") + 1]
        return ticks.assert_unbroken(whole) if whole else []

    def server_gone(self) -> None:
        """The server loses its power in the middle of a save: an error within the time that was promised, nothing frozen, nothing half visible."""
        before = self.store(self.a, "list")["ids"]
        self.a.run("head -c 100663296 /dev/urandom >/run/state/counter/criu/pages-9.img", timeout=600)
        save = self.a.begin(store_command("save", "20260103T000000Z-0000000000bb", "/run/state"))
        written = f"find {EXPORT} -path '*0000000000bb*' -type f -size +1M | grep -q ."
        until("the save is under way", lambda: self.b.run(written, check=False).returncode == 0, 300, every=0.3)
        self.b.off()
        gone = time.monotonic()
        # A second save, which somebody kills: no process hangs in the kernel.
        time.sleep(5)
        other = self.a.begin(
            f"exec timeout -s KILL 8 {store_command('save', '20260103T000001Z-0000000000cc', '/run/state')}"
        )
        other.wait(timeout=60)
        killed = time.monotonic() - gone - 5
        assert not self.a.run("pgrep -f 0000000000c[c]", check=False).stdout, "what was killed still hangs"
        said = save.communicate(timeout=900)[0]
        failed = time.monotonic() - gone
        assert save.returncode == 1, said
        error = json.loads(said.splitlines()[-1])["error"]
        log = self.counted(self.a)
        silence = ticks.switchover(log[len(log) // 2 :]).ms
        print(
            f"note: the save failed {failed:.0f} s after the server ({error}); a process killed after 8 s was gone {killed:.0f} s after its start; "
            f"the counter's longest silence: {silence:.0f} ms",
            flush=True,
        )
        assert silence < 15000, "the workload stood still"
        assert failed < 4 * PATIENCE, "an error that comes so late is none"
        self.b.start()
        took = self.b.wait()
        until(
            "the server is back", lambda: self.store(self.a, "list", check=False).get("ids") is not None, 240, every=2
        )
        assert self.store(self.a, "list")["ids"] == before, "half a checkpoint is visible"
        saved = self.store(self.a, "save", "20260103T000002Z-0000000000dd", "/run/state")
        # The first mount after a boot may run out of its time when all is emulated; the next look tries again.
        until("it mounts itself", lambda: self.store(self.b, "list", check=False).get("ids") is not None, 240, every=2)
        assert self.store(self.b, "list")["ids"] == [*before, saved["id"]]
        self.b.run("mkdir -m 0700 /run/loaded")
        self.store(self.b, "load", saved["id"], "/run/loaded")
        print(
            f"note: it was up again {took:.0f} s after power came back; the same save then took {saved['seconds']:.0f} s",
            flush=True,
        )
        self.a.run("sh /opt/container end; rm -rf /run/state")

    def uninstall(self, before: dict[str, str]) -> None:
        """Checkpoints stay until they are purged; then the machines are what they were."""
        assert self.play("-e", "nfs_state=absent") > 0
        assert self.b.run(f"ls {EXPORT}/default/counter").stdout
        assert not self.a.run(f"grep {MOUNT} /proc/mounts", check=False).stdout
        assert not self.b.run("ss -Hltn 'sport = :2049'").stdout, "a server without exports still listens"
        assert self.play("-e", "nfs_state=absent", "-e", "nfs_server_purge=true") > 0
        assert self.play("-e", "nfs_state=absent") == 0
        left = difference(before, self.state())
        # A server that is stopped is disabled, too (the package had enabled it), and useradd keeps copies of what it changes.
        known = re.compile(r"nfs-server\.service|/etc/(passwd|group|shadow|gshadow)-( |$)")
        assert not [line for line in left if not known.search(line)], left

    def run(self) -> None:
        """All of it; raises at the first thing that is wrong."""
        with step("both machines boot"):
            self.boot()
        before = self.state()
        with step("roles: check mode, a run, a second run"):
            self.roles()
        with step("root squash, 0700, version 4 only"):
            self.rights()
        with step("others are refused"):
            self.stranger()
        with step("saved on one, loaded on the other"):
            self.across()
        with step("a container's checkpoint crosses through the store"):
            self.checkpoint()
        with step("the server goes away in the middle of a save, and comes back"):
            self.server_gone()
        with step("uninstall"):
            self.uninstall(before)


def store_command(*arguments: str) -> str:
    """How store_tool.py is called on a machine."""
    return " ".join(["env PYTHONPATH=/opt python3 -B /opt/store_tool.py", *arguments])


def difference(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Lines that came (+) or went (-), by machine."""
    found = []
    for name, text in before.items():
        one, two = set(text.splitlines()), set(after[name].splitlines())
        found += [f"{name}: -{line}" for line in sorted(one - two)] + [f"{name}: +{line}" for line in sorted(two - one)]
    return found


def until(what: str, true: Any, limit: float, every: float = 1) -> None:
    """Wait for something; fails when it does not come."""
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end, f"not within {limit} s: {what}"
        time.sleep(every)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say how a step ended, and after how long."""
    began = time.monotonic()
    print(f"begin: {name}", flush=True)
    yield
    print(f"ok: {name} ({time.monotonic() - began:.0f} s)", flush=True)


def main() -> int:
    """0 when all of it went well; machines that failed are switched off, and their disks and consoles stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", help="leave the machines on when it failed, to be looked at by ssh"
    )
    keep = parser.parse_args().keep
    began = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="podferry-nfs.", dir="/var/tmp"))
    trial = None
    try:
        with step("roots and disks"):
            trial = Trial(work)
        trial.run()
        failed = False
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        failed = True
    if trial and not (failed and keep):
        trial.a.off()
        trial.b.off()
    print(f"RESULT {'failed after' if failed else 'ok,'} {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(
            f"what is left of it: {work} (ssh -F {work}/ssh_config node-a)" if keep else f"what is left of it: {work}"
        )
    else:
        # Not rmtree: sockets of ssh that end meanwhile are no errors.
        subprocess.run(["rm", "-rf", str(work)], check=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
