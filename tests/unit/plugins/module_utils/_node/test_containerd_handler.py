# SPDX-License-Identifier: Apache-2.0
"""The handler's place in containerd's configuration, and the way back to the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common import toml
from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._node import containerd_handler as handler
from ansible_collections.podferry.live.plugins.module_utils._runtime import cri

CAPTURES = Path(__file__).parents[1] / "_runtime" / "captures"
PROGRAM = "/usr/local/libexec/podferry/podferry-runc"
NOTES = ["podferry.live/*"]
MAIN = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/50-podferry.toml"
DEBIAN = b"""version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
"""


def situation(
    *, version: list[int], files: dict[str, bytes], imports: list[str] | None = None, dump: str | None = None
) -> handler.Situation:
    name = "containerd-1.7.24-config-dump.toml" if version[0] == 1 else "containerd-2.1.9-config-dump.toml"
    text = dump or (CAPTURES / name).read_text(encoding="utf-8")
    if imports is not None:
        text = text.replace("imports = []", f"imports = {imports}")
    folders = {str(Path(path).parent) for path in files}
    return handler.Situation(version, cri.parse_containerd(text), MAIN, files.get, folders.__contains__)


def run(before: handler.Situation, present: bool) -> dict[str, handler.FileChange]:
    return {change.path: change for change in handler.plan(before, present, PROGRAM, NOTES)}


def table(content: bytes, plugin: str) -> dict:
    return toml.loads(content.decode())["plugins"][plugin]["containerd"]["runtimes"]["podferry"]


@pytest.mark.parametrize(
    "original",
    [
        DEBIAN,
        DEBIAN.rstrip(b"\n"),
        DEBIAN.replace(b"\n", b"\r\n"),
        b"",
        b"\n",
        b"version = 2",
        "version = 2 # é\n".encode(),
    ],
)
def test_the_block_goes_and_leaves_the_same_bytes(original: bytes) -> None:
    added = run(situation(version=[1, 7, 24], files={MAIN: original}), True)[MAIN].after
    assert added is not None
    assert added.startswith(original)
    assert added != original
    removed = run(situation(version=[1, 7, 24], files={MAIN: added}), False)[MAIN]
    assert removed.after == original


def test_a_missing_file_is_missing_again() -> None:
    added = run(situation(version=[1, 7, 24], files={}), True)[MAIN]
    assert added.before is None
    assert added.after is not None
    assert toml.loads(added.after.decode())["version"] == 2
    assert run(situation(version=[1, 7, 24], files={MAIN: added.after}), False)[MAIN].after is None
    # unless somebody has made it theirs
    theirs = added.after + b"[debug]\nlevel = 'info'\n"
    assert run(situation(version=[1, 7, 24], files={MAIN: theirs}), False)[MAIN].after == b"[debug]\nlevel = 'info'\n"


def test_again_changes_nothing_also_for_a_file_of_ours() -> None:
    for files in ({MAIN: DEBIAN}, {}):
        added = run(situation(version=[1, 7, 24], files=files), True)[MAIN].after
        assert added is not None
        assert not run(situation(version=[1, 7, 24], files={MAIN: added}), True)[MAIN].needed


def test_an_older_block_is_replaced_where_it_stands() -> None:
    added = run(situation(version=[1, 7, 24], files={MAIN: DEBIAN}), True)[MAIN].after
    assert added is not None
    edited = added.replace(b"podferry-runc", b"older-runc") + b"[debug]\n  level = 'info'\n"
    again = run(situation(version=[1, 7, 24], files={MAIN: edited}), True)[MAIN].after
    assert again == added + b"[debug]\n  level = 'info'\n"


def test_the_table_of_debian_13() -> None:
    added = run(situation(version=[1, 7, 24], files={MAIN: DEBIAN}), True)[MAIN].after
    assert added is not None
    assert table(added, "io.containerd.grpc.v1.cri") == {
        "runtime_type": "io.containerd.runc.v2",
        "pod_annotations": ["podferry.live/*"],
        "options": {"BinaryName": PROGRAM},
    }


def test_it_inherits_what_the_default_has() -> None:
    like = cri.Handler(
        "runc",
        cri.RUNC_V2,
        "/opt/runc",
        "",
        True,
        {
            "runtime_type": cri.RUNC_V2,
            "pod_annotations": ["a/*", "podferry.live/*"],
            "base_runtime_spec": "/etc/containerd/base.json",
            "runtime_engine": "old",
            "sandboxer": "podsandbox",
            "cni_max_conf_num": 0,
            "privileged_without_host_devices": True,
            "options": {"BinaryName": "/opt/runc", "SystemdCgroup": True, "Root": "", "IoUid": 0},
        },
    )
    text = handler.render_handler("io.containerd.cri.v1.runtime", like, PROGRAM, NOTES)
    assert table(text.encode(), "io.containerd.cri.v1.runtime") == {
        "runtime_type": cri.RUNC_V2,
        "pod_annotations": ["a/*", "podferry.live/*"],
        "base_runtime_spec": "/etc/containerd/base.json",
        "privileged_without_host_devices": True,
        "options": {"BinaryName": PROGRAM, "SystemdCgroup": True},
    }


@pytest.mark.parametrize(
    ("content", "schema", "plugin"),
    [
        (b"", 1, "cri"),
        (b"version=2\n", 2, "io.containerd.grpc.v1.cri"),
        (b"# x\nversion = 3\n", 3, "io.containerd.cri.v1.runtime"),
    ],
)
def test_the_block_speaks_the_schema_of_its_file(content: bytes, schema: int, plugin: str) -> None:
    assert handler.schema_of(content, 2) == schema
    added = run(situation(version=[1, 7, 24], files={MAIN: content}), True)[MAIN].after
    assert added is not None
    assert table(added, plugin)["options"] == {"BinaryName": PROGRAM}


def test_a_version_inside_a_table_is_not_the_files() -> None:
    assert handler.schema_of(b"[proxy]\nversion = 3\n", 2) == 1


def test_containerd_2_gets_a_file_where_it_imports_a_folder() -> None:
    before = situation(version=[2, 1, 9], files={MAIN: b"version = 3\n"}, imports=["/etc/containerd/conf.d/*.toml"])
    changes = run(before, True)
    assert not changes[MAIN].needed
    added = changes[DROP_IN].after
    assert added is not None
    assert table(added, "io.containerd.cri.v1.runtime")["options"] == {"BinaryName": PROGRAM}
    assert handler.NEW_FOLDER.encode() in added
    after = situation(
        version=[2, 1, 9], files={MAIN: b"version = 3\n", DROP_IN: added}, imports=["/etc/containerd/conf.d/*.toml"]
    )
    assert not run(after, True)[DROP_IN].needed
    gone = run(after, False)[DROP_IN]
    assert gone.after is None
    assert handler.made_folder(gone)


@pytest.mark.parametrize("others", [{}, {"/etc/containerd/certs": b""}])
def test_a_main_file_of_ours_goes_with_its_folder(others: dict[str, bytes]) -> None:
    added = run(situation(version=[1, 7, 24], files=others), True)[MAIN].after
    assert added is not None and handler.NEW_FILE.encode() in added
    again = situation(version=[1, 7, 24], files={**others, MAIN: added})
    assert not run(again, True)[MAIN].needed
    gone = run(again, False)[MAIN]
    assert gone.after is None
    assert handler.made_folder(gone) is not bool(others), "only a folder that came with it"


def test_a_folder_that_was_there_stays() -> None:
    files = {MAIN: b"version = 3\n", "/etc/containerd/conf.d/10-other.toml": b""}
    before = situation(version=[2, 1, 9], files=files, imports=["conf.d/*.toml"])
    added = run(before, True)[DROP_IN].after
    after = situation(version=[2, 1, 9], files={**files, DROP_IN: added or b""}, imports=["conf.d/*.toml"])
    assert not handler.made_folder(run(after, False)[DROP_IN])


def test_containerd_2_without_such_an_import_gets_the_block() -> None:
    for imports in ([], ["/etc/containerd/only-this.toml"]):
        changes = run(situation(version=[2, 1, 9], files={MAIN: b"version = 2\n"}, imports=imports), True)
        assert list(changes) == [MAIN]
        assert b'"io.containerd.grpc.v1.cri".containerd.runtimes.podferry' in (changes[MAIN].after or b"")


def test_containerd_1_never_gets_a_file() -> None:
    dump = (CAPTURES / "containerd-1.7.24-config-dump.toml").read_text(encoding="utf-8")
    dump = dump.replace('imports = ["/etc/containerd/config.toml"]', 'imports = ["/etc/containerd/conf.d/*.toml"]')
    changes = run(situation(version=[1, 7, 24], files={MAIN: DEBIAN}, dump=dump), True)
    assert list(changes) == [MAIN]


def test_after_an_upgrade_the_block_gives_way_to_the_file() -> None:
    block = run(situation(version=[1, 7, 24], files={MAIN: DEBIAN}), True)[MAIN].after
    changes = run(
        situation(version=[2, 1, 9], files={MAIN: block or b""}, imports=["/etc/containerd/conf.d/*.toml"]), True
    )
    assert changes[MAIN].after == DEBIAN
    assert changes[DROP_IN].after is not None


def config(handlers: dict[str, cri.Handler]) -> cri.CriConfig:
    runc = cri.Handler("runc", cri.RUNC_V2, "", "", True)
    return cri.CriConfig("containerd", 2, "/run/containerd", [], "runc", {"runc": runc, **handlers})


def test_what_containerd_does_not_see_is_said() -> None:
    ours = cri.Handler("podferry", cri.RUNC_V2, PROGRAM, "", True)
    bare, full = config({}), config({"podferry": ours})
    handler.check_effective(bare, full, True, PROGRAM)
    handler.check_effective(full, bare, False, PROGRAM)
    with pytest.raises(PodferryError, match="does not see"):
        handler.check_effective(bare, bare, True, PROGRAM)
    with pytest.raises(PodferryError, match="still has"):
        handler.check_effective(full, full, False, PROGRAM)
    other = cri.Handler("podferry", cri.RUNC_V2, PROGRAM, "", False)
    with pytest.raises(PodferryError, match="cgroup drivers"):
        handler.check_effective(bare, config({"podferry": other}), True, PROGRAM)


def effective(sandbox: str, ours: bool, written_out: bool = False) -> cri.CriConfig:
    """A configuration as containerd 2 dumps it."""
    plugin = 'plugins."io.containerd.cri.v1.runtime"'
    text = f'version = 3\n[{plugin}]\nsandbox = "{sandbox}"\n[{plugin}.containerd.runtimes.runc]\nruntime_type = "{cri.RUNC_V2}"\n'
    if written_out:
        text += f'sandboxer = "podsandbox"\nsnapshotter = ""\n[{plugin}.containerd.runtimes.runc.options]\nBinaryName = ""\n'
    if ours:
        text += f'[{plugin}.containerd.runtimes.podferry]\nruntime_type = "{cri.RUNC_V2}"\n'
        text += f'[{plugin}.containerd.runtimes.podferry.options]\nBinaryName = "{PROGRAM}"\n'
    return cri.parse_containerd(text)


def test_anything_else_that_changes_is_said() -> None:
    """As when containerd 2.1 imports a file of version 3 into one of version 2: it then ignores the latter."""
    handler.check_effective(
        effective("localhost/pause", False), effective("localhost/pause", True, True), True, PROGRAM
    )
    with pytest.raises(PodferryError, match=r"differently: plugins\.io\.containerd\.cri\.v1\.runtime\.sandbox$"):
        handler.check_effective(effective("localhost/pause", False), effective("registry/pause", True), True, PROGRAM)


def test_a_node_that_we_once_bent_can_be_repaired() -> None:
    handler.check_effective(effective("registry/pause", True), effective("localhost/pause", True), True, PROGRAM)
    handler.check_effective(effective("registry/pause", True), effective("localhost/pause", False), False, PROGRAM)


def test_the_file_speaks_the_schema_of_the_main_one() -> None:
    for schema, plugin in ((2, "io.containerd.grpc.v1.cri"), (3, "io.containerd.cri.v1.runtime")):
        files = {MAIN: b"version = %d\n" % schema}
        added = run(situation(version=[2, 1, 9], files=files, imports=["/etc/containerd/conf.d/*.toml"]), True)[
            DROP_IN
        ].after
        assert toml.loads((added or b"").decode())["version"] == schema
        assert table(added or b"", plugin)["options"] == {"BinaryName": PROGRAM}


def test_containerd_1_keeps_the_handlers_that_it_has_by_default() -> None:
    """One named handler and its built-in table is gone: the block names them, unless the file does."""
    added = run(situation(version=[1, 7, 24], files={MAIN: DEBIAN}), True)[MAIN].after
    runtimes = toml.loads((added or b"").decode())["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["runtimes"]
    assert runtimes["runc"] == {"runtime_type": "io.containerd.runc.v2"}
    named = (
        DEBIAN
        + b'[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
    )
    added = run(situation(version=[1, 7, 24], files={MAIN: named}), True)[MAIN].after
    assert (added or b"").count(b"runtimes.runc]") == 1
    added = run(situation(version=[2, 1, 9], files={MAIN: b"version = 3\n"}), True)[MAIN].after
    assert b"runtimes.runc]" not in (added or b"")
