# SPDX-License-Identifier: Apache-2.0
"""The node's copy of the engine against a folder on disk."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.digest import engine_digest
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._node import engine

FILES = {"_common/a.py": "A = 1\n", "_ferry/b.py": "from .._common.a import A\n\nprint(A)\n"}
MODULE_UTILS = Path(__file__).parents[5] / "plugins" / "module_utils"


def test_install_repeat_update_remove(tmp_path: Path) -> None:
    root = tmp_path / "podferry"
    first = engine.compare(str(root), FILES)
    assert set(first.write) == set(FILES)
    engine.apply(str(root), first)
    assert not engine.compare(str(root), FILES).any
    program = "import podferry._ferry.b"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == "1\n"

    (root / "_common" / "stray.py").write_text("x", encoding="utf-8")
    (root / "README").write_text("x", encoding="utf-8")
    newer = {"_common/a.py": "A = 2\n"}
    changes = engine.compare(str(root), newer)
    assert dict(changes.write) == newer
    assert [name for name in changes.remove if "__pycache__" not in name] == [
        "README",
        "_common/stray.py",
        "_ferry/b.py",
    ]
    engine.apply(str(root), changes)
    assert not engine.compare(str(root), newer).any

    engine.remove(str(root))
    assert not root.exists()
    engine.remove(str(root))


def test_code_of_another_python_is_compiled_again(tmp_path: Path) -> None:
    engine.apply(str(tmp_path), engine.compare(str(tmp_path), FILES))
    for cached in tmp_path.rglob("*.pyc"):
        cached.rename(cached.with_name(cached.name.replace("cpython", "other")))
    changes = engine.compare(str(tmp_path), FILES)
    assert not changes.write
    assert list(changes.compile) == sorted(FILES)
    engine.apply(str(tmp_path), changes)
    assert not engine.compare(str(tmp_path), FILES).any


def test_the_copy_has_the_collections_digest(tmp_path: Path) -> None:
    files = engine.sources(str(MODULE_UTILS))
    assert "_common/errors.py" in files
    engine.valid(files)
    assert not any(name.startswith(("_kube", "_node")) for name in files)
    engine.apply(str(tmp_path), engine.compare(str(tmp_path), files))
    assert engine_digest(str(tmp_path)) == engine_digest(str(MODULE_UTILS))


@pytest.mark.parametrize("name", ["a.py", "/etc/a.py", "_common/../../a.py", "_kube/a.py", "_common/a.sh"])
def test_paths_outside_the_engine_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        engine.valid({name: ""})


def test_entry_points_are_executable_and_alone(tmp_path: Path) -> None:
    folder = tmp_path / "libexec" / "podferry"
    programs = {"front": "#!/bin/sh\nexit 7\n"}
    first = engine.compare_programs(str(folder), programs)
    engine.apply(str(folder), first)
    assert subprocess.run([str(folder / "front")], check=False).returncode == 7
    assert not engine.compare_programs(str(folder), programs).any
    (folder / "old").write_text("x", encoding="utf-8")
    (folder / "front").chmod(0o700)
    again = engine.compare_programs(str(folder), programs)
    assert (list(again.write), list(again.remove)) == (["front"], ["old"])
    engine.apply(str(folder), again)
    assert not engine.compare_programs(str(folder), programs).any


def test_a_strict_umask_does_not_hide_the_folders(tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        engine.apply(str(tmp_path / "a" / "b"), engine.compare(str(tmp_path / "a" / "b"), FILES))
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "a" / "b" / "_common" / "a.py").stat().st_mode) == 0o644
