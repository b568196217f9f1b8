# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""How modules reach the Kubernetes API: the options of kubernetes.core."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that plugin_utils/_kube_arguments.py has as a specification."""

    DOCUMENTATION = r"""
options:
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
"""
