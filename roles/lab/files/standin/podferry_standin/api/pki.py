# SPDX-License-Identifier: Apache-2.0
"""The lab's certificate authority: made once with openssl(1), in a directory only root reads.

Files: ca.crt ca.key, apiserver.{crt,key} (server, and client towards kubelets), admin.{crt,key},
kubelet-NAME.{crt,key} (server and client), token.secret; and the configurations that carry them to the machines:
apiserver.json and kubelet-NAME.json.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import subprocess
from pathlib import Path

_DAYS = "3650"


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make(directory: Path, server_addresses: list[str], nodes: dict[str, str]) -> bool:
    """Make what is missing; True if something was.

    :param server_addresses: addresses and names of the API server besides the loopback ones
    :param nodes: node name to its address
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    changed = False
    if not (directory / "ca.crt").exists():
        changed = True
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        files = ("-keyout", str(directory / "ca.key"), "-out", str(directory / "ca.crt"))
        extensions = (
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        )
        _openssl("req", "-x509", *key, "-days", _DAYS, "-subj", "/CN=podferry-lab", *extensions, *files)
    wanted = {
        "apiserver": (
            "/O=system:masters/CN=kube-apiserver",
            ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default.svc", *server_addresses],
        ),
        "admin": ("/O=system:masters/CN=podferry-lab-admin", []),
        **{
            f"kubelet-{name}": (f"/O=system:nodes/CN=system:node:{name}", [name, address])
            for name, address in nodes.items()
        },
    }
    for name, (subject, names) in wanted.items():
        changed = _certificate(directory, name, subject, names) or changed
    if not (directory / "token.secret").exists():
        _private(directory / "token.secret", secrets.token_hex(32).encode())
        changed = True
    return changed


def _certificate(directory: Path, name: str, subject: str, names: list[str]) -> bool:
    """One certificate, made again when the names it is for change."""
    note, purpose = directory / f"{name}.for", json.dumps([subject, names])
    if note.exists() and note.read_text() == purpose:
        return False
    key, request, extensions = directory / f"{name}.key", directory / f"{name}.csr", directory / f"{name}.ext"
    lines = [
        "basicConstraints=CA:FALSE",
        "subjectKeyIdentifier=hash",
        "authorityKeyIdentifier=keyid",
        "keyUsage=digitalSignature",
        "extendedKeyUsage=serverAuth,clientAuth",
    ]
    if names:
        lines.append(
            "subjectAltName=" + ",".join(("IP:" if _is_address(n) else "DNS:") + n for n in dict.fromkeys(names))
        )
    extensions.write_text("\n".join(lines) + "\n")
    _openssl(
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        str(key),
        "-subj",
        subject,
        "-out",
        str(request),
    )
    authority = (
        "-CA",
        str(directory / "ca.crt"),
        "-CAkey",
        str(directory / "ca.key"),
        "-set_serial",
        str(secrets.randbits(64)),
    )
    _openssl(
        "x509",
        "-req",
        "-in",
        str(request),
        *authority,
        "-days",
        _DAYS,
        "-extfile",
        str(extensions),
        "-out",
        str(directory / f"{name}.crt"),
    )
    request.unlink()
    extensions.unlink()
    key.chmod(0o600)
    note.write_text(purpose)
    return True


def _is_address(name: str) -> bool:
    return name.replace(".", "").isdigit() or ":" in name


def _private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def write_configurations(directory: Path, api: str, nodes: dict[str, str], runtimes: dict[str, str]) -> bool:
    """Write what each machine needs into one file; True if one changed.

    :param runtimes: CRI endpoints of nodes that run something else than containerd
    """

    def identity(name: str) -> dict[str, str]:
        files = {"ca": "ca.crt", "certificate": f"{name}.crt", "key": f"{name}.key"}
        return {key: (directory / file).read_text() for key, file in files.items()}

    wanted = {"apiserver": {**identity("apiserver"), "token_key": (directory / "token.secret").read_text()}}
    for name, address in nodes.items():
        known = {"node": name, "address": address, "api": api}
        if name in runtimes:
            known["runtime"] = runtimes[name]
        wanted[f"kubelet-{name}"] = {**identity(f"kubelet-{name}"), **known}
    changed = False
    for name, content in wanted.items():
        changed = _write(directory / f"{name}.json", json.dumps(content, indent=2) + "\n") or changed
    return changed


def _write(path: Path, text: str) -> bool:
    if path.exists() and path.read_text() == text:
        return False
    _private(path, text.encode())
    return True


def kubeconfig(directory: Path, server: str, user: str = "admin") -> str:
    """A kubeconfig (JSON is YAML) with everything embedded."""

    def embed(name: str) -> str:
        return base64.b64encode((directory / name).read_bytes()).decode()

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "podferry-lab", "cluster": {"server": server, "certificate-authority-data": embed("ca.crt")}}
        ],
        "users": [
            {
                "name": user,
                "user": {"client-certificate-data": embed(f"{user}.crt"), "client-key-data": embed(f"{user}.key")},
            }
        ],
        "contexts": [
            {"name": "podferry-lab", "context": {"cluster": "podferry-lab", "user": user, "namespace": "default"}}
        ],
        "current-context": "podferry-lab",
    }
    return json.dumps(config, indent=2) + "\n"


def write_kubeconfig(path: Path, directory: Path, server: str) -> bool:
    """Write the administrator's kubeconfig; True if it changed."""
    return _write(path, kubeconfig(directory, server))


def main() -> None:
    """Command line: make what is missing; prints ``changed`` or ``ok``."""
    parser = argparse.ArgumentParser(description="Keys and the kubeconfig of podferry's lab")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--address", action="append", default=[], help="an address of the API server")
    parser.add_argument("--node", action="append", default=[], metavar="NAME=ADDRESS")
    parser.add_argument("--server", required=True, help="the URL in the kubeconfig")
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--api", required=True, help="the URL for the nodes")
    parser.add_argument("--runtime", action="append", default=[], metavar="NODE=ENDPOINT", help="not containerd's")
    options = parser.parse_args()
    nodes = dict(item.split("=", 1) for item in options.node)
    changed = make(options.directory, options.address, nodes)
    changed = (
        write_configurations(
            options.directory, options.api, nodes, dict(item.split("=", 1) for item in options.runtime)
        )
        or changed
    )
    changed = write_kubeconfig(options.kubeconfig, options.directory, options.server) or changed
    print("changed" if changed else "ok")


if __name__ == "__main__":
    main()
