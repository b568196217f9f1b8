#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: Facts of a Kubernetes node that matter to a live migration
version_added: 0.1.0
description:
  - Reads the versions of CRIU, runc or crun and the container runtime, the runtime's effective configuration, the kubelet's timeout, and the
    properties of processor, kernel and security modules that decide whether a pod can move between two nodes.
  - The same facts are taken in the preflight of a migration.
extends_documentation_fragment:
  - podferry.live._attributes
  - podferry.live._attributes.info_module
options:
  containers:
    description:
      - Also list the containers that run on the node, with which runtime they were created, and the migrations under way.
    type: bool
    default: false
  abilities:
    description:
      - Also find out what a checkpoint through the kubelet depends on, and which optional features CRIU and the kernel have.
        Starts the programs of the kubelet and of CRIU several times.
    type: bool
    default: false
  engine:
    description:
      - For RV(abilities), look at this container runtime instead of at the one that the kubelet uses.
    type: str
    choices: [containerd, crio]
requirements:
  - root on the node, for C(criu check) and for what F(/proc) shows of the runtime's own environment
seealso:
  - module: podferry.live.node_verify
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Read the node's facts
  podferry.live.node_info:
  register: node

- name: Refuse a node whose kernel does not suit CRIU
  ansible.builtin.assert:
    that: node.facts.criu.check_ok
    fail_msg: "{{ node.facts.criu.check }}"
"""

RETURN = r"""
facts:
  description: The facts. What the node does not have is null, false or empty.
  returned: success
  type: dict
  contains:
    hostname:
      description: Name that the kernel has.
      type: str
      sample: node-a
    arch:
      description: Machine architecture.
      type: str
      sample: x86_64
    kernel:
      description: Kernel release.
      type: str
      sample: 6.12.107+deb13-amd64
    cpu_model:
      description: Model name of the first processor.
      type: str
    cpu_flags:
      description: Features of the first processor, sorted.
      type: list
      elements: str
    mem_available:
      description: Memory that is available without swapping, in bytes.
      type: int
    disk_available:
      description: Bytes that root may still write in C(/var/lib), where copies of a pod's files wait; null when it cannot be told.
      type: int
    cgroup:
      description: Version of the cgroup hierarchy, V(v1) or V(v2).
      type: str
    criu:
      description: The C(criu) that the container runtime finds in its own PATH, its version, and what C(criu check) says.
      type: dict
      sample: {path: /usr/sbin/criu, version: [4, 1, 1], check_ok: true, check: ""}
    runtime:
      description: >-
        The container runtime that the kubelet uses: engine, version, its runc or crun, whether it has the handler C(podferry), its cgroup
        driver, whether its CRI answers, whether its containers live through a restart, which files of its configuration podferry has written,
        and whether a restart is due because one of them is newer than its process. When none runs, the files are those in the default places.
      type: dict
    engine:
      description: Digest of the installed node code, null when none is installed.
      type: str
    python:
      description: Major and minor version of the Python that ran this module.
      type: list
      elements: int
    age:
      description: Whether C(age) is installed, which encrypts checkpoints and what goes through a store.
      type: bool
    zstd:
      description: Whether C(zstd) is installed.
      type: bool
    apparmor_profiles:
      description: Loaded AppArmor profiles, null without AppArmor.
      type: list
      elements: str
    selinux:
      description: V(disabled), V(permissive) or V(enforcing).
      type: str
    time_namespaces:
      description: Whether the kernel has time namespaces.
      type: bool
    kubelet:
      description: The running kubelet's C(runtimeRequestTimeout) in seconds, null when no kubelet runs as a systemd service.
      type: dict
      sample: {runtime_request_timeout_s: 120.0}
    clock:
      description: The node's monotonic and real-time clocks in seconds.
      type: dict
containers:
  description: >-
    Running containers, sandboxes among them; also those of a container runtime that does not run itself, as long as it keeps its state in the
    default place.
  returned: when O(containers=true)
  type: list
  elements: dict
  contains:
    id:
      description: Id of the container.
      type: str
    pid:
      description: Its first process.
      type: int
    podferry:
      description: Whether it was created by the handler C(podferry).
      type: bool
abilities:
  description: What the node could do beyond a plain migration. What cannot be told is null, false or empty.
  returned: when O(abilities=true)
  type: dict
  contains:
    installed:
      description: Where systemd services would find the programs C(containerd), C(crio), C(runc), C(crun) and C(kubelet), null if nowhere.
      type: dict
    runtime:
      description: >-
        The running container runtime: its version, whether its CRI answers and has a checkpoint call, whether that is enabled, and
        the options about checkpoints that this version knows, with their effective values; about restarts as in RV(facts).
      type: dict
      sample:
        engine: crio
        version: 1.36.3
        answers: true
        restart_safe: true
        restart_due: false
        files: [/etc/crio/crio.conf.d/50-podferry.conf]
        checkpoint_call: true
        checkpoint: true
        settings: {enable_criu_support: true}
    kubelet:
      description: >-
        The running kubelet's version, its folder for drop-ins, whether a restart is due because the drop-in of role C(kubelet) is newer than
        its process, whether its feature gate C(ContainerCheckpoint) is on, and whether it would be without that drop-in.
      type: dict
      sample: {version: 1.36.2, config_dir: /etc/kubernetes/kubelet.conf.d, restart_due: false, checkpoint: true, checkpoint_elsewhere: true}
    criu:
      description: What C(criu check --feature) says of optional features.
      type: dict
      sample: {mem_dirty_track: true, pagemap_scan: true, uffd: true, uffd-noncoop: true}
runs:
  description: Migrations that have a state on the node. They are under way, or ended in a crash and the next run removes them.
  returned: when O(containers=true)
  type: list
  elements: str
"""

import glob
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._node import abilities
from ..module_utils._runtime import cri, facts, process, running

RUNS = "/run/podferry/runs"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "containers": {"type": "bool", "default": False},
            "abilities": {"type": "bool", "default": False},
            "engine": {"type": "str", "choices": ["containerd", "crio"]},
        },
        supports_check_mode=True,
    )
    found = facts.collect(process.run)
    result: dict[str, t.Any] = {"changed": False, "facts": found}
    if module.params["containers"]:
        listed = containers(found["runtime"])
        result["containers"] = [
            {"id": container.id, "pid": container.pid, "podferry": _is_ours(container.program)} for container in listed
        ]
        result["runs"] = [os.path.basename(path) for path in sorted(glob.glob(f"{RUNS}/*"))]
    if module.params["abilities"]:
        machine = facts.Probe(process.run)
        result["abilities"] = abilities.collect(machine, module.params["engine"] or "", found["criu"]["path"])
    module.exit_json(**result)


def containers(
    runtime: t.Mapping[str, t.Any], listing: t.Callable[[str, str], list[running.Running]] = running.running
) -> list[running.Running]:
    """Return what runs. Containers live on while their runtime does not, or cannot say where its state is."""
    known = {runtime["engine"]: runtime["state_dir"]} if runtime["state_dir"] else running.DEFAULT_STATE
    return [container for engine, folder in known.items() for container in listing(engine, folder)]


def _is_ours(program: str) -> bool:
    """containerd notes the program, CRI-O the handler's name."""
    return program == cri.HANDLER or program.endswith("/podferry-runc")


if __name__ == "__main__":
    main()
