# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""From options in the style of kubernetes.core to a transport, with the ``kubernetes`` client's own loader."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import KubeSetupError

_ENV = {
    "kubeconfig": "K8S_AUTH_KUBECONFIG",
    "context": "K8S_AUTH_CONTEXT",
    "host": "K8S_AUTH_HOST",
    "api_key": "K8S_AUTH_API_KEY",
    "username": "K8S_AUTH_USERNAME",
    "password": "K8S_AUTH_PASSWORD",
    "validate_certs": "K8S_AUTH_VERIFY_SSL",
    "ca_cert": "K8S_AUTH_SSL_CA_CERT",
    "client_cert": "K8S_AUTH_CERT_FILE",
    "client_key": "K8S_AUTH_KEY_FILE",
    "proxy": "K8S_AUTH_PROXY",
    "no_proxy": "K8S_AUTH_NO_PROXY",
}
_FALSE = ("0", "false", "no", "off")


@dataclass(frozen=True)
class AuthOptions:
    """How to reach the API; the names, the environment fallbacks and their order are those of kubernetes.core."""

    kubeconfig: Any = None  # a path, or the parsed file itself
    context: str | None = None
    host: str | None = None
    api_key: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    validate_certs: bool | None = None
    ca_cert: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    proxy: str | None = None
    no_proxy: str | None = None

    @classmethod
    def from_params(cls, params: Mapping[str, Any], environ: Mapping[str, str]) -> AuthOptions:
        """Take what ``params`` gives; what is missing comes from the environment."""
        values: dict[str, Any] = {}
        for name, variable in _ENV.items():
            value = params.get(name)
            if value is None and environ.get(variable):
                value = environ[variable]
                if name == "validate_certs":
                    value = str(value).lower() not in _FALSE
            values[name] = value
        return cls(**values)


def configuration(options: AuthOptions) -> Any:
    """A ``kubernetes.client.Configuration`` for these options.

    Raises KubeSetupError when the client is not installed, when no kubeconfig is found and no
    host given, or when what is given cannot be read.
    """
    try:
        import kubernetes
    except ImportError as exc:
        raise KubeSetupError(
            f"the Python package 'kubernetes' cannot be imported on the controller: {exc}",
            "pip install 'kubernetes>=29,<37' for the Python that runs ansible-playbook",
        ) from exc

    result = kubernetes.client.Configuration()
    if options.host is None or options.kubeconfig is not None or options.context is not None:
        _load(kubernetes, result, options)
    if options.host is not None:
        result.host = options.host
    if options.api_key is not None:
        result.api_key = {"authorization": f"Bearer {options.api_key}"}
    if options.username is not None:
        result.username, result.password = options.username, options.password
    if options.validate_certs is not None:
        result.verify_ssl = options.validate_certs
    for name, target in (("ca_cert", "ssl_ca_cert"), ("client_cert", "cert_file"), ("client_key", "key_file")):
        value = getattr(options, name)
        if value is not None:
            path = os.path.expanduser(value)
            if not os.path.isfile(path):
                raise KubeSetupError(f"{name}={value} is not a file", f"give {name} as a path on the controller")
            setattr(result, target, path)
    if options.proxy is not None:
        result.proxy = options.proxy
    if options.no_proxy is not None:
        result.no_proxy = options.no_proxy
    return result


def _load(kubernetes: Any, result: Any, options: AuthOptions) -> None:
    """Fill ``result`` from a kubeconfig (dict or path) or, inside a pod, from the service account."""
    try:
        if isinstance(options.kubeconfig, dict):
            kubernetes.config.load_kube_config_from_dict(
                config_dict=options.kubeconfig,
                context=options.context,
                client_configuration=result,
                persist_config=False,
            )
            return
        path = os.path.expanduser(options.kubeconfig) if options.kubeconfig else None
        try:
            kubernetes.config.load_kube_config(
                config_file=path, context=options.context, client_configuration=result, persist_config=False
            )
        except kubernetes.config.ConfigException:
            if path is not None or options.context is not None:
                raise
            kubernetes.config.load_incluster_config(client_configuration=result)
    except Exception as exc:  # the loader lets YAML, OS, TLS and its own errors through
        raise KubeSetupError(
            f"no usable Kubernetes configuration: {exc}",
            "give kubeconfig= (and context=), or host= with api_key= or client_cert= and client_key=",
        ) from exc


def context_namespace(options: AuthOptions) -> str:
    """The namespace that the chosen context names, ``default`` when it names none."""
    if options.host is not None and options.kubeconfig is None and options.context is None:
        return "default"
    import kubernetes

    chosen: Mapping[str, Any]
    try:
        if isinstance(options.kubeconfig, dict):
            contexts = options.kubeconfig.get("contexts") or []
            wanted = options.context or options.kubeconfig.get("current-context")
            chosen = next((c for c in contexts if c.get("name") == wanted), {})
        else:
            path = os.path.expanduser(options.kubeconfig) if options.kubeconfig else None
            contexts, current = kubernetes.config.list_kube_config_contexts(config_file=path)
            chosen = next((c for c in contexts if c["name"] == options.context), {}) if options.context else current
        return str((chosen.get("context") or {}).get("namespace") or "default")
    except Exception:  # noqa: BLE001 - in a pod there is no kubeconfig: its own namespace then
        try:
            with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace", encoding="utf-8") as handle:
                return handle.read().strip() or "default"
        except OSError:
            return "default"
