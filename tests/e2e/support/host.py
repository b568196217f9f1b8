# SPDX-License-Identifier: Apache-2.0
"""What the host of a lab is like: taken before a lab came and after it went, the two must be equal."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from e2e.support.lab import Lab


def _said(*argv: str) -> list[str]:
    """Lines of a host program's output; none when the host has no such program."""
    if not shutil.which(argv[0]):
        return []
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def _processes(lab: Lab) -> set[str]:
    """Processes of this lab: in its cgroups, or named after its state directory."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            cgroups = (entry / "cgroup").read_text()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        mine = re.search(rf"{re.escape(str(lab.state))}(/|\s|$)", command) and "ansible-playbook" not in command
        if mine or f"podferry-lab.{lab.name}." in cgroups:
            found.add(f"process {entry.name} {command}")
    return found


def host_state(lab: Lab) -> set[str]:
    """Everything on the host that a lab could leave behind or bend; what belongs to other labs is left out."""
    found = _processes(lab)
    other = re.compile(rf"/podferry-lab/(?!{re.escape(lab.name)}[/ ])")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if not other.search(line):
            found.add("mount " + " ".join(line.split(" ")[3:]))
    # On v2 machines live in units of the host's systemd.
    for name in (f"podferry-lab.{lab.name}.*", f"podferry-lab-{lab.name}-*"):
        found |= {f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"**/{name}")}
    for argv in (
        ("ip", "-o", "link"), ("ip", "-o", "addr"), ("ip", "route", "show", "table", "all"), ("ip", "rule"),
        ("ip", "netns"), ("iptables-save",), ("nft", "list", "ruleset"), ("sysctl", "net.ipv4.ip_forward", "kernel.core_pattern"),
    ):  # fmt: skip
        # Times and counters change by themselves.
        found |= {f"{argv[0]} {re.sub(r'(valid_lft|preferred_lft) .*|#.*', '', line)}" for line in _said(*argv)}
    found |= {
        f"listener {line.split()[3]}" for line in _said("ss", "-Hltn") if line.split()[3].endswith(f":{lab.api_port}")
    }
    found |= {f"file {path}" for path in Path("/var/lib/podferry-lab").glob(lab.name)}
    return found
