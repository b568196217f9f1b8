# SPDX-License-Identifier: Apache-2.0
"""The node's copy of the engine against a folder on disk."""

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
