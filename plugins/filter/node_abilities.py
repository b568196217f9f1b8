# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: node_abilities
short_description: Table of what nodes can do
version_added: 0.1.0
description:
  - Makes a table, with the reasons below it, out of what M(podferry.live.node_info) returned for several nodes.
positional: _input
options:
  _input:
    description:
      - Host name to what M(podferry.live.node_info) returned with O(podferry.live.node_info#module:abilities=true).
    type: dict
    required: true
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Show what the nodes can do
  ansible.builtin.debug:
    msg: "{{ ({'worker-1': first, 'worker-2': second} | podferry.live.node_abilities).splitlines() }}"
"""

RETURN = r"""
_value:
  description: The table, one line a node, then one line a reason.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._plan import abilities


def node_abilities(nodes: Any) -> str:
    """Make the table."""
    if not isinstance(nodes, Mapping):
        raise AnsibleFilterError("node_abilities needs a dictionary: host name to the result of node_info")
    for name, found in nodes.items():
        if not isinstance(found, Mapping) or not {"facts", "abilities"} <= set(found):
            raise AnsibleFilterError(
                f"the result of {name} is not that of podferry.live.node_info with abilities: true"
            )
    return abilities.table(nodes)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Name to function."""
        return {"node_abilities": node_abilities}
