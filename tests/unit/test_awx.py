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


MODULES = {
    "migrate.yml": ["hooks_info", "pod_migrate"],
    "drain.yml": ["node_drain"],
    "cancel.yml": ["pod_migration_cancel"],
    "checkpoint.yml": ["pod_checkpoint"],
    "restore.yml": ["criu_restore"],
}
OF_THE_PLAYBOOK = {"restore.yml": {"target": {}, "copies": {"type": "int"}}}
"""Variables that are no option of a module."""
QUESTIONS = [(t["playbook"], q) for t in TEMPLATES for q in t.get("survey_spec", {}).get("spec", [])]


def options(playbook: str) -> dict[str, Any]:
    """The options of the module behind a playbook, and of the one that reads hooks, as their documentation has them."""
    found: dict[str, Any] = dict(OF_THE_PLAYBOOK.get(playbook, {}))
    for module in MODULES[playbook]:
        source = (ROOT / f"plugins/modules/{module}.py").read_text()
        documentation = source.split("DOCUMENTATION = ", 1)[1].split('"""')[1]
        found.update(yaml.safe_load(documentation)["options"])
        found["store"] = {}  # by its name in podferry_stores
    return found


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template["name"])
def test_playbook_exists(template: dict[str, Any]) -> None:
    assert (ROOT / "playbooks" / template["playbook"]).is_file()


@pytest.mark.parametrize(("playbook", "question"), QUESTIONS, ids=[f"{p}-{q['variable']}" for p, q in QUESTIONS])
def test_question_is_an_option_with_its_choices(playbook: str, question: dict[str, Any]) -> None:
    option = options(playbook)[question["variable"]]
    if question["type"] == "multiplechoice":
        assert sorted(question["choices"]) == sorted(option["choices"])
    if question["type"] in ("multiplechoice", "integer"):
        assert question.get("default") == option.get("default", question.get("default"))
        assert (option["type"] == "int") == (question["type"] == "integer")
    assert bool(option.get("required")) <= question["required"]
