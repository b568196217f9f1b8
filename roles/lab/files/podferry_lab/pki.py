# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""Keys, certificates and kubeconfigs of a real control plane, made once with openssl in ``<state>/kubernetes``.

One authority signs everything. Who somebody is for RBAC and the Node authorizer is in the subject: CN is the user,
O the group.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path
from typing import NamedTuple

from . import command
from .spec import Lab

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_DAYS = "3650"


class _Certificate(NamedTuple):
    subject: str
    #: Subject alternative names as openssl writes them (``IP:…``, ``DNS:…``).
    names: list[str]


def directory(lab: Lab) -> Path:
    """Where everything is."""
    return Path(lab.state) / "kubernetes"


def _certificates(lab: Lab) -> dict[str, _Certificate]:
    server = [f"IP:{address}" for address in ("127.0.0.1", lab.control.address, lab.api_service_address)]
    server += [f"DNS:{name}" for name in ("localhost", lab.control.name, "kubernetes", "kubernetes.default.svc")]
    wanted = {
        "apiserver": _Certificate("/CN=kube-apiserver", server),
        "apiserver-kubelet-client": _Certificate("/CN=lab-kube-apiserver-kubelet-client", []),
        "admin": _Certificate("/O=system:masters/CN=lab-admin", []),
        "controller-manager": _Certificate("/CN=system:kube-controller-manager", []),
        "scheduler": _Certificate("/CN=system:kube-scheduler", []),
    }
    for machine in lab.machines:
        if not machine.control:
            names = [f"IP:{machine.address}", f"DNS:{machine.name}"]
            wanted[f"kubelet-{machine.name}"] = _Certificate(f"/O=system:nodes/CN=system:node:{machine.name}", names)
    return wanted


def ensure(lab: Lab) -> bool:
    """Make what is missing; True when something was made. Raises LabError."""
    place = directory(lab)
    place.mkdir(mode=0o700, exist_ok=True)
    changed = False
    if not (place / "ca.crt").exists():
        command.run(
            "openssl", "req", "-x509", *_CURVE, "-days", _DAYS, "-subj", f"/CN=podferry lab {lab.name}",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", f"{place}/ca.key", "-out", f"{place}/ca.crt",
        )  # fmt: skip
        changed = True
    if not (place / "service-account.pub").exists():
        command.run("openssl", "genrsa", "-out", f"{place}/service-account.key", "2048")
        command.run(
            "openssl", "rsa", "-in", f"{place}/service-account.key", "-pubout", "-out", f"{place}/service-account.pub"
        )
        changed = True
    for name, certificate in _certificates(lab).items():
        changed |= _sign(place, name, certificate)
    inside = f"https://{lab.control.address}:6443"
    for user in (
        "controller-manager",
        "scheduler",
        *(f"kubelet-{one.name}" for one in lab.machines if not one.control),
    ):
        changed |= _kubeconfig(place / f"{user}.kubeconfig", place, user, inside)
    return changed | _kubeconfig(Path(lab.state) / "kubeconfig", place, "admin", f"https://127.0.0.1:{lab.api_port}")


def _sign(place: Path, name: str, certificate: _Certificate) -> bool:
    if (place / f"{name}.crt").exists():
        return False
    extensions = ["basicConstraints=CA:FALSE", "keyUsage=digitalSignature", "extendedKeyUsage=serverAuth,clientAuth"]
    if certificate.names:
        extensions.append("subjectAltName=" + ",".join(certificate.names))
    request, extension_file = place / f"{name}.csr", place / f"{name}.ext"
    extension_file.write_text("\n".join(extensions) + "\n", encoding="ascii")
    command.run(
        "openssl", "req", *_CURVE, "-subj", certificate.subject, "-keyout", f"{place}/{name}.key", "-out", str(request)
    )  # fmt: skip
    command.run(
        "openssl", "x509", "-req", "-in", str(request), "-CA", f"{place}/ca.crt", "-CAkey", f"{place}/ca.key",
        "-set_serial", str(secrets.randbits(63)), "-days", _DAYS, "-extfile", str(extension_file), "-out", f"{place}/{name}.crt.new",
    )  # fmt: skip
    os.replace(f"{place}/{name}.crt.new", f"{place}/{name}.crt")
    request.unlink()
    extension_file.unlink()
    return True


def _kubeconfig(path: Path, place: Path, user: str, server: str) -> bool:
    """Write a kubeconfig (JSON is YAML) with everything embedded; True when it changed."""

    def embed(name: str) -> str:
        return base64.b64encode((place / name).read_bytes()).decode()

    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority-data": embed("ca.crt")}}],
        "users": [
            {
                "name": user,
                "user": {"client-certificate-data": embed(f"{user}.crt"), "client-key-data": embed(f"{user}.key")},
            }
        ],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user, "namespace": "default"}}],
        "current-context": "lab",
    }
    text = json.dumps(content, indent=2) + "\n"
    if path.exists() and path.read_text(encoding="ascii") == text:
        return False
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as handle:
        handle.write(text)
    return True
