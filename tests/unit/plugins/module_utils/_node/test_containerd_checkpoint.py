# SPDX-License-Identifier: Apache-2.0
"""containerd's options about checkpoints, by what the running version knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common import toml
from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._node import containerd_checkpoint as checkpoint
from ansible_collections.podferry.live.plugins.module_utils._node import containerd_handler as handler
from ansible_collections.podferry.live.plugins.module_utils._runtime import cri

CAPTURES = Path(__file__).parents[1] / "_runtime" / "captures"
MAIN = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/50-podferry-checkpoint.toml"
HANDLER_DROP_IN = "/etc/containerd/conf.d/50-podferry.toml"
SECTION = "[plugins.'io.containerd.cri.v1.runtime']"


def situation(
    version: list[int],
    options: str = "",
    files: dict[str, bytes] | None = None,
    imports: str = "/etc/containerd/conf.d/*.toml",
) -> handler.Situation:
    name = "containerd-1.7.24-config-dump.toml" if version < [2] else "containerd-2.1.9-config-dump.toml"
    text = (CAPTURES / name).read_text(encoding="utf-8").replace(SECTION, f"{SECTION}\n{options}", 1)
    text = text.replace("imports = []", f'imports = ["{imports}"]' if imports else "imports = []")
    there = {MAIN: b"version = 3\n", **(files or {})}
    folders = {str(Path(path).parent) for path in there}
    return handler.Situation(version, cri.parse_containerd(text), MAIN, there.get, folders.__contains__)


OFF = "enable_criu = false\nenable_experimental_restore_via_create = false\n"
ON = OFF.replace("enable_criu = false", "enable_criu = true")


@pytest.mark.parametrize("version", [[1, 7, 24], [2, 0, 5], [2, 1, 9]])
def test_versions_that_know_no_option_get_no_file(version: list[int]) -> None:
    assert [change for change in checkpoint.plan(situation(version), True) if change.needed] == []
    assert [change for change in checkpoint.plan(situation(version, imports=""), True) if change.needed] == []


def test_what_is_on_already_needs_no_file() -> None:
    assert not checkpoint.plan(situation([2, 2, 7], ON), True)[0].needed


def test_what_somebody_switched_off_is_switched_on() -> None:
    (change,) = checkpoint.plan(situation([2, 2, 7], OFF), True)
    assert change.path == DROP_IN
    written = toml.loads((change.after or b"").decode())
    assert written == {"version": 3, "plugins": {"io.containerd.cri.v1.runtime": {"enable_criu": True}}}
    assert handler.NEW_FOLDER.encode() in (change.after or b""), "the folder comes with it"

    # The next run sees it in effect, and leaves it alone.
    again = situation([2, 2, 7], ON, {DROP_IN: change.after or b""})
    assert not checkpoint.plan(again, True)[0].needed
    gone = checkpoint.plan(again, False)[0]
    assert gone.needed and gone.after is None and handler.made_folder(gone)


def test_a_main_file_of_version_2_gets_a_file_of_version_2() -> None:
    (change,) = checkpoint.plan(situation([2, 2, 7], OFF, {MAIN: b"version = 2\n"}), True)
    assert toml.loads((change.after or b"").decode()) == {
        "version": 2,
        "plugins": {"io.containerd.grpc.v1.cri": {"enable_criu": True}},
    }


def test_restore_only_where_it_was_asked_for_and_exists() -> None:
    (change,) = checkpoint.plan(situation([2, 3, 4], ON), True, restore_via_create=True)
    section = toml.loads((change.after or b"").decode())["plugins"]["io.containerd.cri.v1.runtime"]
    assert section == {"enable_criu": True, "enable_experimental_restore_via_create": True}
    assert checkpoint.plan(situation([2, 1, 9]), True, restore_via_create=True)[0].after is None, "2.1 restores anyway"
    for version in ([1, 7, 24], [2, 0, 1], [2, 4, 0]):
        with pytest.raises(PodferryError, match="restore"):
            checkpoint.plan(situation(version), True, restore_via_create=True)


def test_no_folder_that_is_imported_is_a_refusal_with_the_remedy() -> None:
    with pytest.raises(PodferryError, match="imports no folder") as caught:
        checkpoint.plan(situation([2, 2, 7], OFF, imports=""), True)
    assert "imports = [" in caught.value.remedy


@pytest.mark.parametrize("first", [DROP_IN, HANDLER_DROP_IN])
def test_a_folder_of_ours_goes_with_the_last_file_of_ours(first: str) -> None:
    """Whichever of our two files came first and whichever goes first."""
    marked = f"{handler.BEGIN}\n{handler.NEW_FOLDER}\n".encode()
    there = situation([2, 2, 7], OFF, {first: marked})
    if first == HANDLER_DROP_IN:
        (second,) = checkpoint.plan(there, True)
    else:
        second = next(change for change in handler.plan(there, True, "/p", []) if change.path == HANDLER_DROP_IN)
    assert handler.NEW_FOLDER.encode() in (second.after or b"")


def test_containerd_has_the_last_word() -> None:
    before, after = situation([2, 2, 7], OFF).config, situation([2, 2, 7], ON).config
    checkpoint.check_effective(before, after, {"enable_criu": True})
    with pytest.raises(PodferryError, match="does not see enable_criu"):
        checkpoint.check_effective(before, before, {"enable_criu": True})
    with pytest.raises(PodferryError, match="understand its other settings differently"):
        other = situation([2, 2, 7], ON + "enable_foo = true\n").config
        checkpoint.check_effective(before, other, {"enable_criu": True})
