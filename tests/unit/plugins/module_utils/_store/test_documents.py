# SPDX-License-Identifier: Apache-2.0
"""Manifests, the list of files, the tar of the state: what anybody may have written is read as ours or refused."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._store import manifest, names, pack

ID, PARENT = "20261125T170000Z-0123456789ab", "20261124T170000Z-0123456789ab"
SUM = "0" * 64


def blob(name: str, origin: str = ID, **change: Any) -> dict[str, Any]:
    return {"name": name, "kind": name.partition(".")[0], "size": 10, "sha256": SUM, "origin": origin, **change}


GOOD: dict[str, Any] = {
    "format": 1, "id": ID, "namespace": "default", "pod": "web-0.x", "uid": "u", "node": "n", "created": "2026-11-25T17:00:00Z",
    "kind": "pod", "containers": [{"name": "web", "image": "web:1", "image_id": ""}], "parent": PARENT, "compression": "zstd",
    "encryption": "none", "facts": {"cpu": ["avx"], "load": 1.5, "none": None}, "bytes": {"memory": 1, "files": 2, "stored": 3},
    "blobs": [blob("pages.0", PARENT), blob("pages.0"), blob("index.0"), blob("state.0")],
}  # fmt: skip


def text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def test_a_manifest_comes_back() -> None:
    made = manifest.parse(text(GOOD))
    assert manifest.canonical(made) == text(GOOD)
    assert made.origins == {PARENT}
    assert [one.key for one in made.own] == [f"{ID}/pages.0", f"{ID}/index.0", f"{ID}/state.0"]
    assert made.blob("state").name == "state.0"


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2}, {"format": True}, {"format": "1"}, {"id": "x"}, {"id": ID + "\n"}, {"namespace": "../x"}, {"namespace": "UP"},
        {"namespace": "a.b"}, {"pod": "a/b"}, {"pod": ".."}, {"pod": "a" * 254}, {"uid": 1}, {"node": "n" * 5000}, {"created": "now"},
        {"kind": "node"}, {"compression": "gzip"}, {"encryption": ""}, {"parent": "latest"}, {"parent": None}, {"facts": []},
        {"facts": {"a": {"b": [[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]}}}, {"bytes": {}}, {"bytes": {"memory": -1, "files": 0, "stored": 0}},
        {"bytes": {"memory": True, "files": 0, "stored": 0}}, {"containers": []}, {"containers": [{"name": "a"}]}, {"more": 1},
        {"containers": GOOD["containers"] * 2}, {"blobs": []}, {"blobs": GOOD["blobs"][:3]}, {"blobs": [*GOOD["blobs"], blob("index.0")]},
        {"blobs": [*GOOD["blobs"], blob("pages.0")]}, {"blobs": [*GOOD["blobs"][:3], blob("state.0", PARENT)]},
        {"blobs": [*GOOD["blobs"], blob("pages.1", size=1 << 31)]}, {"blobs": [*GOOD["blobs"], blob("pages.1", size=-1)]},
        {"blobs": [*GOOD["blobs"], blob("pages.01")]}, {"blobs": [*GOOD["blobs"], blob("../pages.1")]},
        {"blobs": [*GOOD["blobs"], blob("pages.1", kind="state")]}, {"blobs": [*GOOD["blobs"], blob("pages.1", sha256="x")]},
        {"blobs": [*GOOD["blobs"], blob("pages.1", origin="../..")]}, {"blobs": [*GOOD["blobs"], {"name": "pages.1"}]},
        {"blobs": [*GOOD["blobs"], "pages.1"]}, {"blobs": {}},
    ],
)  # fmt: skip
def test_what_a_manifest_must_not_say(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        manifest.parse(text({**GOOD, **change}))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100000, json.dumps(GOOD).encode(), text(GOOD) + b"\n", b" " + text(GOOD),
        text(GOOD).replace(b'"uid":"u"', b'"uid":"u","uid":"u"'), text(GOOD).replace(b"1.5", b"NaN"), text(GOOD).replace(b"1.5", b"1e999"),
        text(GOOD).replace(b'"u"', b'"\\u0075"'), text({**GOOD, "facts": {"x": "y" * manifest.MAX_BYTES}}),
        text(GOOD).replace(b'"u"', b'"\xc3\xa4"'), b"1" * 5000,
    ],
)  # fmt: skip
def test_a_manifest_is_written_in_one_way(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        manifest.parse(data)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 1 << 60)
    | st.text(max_size=8)
    | st.sampled_from([ID, SUM, "pages.0", "state", "pod"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "name", "size"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(list(GOOD)), values, max_size=3), st.sets(st.sampled_from(list(GOOD)), max_size=1)
)
@settings(max_examples=300)
def test_a_manifest_is_ours_or_refused(change: dict[str, Any], without: set[str]) -> None:
    data = text({name: value for name, value in {**GOOD, **change}.items() if name not in without})
    try:
        made = manifest.parse(data)
    except InvalidInput:
        return
    assert manifest.canonical(made) == data
    assert names.valid_place(*made.place) and names.valid_id(made.id)


@given(st.integers(0, len(text(GOOD)) - 1), st.binary(min_size=1, max_size=3))
def test_a_damaged_manifest_is_ours_or_refused(at: int, change: bytes) -> None:
    data = text(GOOD)[:at] + change + text(GOOD)[at + 1 :]
    try:
        assert manifest.canonical(manifest.parse(data)) == data
    except InvalidInput:
        return


def test_facts_must_be_plain() -> None:
    for bad in ({"x": float("nan")}, {1: 2}, {"x": b"y"}, {"x": {1, 2}}):
        with pytest.raises(InvalidInput):
            manifest.canonical(manifest.make({**GOOD, "facts": bad}))


def entry(name: str, content: bytes = b"x", **change: Any) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in change.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


END = bytes(1024)


def test_a_tar_is_read() -> None:
    data = entry("files.json", b"{}") + entry("web/log", b"") + entry("web/criu/core-1.img", b"y" * 700) + END
    assert [(name, bytes(content)) for name, content in pack.read_tar(data)] == [
        ("files.json", b"{}"), ("web/log", b""), ("web/criu/core-1.img", b"y" * 700),
    ]  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        assert opened.getnames() == ["files.json", "web/log", "web/criu/core-1.img"]


@pytest.mark.parametrize(
    "data",
    [
        b"", entry("a"), entry("a") + bytes(512), entry("a") + END + END, entry("a") + END + b"x", b"x" * 512 + END,
        entry("a", type=tarfile.SYMTYPE, linkname="/etc/passwd") + END, entry("a", type=tarfile.LNKTYPE, linkname="b") + END,
        entry("a", type=tarfile.CHRTYPE) + END, entry("a", type=tarfile.DIRTYPE) + END, entry("a", type=tarfile.FIFOTYPE) + END,
        entry("a", type=tarfile.XHDTYPE) + END, entry("a", type=tarfile.GNUTYPE_LONGNAME) + END, entry("a", type=tarfile.GNUTYPE_SPARSE) + END,
        entry("a", size=1 << 30) + END, entry("a")[:700], entry("a").replace(b"x" + bytes(511), b"xx" + bytes(510)) + END,
    ],
)  # fmt: skip
def test_a_hostile_tar(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        list(pack.read_tar(data))


GOOD_TAR = entry("files.json", b"{}") + entry("web/log", b"hello") + END


@given(st.integers(0, len(GOOD_TAR) - 1), st.binary(min_size=1, max_size=12), st.integers(0, len(GOOD_TAR)))
@settings(max_examples=300)
def test_a_damaged_tar_is_read_or_refused(at: int, change: bytes, end: int) -> None:
    damaged = GOOD_TAR[:at] + change + GOOD_TAR[at + len(change) :]
    for data in (damaged, GOOD_TAR[:end], change):
        try:
            found = list(pack.read_tar(data))
        except InvalidInput:
            continue
        assert sum(len(content) for _name, content in found) <= len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"[" * 100000, b'{"../x":{"size":1,"sha256":"%s"}}' % SUM.encode(), b'{"web/log":{"size":1}}', b'{"web/log":1}',
        b'{"web/log":{"size":-1,"sha256":"%s"}}' % SUM.encode(), b'{"web/log":{"size":true,"sha256":"%s"}}' % SUM.encode(),
        b'{"web/log":{"size":1,"sha256":"x"}}', b'{"web/log":{"size":1001,"sha256":"%s"}}' % SUM.encode(),
        b'{"web/log":{"size":501,"sha256":"%s"},"a/log":{"size":500,"sha256":"%s"}}' % (SUM.encode(), SUM.encode()),
    ],
)  # fmt: skip
def test_a_hostile_list_of_files(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        pack.read_files(data, 1000)


@given(st.binary(max_size=100) | values.map(text))
def test_any_list_of_files_is_read_or_refused(data: bytes) -> None:
    try:
        found = pack.read_files(data, 1000)
    except InvalidInput:
        return
    assert sum(one.size for one in found.values()) <= 1000


@pytest.mark.parametrize(
    "name",
    ["pod.json", "state.json", "web/criu/pages-1.img", "web/criu/tmpfs-dev-73.tar.gz.img", "web/rootfs.tar", "web/rootfs.3.tar", "web/shm.tar",
     "web/log", "web/held.json", "pod.volumes/cache.tar", "pod.volumes/cache.12.tar"],
)  # fmt: skip
def test_names_of_a_state(name: str) -> None:
    assert names.valid_file(name) == name


@given(
    st.text(max_size=30)
    | st.sampled_from(["..", "/", "web/../x.tar", "web/criu/..", "web/criu/.x", "/web/log", "web//log", "web/log\n"])
)
def test_no_name_leaves_the_folder(name: str) -> None:
    try:
        names.valid_file(name)
    except InvalidInput:
        return
    assert not name.startswith("/") and ".." not in name.split("/") and "\n" not in name


def test_a_blob_is_not_shared_between_pods() -> None:
    """What a manifest names lies below its own pod: there is no field that could say otherwise."""
    assert {field.name for field in dataclasses.fields(manifest.Blob)} == {"name", "kind", "size", "sha256", "origin"}
