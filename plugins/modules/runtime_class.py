#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: runtime_class
short_description: The RuntimeClass of podferry
version_added: 0.1.0
description:
  - Makes the RuntimeClass be there whose handler is the one that role P(podferry.live.node#role) registers on the nodes, or removes it.
  - It has no overhead and no scheduling, because both would change the pods that name it.
  - Removing it is refused while pods in the cluster name it.
  - Works on the controller, through the Kubernetes API.
extends_documentation_fragment:
  - podferry.live._attributes
  - podferry.live._attributes.cluster
attributes:
  check_mode:
    support: full
    details:
      - Creation is tried with a server-side dry run.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - Name of the RuntimeClass and of its handler.
    type: str
    default: podferry
  state:
    description:
      - Whether it shall be there.
    type: str
    choices: [present, absent]
    default: present
  kubeconfig:
    description:
      - Path of a kubeconfig on the controller, or its content as a dictionary.
      - The environment variable E(K8S_AUTH_KUBECONFIG) is used when it is not given, then the places where C(kubectl) looks.
    type: raw
  context:
    description:
      - Context of the kubeconfig; E(K8S_AUTH_CONTEXT).
    type: str
  host:
    description:
      - URL of the API; E(K8S_AUTH_HOST).
    type: str
  api_key:
    description:
      - Bearer token; E(K8S_AUTH_API_KEY).
    type: str
  username:
    description:
      - User for basic authentication; E(K8S_AUTH_USERNAME).
    type: str
  password:
    description:
      - Password for basic authentication; E(K8S_AUTH_PASSWORD).
    type: str
  validate_certs:
    description:
      - Whether to check the certificate of the API; E(K8S_AUTH_VERIFY_SSL).
    type: bool
    aliases: [verify_ssl]
  ca_cert:
    description:
      - Path of the certificate authority; E(K8S_AUTH_SSL_CA_CERT).
    type: path
    aliases: [ssl_ca_cert]
  client_cert:
    description:
      - Path of a client certificate; E(K8S_AUTH_CERT_FILE).
    type: path
    aliases: [cert_file]
  client_key:
    description:
      - Path of its key; E(K8S_AUTH_KEY_FILE).
    type: path
    aliases: [key_file]
  proxy:
    description:
      - URL of an HTTP proxy; E(K8S_AUTH_PROXY).
    type: str
  no_proxy:
    description:
      - Hosts that are reached without the proxy; E(K8S_AUTH_NO_PROXY).
    type: str
requirements:
  - kubernetes >= 24.2.0 (Python, on the controller)
notes:
  - It is an action plugin; this file is its documentation.
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Make the RuntimeClass be there
  podferry.live.runtime_class:
    kubeconfig: ~/.kube/config
  run_once: true

- name: Remove it, if no pod uses it
  podferry.live.runtime_class:
    state: absent
  run_once: true
"""

RETURN = r"""
runtime_class:
  description: The RuntimeClass as it is (or in check mode would be) after the task, without the server's own fields; null when there is none.
  returned: success
  type: dict
pods:
  description: Pods that use the RuntimeClass, as C(namespace/name).
  returned: when the removal is refused
  type: list
  elements: str
"""
