# SPDX-License-Identifier: Apache-2.0
"""Mount points that differ between two container engines."""

import json
import pathlib

import pytest

from ansible_collections.podferry.live.plugins.module_utils._runtime import mounts, oci

BOTH = ["/dev/shm", "/etc/hosts", "/proc"]
CONTAINERENV = "/run/.containerenv"


def config(*places: str) -> dict:
    return {"ociVersion": "1.0.2", "mounts": [{"destination": place, "source": "/somewhere"} for place in places]}


@pytest.mark.parametrize(
    ("source", "target", "different"),
    [
        (BOTH, BOTH, []),
        ([*BOTH, CONTAINERENV], BOTH, []),
        (BOTH, [*BOTH, CONTAINERENV], []),
        ([*BOTH, "/data"], BOTH, ["/data"]),
        (BOTH, [*BOTH, "/var/run/secrets/x", CONTAINERENV], ["/var/run/secrets/x"]),
        ([*BOTH, "/run/secrets"], BOTH, ["/run/secrets"]),
    ],
)
def test_only_the_engines_own_files_may_differ(source: list[str], target: list[str], different: list[str]) -> None:
    assert mounts.unlike(source, config(*target)) == different


def test_nothing_is_written_when_nothing_is_missing(tmp_path: pathlib.Path) -> None:
    same = config(*BOTH, CONTAINERENV)
    assert mounts.complete(str(tmp_path), same, [*BOTH, CONTAINERENV]) is same
    assert mounts.complete(str(tmp_path), same, BOTH) is same
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_becomes_a_file_of_the_bundle(tmp_path: pathlib.Path) -> None:
    """Never a path that the other node named: it names places inside the container only."""
    before = config(*BOTH)
    found = mounts.complete(str(tmp_path), before, [*BOTH, CONTAINERENV, "/etc/shadow"])
    assert found == json.loads((tmp_path / "config.json").read_text())
    assert oci.destinations(found) == sorted([*BOTH, CONTAINERENV])
    added = found["mounts"][-1]
    assert added["type"] == "bind" and "bind" in added["options"] and "nosuid" in added["options"]
    assert pathlib.Path(added["source"]).parent == tmp_path and pathlib.Path(added["source"]).read_bytes() == b""
    assert before == config(*BOTH)
    assert mounts.unlike([*BOTH, CONTAINERENV], found) == []


def test_a_link_in_the_bundle_is_not_followed(tmp_path: pathlib.Path) -> None:
    (tmp_path / mounts.ENGINE_FILES[CONTAINERENV]).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        mounts.complete(str(tmp_path), config(*BOTH), [*BOTH, CONTAINERENV])
    assert not (tmp_path / "elsewhere").exists()
