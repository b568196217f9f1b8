# SPDX-License-Identifier: Apache-2.0
"""The steps of the test suite. Each is a function that raises when something is wrong."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gates.runner import ROOT, CheckFailed, Runner, tracked_files

NAMESPACE, NAME = "podferry", "live"
PLUGINS = "ansible_collections.podferry.live.plugins"
# Run by the node's own Python, 3.9 or later.
NODE_CODE = [
    f"plugins/module_utils/{part}"
    for part in ("_common", "_runtime", "_criu", "_ferry", "_store", "_archive", "_kubelet", "_node")
]
OLDEST_NODE_PYTHON = "3.9"
# The modules that use the fixture `other_lab`, in this order: the last takes it down.
SECOND_LAB = ("tests/e2e/test_kubelet_checkpoint.py", "tests/e2e/test_lab_lifecycle.py")
NO_TESTS = 5
# Whole matrices and hundreds of migrations take hours; CI asks for none.
LENGTHENED = ("PODFERRY_FAULTS", "PODFERRY_MIXED", "PODFERRY_WITNESS")
# Never in the built collection, whatever galaxy.yml says.
NOT_RELEASED = (
    "__pycache__",
    ".pyc",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".collections",
    ".venv",
    ".cache",
    ".git/",
    ".ci/",
    ".tar.gz",
)


def format_and_lint(run: Runner) -> None:
    """Python: one format, and ruff's rules of pyproject.toml."""
    run.all(("ruff", "format", "--no-cache", "--diff", "."), ("ruff", "check", "--no-cache", "."))


def yaml(run: Runner) -> None:
    """YAML style."""
    run.command("yamllint", "--strict", ".")


def shell(run: Runner) -> None:
    """shellcheck on every shell script, whatever its name; ansible-test looks at *.sh only."""
    scripts = []
    for path in tracked_files():
        if (ROOT / path).is_file() and not (ROOT / path).is_symlink():
            with (ROOT / path).open("rb") as handle:
                first = handle.readline(80)
            if first.startswith((b"#!/bin/sh", b"#!/usr/bin/env bash", b"#!/bin/bash")) or path.endswith(".sh"):
                scripts.append(path)
    run.command("shellcheck", "--external-sources", *scripts)


def ansible_lint(run: Runner) -> None:
    """The production profile, warnings included; no rule is skipped."""
    run.command("ansible-lint", "--offline", "--strict", "--profile", "production", env={"ANSIBLE_LINT_NODEPS": "1"})


def mypy(run: Runner) -> None:
    """Strict types: the engine and everything else in plugins/, the lab and its stand-in, the tools of the tests."""
    mypy = ("mypy", "--cache-dir", os.devnull)
    lab = sorted(
        path.parent.name
        for path in (ROOT / "roles/lab/files").glob("**/__init__.py")
        if path.parent.name.startswith("podferry_")
    )
    run.all(
        (*mypy, "-p", PLUGINS),
        (*mypy, "-p", "gates", "-p", "e2e.support"),
        (
            *mypy,
            "demo/demo.py",
            "tests/vm/smoke.py",
            "tests/vm/whole_seconds.py",
            "tests/vm/nfs.py",
            "tests/vm/store_tool.py",
        ),
        *((*mypy, "-p", package) for package in lab),
    )


def node_python(run: Runner) -> None:
    """Node code needs nothing newer than the oldest Python we promise."""
    present = [path for path in NODE_CODE if (ROOT / path).is_dir()]
    if not present:
        raise CheckFailed("no node code found")
    run.command("vermin", f"-t={OLDEST_NODE_PYTHON}-", "--no-tips", "--violations", "--eval-annotations", *present)


def unit(run: Runner) -> None:
    """Everything that needs no lab."""
    run.command(sys.executable, "-m", "pytest", "tests/unit", "tests/conformance", *run.pytest_args)


@contextmanager
def collection_tree() -> Iterator[Path]:
    """A copy of the project where Ansible expects a collection: <tmp>/ansible_collections/podferry/live."""
    with tempfile.TemporaryDirectory(prefix="podferry-tree-") as parent:
        tree = Path(parent) / "ansible_collections" / NAMESPACE / NAME
        for path in tracked_files():
            if path.startswith(".collections/"):
                continue
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, tree / path, follow_symlinks=False)
        yield tree


