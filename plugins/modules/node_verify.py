#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_verify
short_description: Prove a node by a real dump and a real frozen restore
version_added: 0.1.0
description:
  - Starts a small counting process in a container of its own, freezes and dumps it, kills it, restores it so that it stands frozen, checks
    that it stands, thaws it, and checks that it counts on with the very next number.
  - A second one does the same with a listening TCP and a UDP socket. When only that one fails, the module warns that only pods without
    network sockets can move (Linux 6.16 and later with CRIU before 4.2).
  - It goes the way of a migrated pod, with the installed action script and the OCI runtime of the node, but without the container runtime
    and without the cluster. Nothing of it is left on the node.
extends_documentation_fragment:
  - podferry.live._attributes
attributes:
  check_mode:
    support: full
    details:
      - In check mode the facts are compared only; nothing is started.
  diff_mode:
    support: N/A
    details:
      - The module changes nothing that stays.
  idempotent:
    support: full
options:
  path:
    description:
      - Folder on a tmpfs for the proof's files.
    type: path
    default: /run/podferry
requirements:
  - root on the node, prepared by role P(podferry.live.node#role)
seealso:
  - module: podferry.live.node_info
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Prove the node
  podferry.live.node_verify:
  register: proof

- name: Show what it took
  ansible.builtin.debug:
    msg: "dump {{ proof.proof.dump_ms }} ms, restore {{ proof.proof.restore_ms }} ms"
"""

RETURN = r"""
proof:
  description: What was measured; null in check mode.
  returned: success
  type: dict
  contains:
    dump_ms:
      description: Duration of the dump in milliseconds.
      type: float
    restore_ms:
      description: Duration of the restore, until the process stands frozen, in milliseconds.
      type: float
    image_bytes:
      description: Size of CRIU's images.
      type: int
    ticks:
      description: How far the process counted before the freeze, and how far after the thaw.
      type: dict
network_sockets:
  description: The same, of the process with network sockets; with V(ok) false and the reason when it failed.
  returned: success
  type: dict
  sample: {ok: false, reason: "CRIU could not dump container verify: ..."}
features:
  description: What CRIU says of optional features of itself and of the kernel.
  returned: success
  type: dict
  sample: {mem_dirty_track: false, uffd: true}
facts:
  description: The node's facts, as M(podferry.live.node_info) returns them.
  returned: success
  type: dict
phase:
  description: The step that failed, one of start, freeze, dump, kill, restore and thaw.
  returned: failure
  type: str
"""

import os
import sys
import typing as t
import uuid

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._common.errors import PodferryError
from ..module_utils._node import prepared, proof
from ..module_utils._runtime import facts, process


def new_folder(module: AnsibleModule) -> str:
    """Return the folder of one proof."""
    return os.path.join(module.params["path"], f"verify-{uuid.uuid4().hex[:12]}")


def sockets(module: AnsibleModule, tools: proof.Tools) -> dict[str, t.Any]:
    """Prove a process with network sockets, too; that it fails is worth a warning."""
    command = proof.counter_with_sockets(sys.executable)
    if command is None:
        return {"ok": None, "reason": f"{sys.executable} is outside of the system's folders"}
    try:
        with proof.Proof(tools, new_folder(module), command) as attempt:
            return {"ok": True, **attempt.run()}
    except PodferryError as error:
        remedy = "Linux 6.16 and later need CRIU 4.2 or later for them."
        module.warn(f"pods with network sockets cannot leave this node: {error.message}. {remedy}")
        return {"ok": False, "reason": error.message, "phase": error.phase, "remedy": remedy}


def verify(module: AnsibleModule) -> dict[str, t.Any]:
    """Prove the node."""
    found = facts.collect(process.run)
    prepared.check(found)
    runtime, criu = found["runtime"], found["criu"]["path"]
    result: dict[str, t.Any] = {"changed": False, "facts": found, "features": proof.features(criu), "proof": None}
    result["network_sockets"] = None
    if not module.check_mode:
        tools = proof.Tools(runtime["oci"]["path"], criu, prepared.ACTION, runtime["cgroup_driver"] == "systemd")
        with proof.Proof(tools, new_folder(module)) as attempt:
            result["proof"] = attempt.run()
        result["network_sockets"] = sockets(module, tools)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "default": "/run/podferry"}},
        supports_check_mode=True,
    )
    try:
        result = verify(module)
    except PodferryError as error:
        where = f" ({error.phase})" if error.phase else ""
        module.fail_json(msg=f"{error.message}{where}. {error.remedy}".strip(), **error.to_dict())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
