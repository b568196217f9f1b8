# SPDX-License-Identifier: Apache-2.0
"""Which image a node has under the name that a pod gives it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import CommandFailed, NotFound
from ansible_collections.podferry.live.plugins.module_utils._runtime import images
from ansible_collections.podferry.live.plugins.module_utils._runtime.process import Completed

OLD, NEW, CONFIG, INDEX = (f"sha256:{c * 64}" for c in "1234")
TAG = "registry.example/app:1"
BY_DIGEST = f"registry.example/app@{OLD}"


class Containerd:
    """What ctr says, and a registry in which the tag has moved."""

    def __init__(self, rows: dict[str, str], content: dict[str, Any] | None = None, *, registry: bool = True) -> None:
        self.rows, self.content, self.registry = rows, content or {}, registry
        self.said: list[str] = []

    def __call__(self, argv: Sequence[str], **_more: Any) -> Completed:
        assert list(argv[:3]) == ["ctr", "--namespace", "k8s.io"]
        what, name = " ".join(argv[3:5]), argv[5] if len(argv) > 5 else ""
        if what == "images list":
            rows = [
                f"{n} application/vnd.oci.image.manifest.v1+json {d} 1.0 MiB linux/amd64 -"
                for n, d in self.rows.items()
            ]
            return Completed(0, "\n".join(["REF TYPE DIGEST SIZE PLATFORMS LABELS", *rows, ""]), "")
        if what == "content get":
            return Completed(0, json.dumps(self.content[name]), "") if name in self.content else Completed(1, "", "no")
        self.said.append(" ".join(argv[4:]))
        if what == "images tag":
            assert argv[6] not in self.rows
            self.rows[argv[6]] = self.rows[name]
        elif not self.registry:
            return Completed(1, "", "registry says no")
        else:
            self.rows[name] = name.rpartition("@")[2]
        return Completed(0, "", "")


@pytest.fixture(autouse=True)
def _containerd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "containerd.sock").touch()
    monkeypatch.setattr(images, "_CONTAINERD", str(tmp_path / "containerd.sock"))
    monkeypatch.setattr(images, "_CRIO_STORE", str(tmp_path / "images.json"))


def has(runner: Any, ref: str = TAG, identifier: str = BY_DIGEST) -> tuple[bool, str]:
    answer = images.present(runner, {"ref": ref, "id": identifier})
    return answer["present"], answer["other"]


def test_the_name_counts_and_not_the_digest_alone() -> None:
    assert has(Containerd({TAG: OLD})) == (True, "")
    assert has(Containerd({})) == (False, "")
    assert has(Containerd({BY_DIGEST: OLD, "other/name:1": OLD})) == (False, ""), "the kubelet would pull the tag"
    assert has(Containerd({BY_DIGEST: OLD, TAG: NEW})) == (False, NEW), "the kubelet would start the other one"
    assert has(Containerd({BY_DIGEST: OLD, TAG: NEW}), ref=BY_DIGEST) == (True, "")


def test_the_same_image_by_another_of_its_digests() -> None:
    local = f"sha256:{'3' * 64}"
    assert has(Containerd({TAG: OLD, local: OLD}), identifier=local) == (True, "")
    manifest = {OLD: {"config": {"digest": CONFIG}}}
    assert has(Containerd({TAG: OLD}, manifest), identifier=CONFIG) == (True, "")
    index = {**manifest, INDEX: {"manifests": [{"digest": OLD}]}}
    for digest in (OLD, CONFIG, INDEX):
        assert has(Containerd({TAG: INDEX}, index), identifier=f"x@{digest}") == (True, "")


@pytest.mark.parametrize(
    ("reference", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1", "docker.io/library/nginx:1"),
        ("docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("someone/app:1", "docker.io/someone/app:1"),
        ("localhost/app:lab", "localhost/app:lab"),
        ("host:5000/app", "host:5000/app:latest"),
        (f"nginx:1@{OLD}", f"docker.io/library/nginx@{OLD}"),
        (f"host:5000/app@{OLD}", f"host:5000/app@{OLD}"),
        (CONFIG, CONFIG),
    ],
)
def test_full_names(reference: str, full: str) -> None:
    assert images.full_name(reference) == full


def pull(runner: Any, ref: str = TAG) -> None:
    assert images.pull(runner, {"ref": ref, "id": BY_DIGEST}) == {"ok": True}


def test_a_pull_is_by_digest_and_leaves_the_pods_name() -> None:
    node = Containerd({})
    pull(node)
    assert node.said == [f"pull {BY_DIGEST}", f"tag {BY_DIGEST} {TAG}"]
    assert has(node) == (True, "")
    by_digest = Containerd({})
    pull(by_digest, BY_DIGEST)
    assert set(by_digest.rows) == {BY_DIGEST}


def test_an_image_that_a_status_names_by_its_id() -> None:
    assert has(Containerd({CONFIG: OLD}), ref=CONFIG, identifier=CONFIG) == (True, "")
    node = Containerd({})
    assert has(node, ref=CONFIG) == (False, "")
    pull(node, CONFIG)
    assert node.rows == {BY_DIGEST: OLD}


def test_a_name_that_others_use_for_another_image_is_left_to_them() -> None:
    node = Containerd({TAG: NEW})
    with pytest.raises(NotFound, match="another image here"):
        pull(node)
    assert node.rows == {TAG: NEW}
    with pytest.raises(CommandFailed, match="registry says no"):
        pull(Containerd({}, registry=False))


class Crio:
    """crictl, and the store that it fills. ``tag``: what the registry has under the tag."""

    def __init__(self, store: Path, tag: str, *entries: dict[str, Any]) -> None:
        self.store, self.tag, self.entries = store, tag, list(entries)
        store.parent.joinpath("containerd.sock").unlink()
        self.save()

    def save(self) -> None:
        self.store.write_text(json.dumps(self.entries))

    def __call__(self, argv: Sequence[str], **_more: Any) -> Completed:
        assert argv[0] == "crictl"
        if argv[1] == "pull":
            self.entries.append({"id": "9" * 64, "digest": self.tag, "names": [argv[2]]})
        else:
            self.entries = [e for e in self.entries if argv[2] not in e["names"]]
        self.save()
        return Completed(0, "", "")


def test_crio(tmp_path: Path) -> None:
    entry = {"id": "3" * 64, "digest": OLD, "names": [TAG, "quay.example/library/nginx:1"]}
    node = Crio(tmp_path / "images.json", OLD, {**entry, "big-data-digests": {"manifest-list": INDEX}})
    for digest in (OLD, CONFIG, INDEX):
        assert has(node, identifier=digest) == (True, "")
    assert has(node, identifier=NEW) == (False, OLD)
    assert has(node, ref="nginx:1") == (True, ""), "from whatever registry a short name came"
    assert has(node, ref="registry.example/app:2") == (False, "")
    assert has(node, ref=BY_DIGEST) == (True, "")
    assert has(node, ref=CONFIG, identifier=CONFIG) == (True, "")
    pull(node, "registry.example/app:2")


def test_crio_takes_back_a_tag_that_has_moved(tmp_path: Path) -> None:
    node = Crio(tmp_path / "images.json", NEW)
    with pytest.raises(NotFound, match="another image here"):
        pull(node)
    assert node.entries == []