def provide_get_pip() -> None:
    """Give ansible-test a get-pip of ours where its own download would go (its host is not a package index)."""
    spec = importlib.util.find_spec("ansible_test")
    if not spec or not spec.submodule_search_locations:
        raise CheckFailed("ansible-test is not installed")
    source = Path(spec.submodule_search_locations[0], "_internal/python_requirements.py").read_text()
    for version in re.findall(r"\bpip='([0-9.]+)'", source):
        cached = Path.home() / f".ansible/test/cache/get_pip_{version.replace('.', '_')}.py"
        if not cached.exists():
            cached.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / "tests/gates/get_pip.py", cached)


def ansible_test(run: Runner) -> None:
    """ansible-test sanity, every test that applies. Each ignore entry must be one that we allow, with its reason."""
    ignores = sorted((ROOT / "tests/sanity").glob("ignore-*.txt"))
    for line in (line for path in ignores for line in path.read_text().splitlines()):
        if "#" not in line:
            raise CheckFailed(f"an ignore entry without a reason: {line}")
    provide_get_pip()
    with collection_tree() as tree:
        run.command(
            "ansible-test", "sanity", "--color", "no", "--truncate", "0", "--python", f"{sys.version_info[0]}.{sys.version_info[1]}",
            cwd=tree, env={"LC_ALL": "C.UTF-8", "PYTHONPATH": ""},
        )  # fmt: skip


def docs(run: Runner) -> None:
    """Documentation of plugins, modules and roles: links, markup, references."""
    with collection_tree() as tree:
        run.command(
            "antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "self", "--skip-rstcheck", str(tree),
            cwd=tree,
        )  # fmt: skip


def changelog(run: Runner) -> None:
    """Changelog fragments."""
    run.command("antsibull-changelog", "lint")


def build(run: Runner, tree: Path, target: Path) -> Path:
    """Build the collection of `tree` into `target` and return the archive."""
    run.command("ansible-galaxy", "collection", "build", "--output-path", str(target), cwd=tree, quiet=True)
    (archive,) = target.glob("*.tar.gz")
    return archive


def galaxy(run: Runner) -> None:
    """The collection builds, holds what a user needs, and none of our own clutter."""
    with collection_tree() as tree, tempfile.TemporaryDirectory() as target:
        archive = build(run, tree, Path(target))
        with tarfile.open(archive) as opened:
            names = opened.getnames()
        clutter = [name for name in names if any(part in f"{name}/" for part in NOT_RELEASED)]
        if clutter:
            raise CheckFailed(f"the archive holds {clutter}")
        missing = {"README.md", "meta/runtime.yml", "LICENSES/GPL-3.0-or-later.txt", "playbooks/migrate.yml"} - set(
            names
        )
        if missing:
            raise CheckFailed(f"the archive lacks {sorted(missing)}")
        print(f"{archive.name}: {len(names)} entries, {archive.stat().st_size / 1024:.0f} KiB")


def parse_everything(run: Runner, bin_dir: Path) -> None:
    """With the Ansible in `bin_dir`: every playbook parses by path in the plain clone; installed elsewhere, by FQCN; modules document themselves."""
    playbooks = sorted((ROOT / "playbooks").glob("*.yml"))
    modules = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
    if not playbooks or not modules:
        raise CheckFailed("no playbooks, or no modules")
    play, galaxy, doc = (str(bin_dir / name) for name in ("ansible-playbook", "ansible-galaxy", "ansible-doc"))
    run.command(play, "--syntax-check", *(str(path.relative_to(ROOT)) for path in playbooks), quiet=True)
    with collection_tree() as tree, tempfile.TemporaryDirectory(prefix="podferry-installed-") as installed:
        elsewhere = Path(installed)
        (elsewhere / "ansible.cfg").write_text("[defaults]\n")  # nobody's settings but Ansible's own
        env = {"ANSIBLE_COLLECTIONS_PATH": installed, "ANSIBLE_CONFIG": str(elsewhere / "ansible.cfg")}
        archive = build(run, tree, elsewhere)
        install = (galaxy, "collection", "install", "--offline", "-p", installed, str(archive))
        run.command(*install, cwd=elsewhere, env=env, quiet=True)
        names = [f"{NAMESPACE}.{NAME}.{path.stem}" for path in playbooks]
        run.command(play, "--syntax-check", *names, cwd=elsewhere, env=env, quiet=True)
        names = [f"{NAMESPACE}.{NAME}.{name}" for name in modules]
        run.command(doc, "--json", "-t", "module", *names, cwd=elsewhere, env=env, quiet=True)
    print(f"{len(playbooks)} playbooks by path and by FQCN, documentation of {len(modules)} modules")


