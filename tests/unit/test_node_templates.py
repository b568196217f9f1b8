# SPDX-License-Identifier: Apache-2.0
"""CRI-O's drop-in, rendered as the role does it and read as CRI-O's own output is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import yaml

from ansible_collections.podferry.live.plugins.module_utils._common import toml
from ansible_collections.podferry.live.plugins.module_utils._runtime import cri

ROLE = Path(__file__).resolve().parents[2] / "roles" / "crio"
DEFAULT: dict[str, Any] = {
    "name": "runc",
    "root": "/run/runc",
    "settings": {
        "runtime_path": "/usr/libexec/crio/runc",
        "runtime_type": "oci",
        "runtime_root": "/run/runc",
        "monitor_path": "/usr/libexec/crio/conmon",
        "monitor_cgroup": "system.slice",
        "allowed_annotations": ["io.kubernetes.cri-o.Devices"],
        "privileged_without_host_devices": True,
    },
}


def render(default: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(ROLE / "templates")), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["to_json"] = json.dumps
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    passed = {"crio_handler_default": default, "crio_handler_program": "/usr/local/libexec/podferry/podferry-runc"}
    return environment.get_template("handler.conf.j2").render(**variables, **passed)


def test_the_handler_inherits_everything_but_the_program() -> None:
    handler = cri.parse_crio(render(DEFAULT)).handlers[cri.HANDLER]
    assert handler.program == "/usr/local/libexec/podferry/podferry-runc"
    assert handler.root == "/run/runc"
    settings = dict(handler.settings)
    assert {key: settings.pop(key) for key in ("runtime_path", "runtime_type", "runtime_root")}
    inherited = {key: value for key, value in DEFAULT["settings"].items() if not key.startswith("runtime_")}
    assert settings == inherited


def test_a_default_of_defaults() -> None:
    rendered = toml.loads(render({"name": "runc", "root": "/run/runc", "settings": {}}))
    assert set(rendered["crio"]["runtime"]["runtimes"]) == {cri.HANDLER}
