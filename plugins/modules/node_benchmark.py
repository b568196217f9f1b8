#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_benchmark
short_description: Measure what CRIU and runc alone take on a node
version_added: 0.1.0
description:
  - Dumps and restores a process of a given size, from tmpfs to tmpfs, with bare CRIU and with the node's runc. That is the floor under the
    downtime of a migration, on the same machine and in the same run.
  - Nothing of it is left on the node.
extends_documentation_fragment:
  - podferry.live._attributes
attributes:
  check_mode:
    support: full
    details:
      - Nothing is started in check mode, and nothing is measured.
  diff_mode:
    support: N/A
    details:
      - The module changes nothing that stays.
  idempotent:
    support: full
options:
  mib:
    description:
      - How much memory the process touches, in MiB; at least V(1).
    type: int
    default: 64
  rounds:
    description:
      - How often each is measured, at least once; the results are medians.
    type: int
    default: 3
  path:
    description:
      - Folder on a tmpfs for the process and its images.
    type: path
    default: /run/podferry
requirements:
  - root on the node, prepared by role P(podferry.live.node#role)
seealso:
  - module: podferry.live.node_verify
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Measure with a process of 256 MiB
  podferry.live.node_benchmark:
    mib: 256
  register: floor
"""

RETURN = r"""
criu:
  description: Medians of bare CRIU, in milliseconds; null in check mode.
  returned: success
  type: dict
  contains:
    dump_ms:
      description: C(criu dump) of a plain process.
      type: float
    restore_ms:
      description: C(criu restore) of it.
      type: float
runc:
  description: Medians of runc, in milliseconds; null in check mode.
  returned: success
  type: dict
  contains:
    dump_ms:
      description: C(runc checkpoint) of a container with the same process.
      type: float
    restore_ms:
      description: C(runc restore) of it.
      type: float
program:
  description: The Python program that was moved; it takes the MiB to touch and, optionally, a file to write to.
  returned: success
  type: str
"""

import os
import statistics
import typing as t
import uuid

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._common.errors import InvalidInput, PodferryError
from ..module_utils._node import benchmark, prepared, proof
from ..module_utils._runtime import facts, process


def median(times: t.Sequence[benchmark.Times]) -> dict[str, float]:
    """The medians of several rounds."""
    return {
        "dump_ms": statistics.median(entry.dump_ms for entry in times),
        "restore_ms": statistics.median(entry.restore_ms for entry in times),
    }


def measure(module: AnsibleModule) -> dict[str, t.Any]:
    """Measure both ways.

    :raises PodferryError: the node is not prepared for it, or something failed.
    """
    for name in ("mib", "rounds"):
        if module.params[name] < 1:
            raise InvalidInput(f"{name} is {module.params[name]}", "Give 1 or more.")
    result: dict[str, t.Any] = {"changed": False, "criu": None, "runc": None, "program": benchmark.PROGRAM}
    if module.check_mode:
        return result
    found = facts.collect(process.run)
    prepared.check(found)
    runtime = found["runtime"]
    tools = proof.Tools(runtime["oci"]["path"], found["criu"]["path"], "", runtime["cgroup_driver"] == "systemd")
    folder = os.path.join(module.params["path"], f"benchmark-{uuid.uuid4().hex[:12]}")
    try:
        with benchmark.Floor(tools, folder, module.params["mib"]) as floor:
            result["criu"] = median([floor.criu() for _round in range(module.params["rounds"])])
            result["runc"] = median([floor.runc() for _round in range(module.params["rounds"])])
    except OSError as error:
        raise PodferryError(str(error)) from error
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "mib": {"type": "int", "default": 64},
            "rounds": {"type": "int", "default": 3},
            "path": {"type": "path", "default": "/run/podferry"},
        },
        supports_check_mode=True,
    )
    try:
        result = measure(module)
    except PodferryError as error:
        module.fail_json(msg=f"{error.message}. {error.remedy}".strip(), **error.to_dict())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
