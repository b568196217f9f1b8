#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hooks_info
short_description: Check the hooks of a migration
version_added: 0.1.0
description:
  - Checks the hooks that a user gave for a migration, and brings them to one form. All mistakes are told at once.
  - Runs none of them. The playbooks of this collection do, with the task files that use this module.
  - What it returns may hold secrets (headers of an HTTP call). Use C(no_log=true).
extends_documentation_fragment:
  - podferry.live._attributes
  - podferry.live._attributes.info_module
options:
  pre_migration:
    description:
      - Hooks to run before the migration. A list, or a list as JSON; empty text is an empty list.
      - Each is a mapping with one of C(tasks) (path of a task file on the controller), C(command) (list of words, run in a container of the pod;
        beside it C(container) and C(timeout) in seconds), and C(http) (mapping with C(url), C(method), C(body), C(headers), C(status), C(timeout),
        C(validate_certs), C(delegate_to)). Each may have a C(name), and C(no_log).
      - C($(podferry_migration.KEY)) in commands and in the texts of HTTP calls is replaced by that key of O(values).
    type: raw
  post_migration:
    description:
      - Hooks to run after the migration, in the same form.
    type: raw
  values:
    description:
      - What C($(podferry_migration.KEY)) stands for.
    type: dict
    default: {}
notes:
  - It is an action plugin; this file is its documentation.
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Check hooks
  podferry.live.hooks_info:
    pre_migration:
      - command: [sync]
        container: app
    post_migration:
      - http:
          url: http://$(podferry_migration.ip):8080/moved
          method: POST
    values:
      ip: 192.0.2.1
  register: hooks
  no_log: true
"""

RETURN = r"""
pre_migration:
  description: The hooks, with C(kind), C(title) and everything that they need.
  returned: success
  type: list
  elements: dict
post_migration:
  description: The hooks, in the same form.
  returned: success
  type: list
  elements: dict
titles:
  description: One line for each hook, without secrets.
  returned: success
  type: list
  elements: str
errors:
  description: What is wrong about the hooks. It repeats no value that may be a secret.
  returned: failure
  type: list
  elements: str
"""