def syntax(run: Runner) -> None:
    """Everything parses with the newest Ansible that this Python takes."""
    parse_everything(run, Path(sys.executable).parent)


def oldest(run: Runner) -> None:
    """The same with the oldest ansible-core that meta/runtime.yml promises, in an environment of its own."""
    required = re.search(r'requires_ansible: ">=(\d+\.\d+)\.', (ROOT / "meta/runtime.yml").read_text())
    if not required:
        raise CheckFailed("meta/runtime.yml names no oldest ansible-core")
    with tempfile.TemporaryDirectory(prefix="podferry-oldest-") as venv:
        run.command(sys.executable, "-m", "venv", venv)
        bin_dir = Path(venv) / "bin"
        run.command(
            str(bin_dir / "pip"),
            "install",
            "-q",
            f"ansible-core=={required[1]}.*",
            "-r",
            "meta/ee-requirements.txt",
            quiet=True,
        )
        parse_everything(run, bin_dir)


def end_to_end(run: Runner, *which: str, lab: str) -> None:
    """Tests on a lab of that name. The limit covers its first bring-up; a hang is ended with every thread's stack."""
    run.command(
        sys.executable,
        "-m",
        "pytest",
        *which,
        "-o",
        "timeout=1200",
        "-o",
        "faulthandler_timeout=1190",
        "--durations=15",
        *run.pytest_args,
        env={"PODFERRY_OWN_LAB": lab},
        timeout=6 * 3600 if any(name in os.environ for name in LENGTHENED) else 3600,
        # With -k one of the two steps may be left without a test; pytest says so.
        passing=(0, NO_TESTS) if run.pytest_args else (0,),
    )


def e2e(run: Runner) -> None:
    """Real migrations on the lab."""
    end_to_end(run, "tests/e2e", *(f"--ignore={path}" for path in SECOND_LAB), lab="e2e")


def second_lab(run: Runner) -> None:
    """What needs a second lab, with the newest runtimes, and what is done to labs themselves."""
    end_to_end(run, *SECOND_LAB, lab="e2e-second")


def molecule(run: Runner) -> None:
    """Every scenario: the default one (a pod moves), then one a role. They share one lab, which stays up between them."""
    scenarios = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))
    scenarios.sort(key=lambda name: name != "default")
    took: dict[str, float] = {}
    failed = []
    with tempfile.TemporaryDirectory(prefix="podferry-molecule-") as ephemeral:
        env = {"MOLECULE_EPHEMERAL_DIRECTORY": ephemeral}
        down = ("molecule", "destroy", "-s", "default")
        run.command(*down, env=env, timeout=300)
        try:
            for name in scenarios:
                started = time.monotonic()
                folder = {"MOLECULE_EPHEMERAL_DIRECTORY": f"{ephemeral}/{name}", "PODFERRY_MOLECULE_KEEP": "1"}
                try:
                    run.command("molecule", "test", "--destroy=never", "-s", name, env=folder, timeout=900)
                except CheckFailed as failure:
                    failed.append(f"{name}: {failure}")
                took[name] = time.monotonic() - started
        finally:
            run.command(*down, env=env, timeout=300)
    print(f"{len(scenarios)} scenarios: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in took.items()))
    if failed:
        raise CheckFailed("; ".join(failed))


STEPS: dict[str, Callable[[Runner], None]] = {
    "format": format_and_lint,
    "yaml": yaml,
    "shell": shell,
    "ansible-lint": ansible_lint,
    "mypy": mypy,
    "node-python": node_python,
    "unit": unit,
    "ansible-test": ansible_test,
    "docs": docs,
    "changelog": changelog,
    "galaxy": galaxy,
    "syntax": syntax,
    "oldest": oldest,
    "e2e": e2e,
    "second-lab": second_lab,
    "molecule": molecule,
}
