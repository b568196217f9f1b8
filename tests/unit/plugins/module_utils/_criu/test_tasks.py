# SPDX-License-Identifier: Apache-2.0
"""What a dump says of its processes, and that no dump makes us do more than say that it is damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._criu import tasks
from doubles import archives
from doubles.archives import core, criu_images, image, message


def test_the_processes_and_what_they_have_open() -> None:
    first, worker, gone = tasks.tasks(criu_images())
    assert (first.pid, first.ppid, first.threads, first.command, first.state) == (1, 0, 2, "app", "alive")
    assert (worker.pid, worker.ppid, worker.command) == (7, 1, "worker")
    assert (gone.pid, gone.state, gone.files, gone.executable) == (9, "zombie", [], "")
    assert [(item.fd, item.kind, item.path) for item in first.files] == [
        (0, "REG", "/usr/bin/app"),
        (1, "PIPE", "pipe[77]"),
        (3, "UNIXSK", "UNIXSK.22"),
        (4, "INETSK", "INETSK.23"),
    ]
    unix, tcp = first.sockets
    assert (unix.family, unix.kind, unix.state, unix.local) == ("UNIX", "STREAM", "LISTEN", "@abstract")
    assert (tcp.protocol, tcp.state, tcp.local, tcp.local_port) == ("TCP", "LISTEN", "127.0.0.1", 7000)
    assert (first.executable, first.directory, first.root) == ("/usr/bin/app", "/usr/bin/app", "/usr/bin/app")


def test_the_order_is_a_parent_before_its_children() -> None:
    images = criu_images()
    images["pstree.img"] = image(message(f1=7, f2=1), message(f1=9, f2=7), message(f1=1, f2=0))
    assert [task.pid for task in tasks.tasks(images)] == [1, 7, 9]


def test_processes_that_are_each_others_parents() -> None:
    images = criu_images()
    images["pstree.img"] = image(message(f1=1, f2=7), message(f1=7, f2=1))
    with pytest.raises(InvalidInput, match="each other's parents"):
        tasks.tasks(images)


@pytest.mark.parametrize("name", ["pstree.img", "core-1.img", "ids-7.img", "fdinfo-5.img", "fs-1.img", "mm-7.img"])
def test_an_image_that_is_missing_or_empty(name: str) -> None:
    images = criu_images()
    del images[name]
    with pytest.raises(InvalidInput, match=name):
        tasks.tasks(images)
    if name not in ("pstree.img", "fdinfo-5.img"):
        with pytest.raises(InvalidInput, match=name):
            tasks.tasks({**images, name: image()})


def test_rights() -> None:
    images = criu_images()
    images["core-2.img"] = core("app", caps=1 << 21 | 1 << 39, uid=5, seccomp=0, no_new_privs=1)
    found = {item.pid: item for item in tasks.rights(images)}
    assert set(found) == {1, 2, 7}
    assert found[2] == tasks.Rights(2, 5, 1 << 21 | 1 << 39, False, True)
    assert found[1].filtered and not found[1].capabilities


def test_a_thread_whose_rights_are_not_told() -> None:
    images = criu_images()
    images["core-2.img"] = image(message(f1=1, f5=message(f11=2)))
    with pytest.raises(InvalidInput, match="thread 2"):
        tasks.rights(images)


def test_pages_of_criu_4_and_before() -> None:
    both = image(
        message(f1=3), message(f1=0x1000, f2=2, f5=7, f4=4), message(f1=0x9000, f2=4), message(f1=0x20000, f2=1, f3=1)
    )
    assert tasks.pages(both, "pagemap-1.img") == (3, [(0x1000, 7), (0x9000, 4)])


def test_statistics() -> None:
    assert tasks.statistics(archives.contents()["stats-dump"])["pages_written"] == 7
    assert tasks.statistics(image()) == {}


@given(st.dictionaries(st.sampled_from(sorted(criu_images())), st.binary(max_size=200)))
def test_noise(changed: dict[str, bytes]) -> None:
    images = {**criu_images(), **changed}
    for read in (tasks.tasks, tasks.rights):
        try:
            read(images)
        except InvalidInput:
            pass


@given(st.data())
def test_damage(data: st.DataObject) -> None:
    images = criu_images()
    name = data.draw(st.sampled_from(sorted(images)))
    content = bytearray(images[name])
    for _round in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    images[name] = bytes(content[: data.draw(st.integers(0, len(content)))])
    for read in (tasks.tasks, tasks.rights):
        try:
            read(images)
        except InvalidInput:
            pass
    for whole in (tasks.statistics, lambda raw: tasks.pages(raw, name)):
        try:
            whole(images[name])
        except InvalidInput:
            pass


fields = st.dictionaries(
    st.integers(1, 22).map("f{}".format), st.integers(0, 1 << 64) | st.binary(max_size=30), max_size=6
)


@given(
    st.lists(fields, max_size=4), st.sampled_from(["pstree.img", "files.img", "core-1.img", "fdinfo-5.img", "mm-1.img"])
)
def test_messages_with_any_fields(entries: list[dict[str, int | bytes]], name: str) -> None:
    images = {**criu_images(), name: image(*(message(**each) for each in entries))}
    try:
        tasks.tasks(images)
    except InvalidInput:
        pass
