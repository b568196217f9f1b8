# SPDX-License-Identifier: Apache-2.0
"""The surveys ask for variables that the playbooks know, with the choices that the module takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES: list[dict[str, Any]] = yaml.safe_load((ROOT / "extensions/awx/job_templates.yml").read_text())[
    "controller_templates"
]


def options() -> dict[str, Any]:
    """The options of pod_migrate, and of the module that reads hooks, as their documentation has them."""
    found: dict[str, Any] = {}
    for module in ("hooks_info", "pod_migrate"):
        source = (ROOT / f"plugins/modules/{module}.py").read_text()
        documentation = source.split("DOCUMENTATION = ", 1)[1].split('"""')[1]
        found.update(yaml.safe_load(documentation)["options"])
    return found


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template["name"])
def test_playbook_exists(template: dict[str, Any]) -> None:
    assert (ROOT / "playbooks" / template["playbook"]).is_file()


@pytest.mark.parametrize(
    "question", [q for t in TEMPLATES for q in t.get("survey_spec", {}).get("spec", [])], ids=lambda q: q["variable"]
)
def test_question_is_an_option_with_its_choices(question: dict[str, Any]) -> None:
    option = options()[question["variable"]]
    if question["type"] == "multiplechoice":
        assert sorted(question["choices"]) == sorted(option["choices"])
        assert question["default"] == option.get("default", question["default"])
    assert bool(option.get("required")) <= question["required"]
