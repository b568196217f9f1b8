# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What is in a checkpoint: read once through (twice when memory is asked for), nothing of it written anywhere."""

from __future__ import annotations

import contextlib
import typing as t

from .._common.errors import InvalidInput
from .._criu import tasks
from . import metadata, reader
from .errors import EXPORT, DamagedArchive, NoCheckpoint
from .reader import CONFIG, IMAGES, ROOTFS, SPEC, STATISTICS, STATUS, Checkpoint, Member

_MOST_IMAGES = 64 << 20
"""Bytes of CRIU's lists, all together. Page files are not read."""
_MOST_AREA = 1 << 20
"""Bytes of one process' arguments or environment."""
_PAGE = 4096

Info = t.Dict[str, t.Any]


class Collected:
    """What one pass over the members leaves."""

    def __init__(self) -> None:
        self.documents: dict[str, t.Any] = {}
        self.images: dict[str, bytes] = {}
        self.statistics: dict[str, int] = {}
        self.sizes = {"unpacked": 0, "checkpoint": 0, "memory": 0, "rootfs_diff": 0}
        self.files = 0
        self._room = _MOST_IMAGES

    def take(self, name: str, size: int, read: t.Callable[[], bytes], memory: bool) -> None:
        """Look at one file of the checkpoint. ``name`` is the one that engines give it."""
        self.files += 1
        self.sizes["unpacked"] += size
        if name in (CONFIG, SPEC, STATUS):
            self.documents[name] = reader.parse_json(read(), name)
        elif name == STATISTICS:
            # A measurement; a checkpoint is none the worse for a broken one.
            with contextlib.suppress(InvalidInput):
                self.statistics = tasks.statistics(read())
        elif name == ROOTFS:
            self.sizes["rootfs_diff"] = size
        elif name.startswith(IMAGES):
            base = name[len(IMAGES) :]
            self.sizes["checkpoint"] += size
            if base.startswith("pages-"):
                self.sizes["memory"] += size
            elif tasks.wanted(base) or (memory and base.startswith("pagemap-")):
                self._room -= size
                if self._room < 0:
                    raise DamagedArchive(
                        "the checkpoint's process lists have no sensible size", "Make a new checkpoint."
                    )
                self.images[base] = read()


class Source(t.Protocol):
    """Where a container's files come from; they can be gone through as often as it takes."""

    def members(self) -> t.Iterator[Member]:
        """All files, by the names that engines give them."""


def inspect(checkpoint: Checkpoint, values: bool = False) -> Info:
    """Everything that is told about a checkpoint of others.

    :param values: also what may be secret: values of environment variables, and arguments of processes.
    :raises InvalidInput: it is none, it is damaged, or it is not safe to use.
    """
    collected = collect(checkpoint, values)
    for name in (CONFIG, SPEC):
        if name not in collected.documents:
            raise NoCheckpoint(f"it has no {name}, so it is no checkpoint of a container", EXPORT)
    spec = metadata.Spec(collected.documents[SPEC])
    config = collected.documents[CONFIG]
    found = metadata.describe(config, spec)
    container: Info = {
        "name": found.container,
        "id": found.identifier,
        "image": {"name": found.image, "id": found.image_id, "requested": found.requested_image},
        "runtime": found.runtime,
        "mounts": spec.mounts(),
        **described(collected, spec.environment(), checkpoint if values else None),
    }
    return {
        "form": checkpoint.form,
        "engine": found.engine,
        "pod": {"name": found.pod, "namespace": found.namespace, "uid": found.uid},
        "created": found.created,
        "checkpointed": found.checkpointed,
        "asks_for": metadata.asks(config, spec, collected.documents.get(STATUS), found.engine),
        "annotations": dict(checkpoint.annotations),
        "stored_bytes": checkpoint.stored(),
        "containers": [container],
    }


def collect(source: Source, memory: bool = False) -> Collected:
    """One pass over a container's files.

    :param memory: keep also what is needed to find something in its memory.
    """
    collected = Collected()
    for member in source.members():
        collected.take(member.name, member.size, member.all, memory)
    return collected


def described(collected: Collected, environment: t.Mapping[str, str], memory_of: Source | None) -> Info:
    """What a container's files say of it.

    :param memory_of: read arguments and environments of processes out of this, and tell values.
    """
    processes = tasks.tasks(collected.images) if "pstree.img" in collected.images else []
    info: Info = {
        "arch": tasks.architecture(collected.images),
        "bytes": dict(collected.sizes),
        "files": collected.files,
        "statistics": collected.statistics,
        "environment": sorted(environment),
        "processes": [_process(task) for task in processes],
    }
    if memory_of is not None:
        info["values"] = dict(environment)
        memory = _Memory(memory_of, collected.images)
        memory.read(processes)
        for process, task in zip(info["processes"], processes):
            process["arguments"] = memory.words(task, 0)
            process["environment"] = memory.words(task, 1)
    return info


def _process(task: tasks.Task) -> Info:
    return {
        "pid": task.pid,
        "parent": task.ppid,
        "threads": task.threads,
        "command": task.command,
        "state": task.state,
        "executable": task.executable,
        "directory": task.directory,
        "root": task.root,
        "files": [{"fd": item.fd, "type": item.kind, "path": item.path} for item in task.files],
        "sockets": [
            {
                "fd": item.fd, "family": item.family, "protocol": item.protocol, "type": item.kind, "state": item.state,
                "local": item.local, "local_port": item.local_port, "remote": item.remote, "remote_port": item.remote_port,
            }
            for item in task.sockets
        ],
    }  # fmt: skip


class _Memory:
    """Arguments and environments, read out of the page files in a second pass."""

    def __init__(self, source: Source, images: tasks.Images) -> None:
        self._source = source
        self._images = images
        self._pages: dict[tuple[int, int], bytes] = {}

    def read(self, processes: t.Sequence[tasks.Task]) -> None:
        """Read the pages that the processes' arguments and environments lie in."""
        wanted: dict[str, dict[int, tuple[int, int]]] = {}
        for task in processes:
            pagemap = self._images.get(f"pagemap-{task.pid}.img")
            if pagemap is None:
                continue
            number, runs = tasks.pages(pagemap, f"pagemap-{task.pid}.img")
            addresses = {page for area in task.areas for page in _pages_of(area)}
            offset = 0
            for start, count in runs:
                for address in addresses:
                    if start <= address < start + count * _PAGE:
                        place = offset + address - start
                        wanted.setdefault(f"{IMAGES}pages-{number}.img", {})[place] = (task.pid, address)
                offset += count * _PAGE
        if wanted:
            for member in self._source.members():
                if member.name in wanted:
                    self._pick(member, wanted[member.name])

    def _pick(self, member: Member, places: t.Mapping[int, tuple[int, int]]) -> None:
        position = 0
        for place in sorted(places):
            while position < place:
                block = member.read(min(1 << 20, place - position))
                if not block:
                    return
                position += len(block)
            page = b""
            while len(page) < _PAGE:
                block = member.read(_PAGE - len(page))
                if not block:
                    return
                page += block
            position += _PAGE
            self._pages[places[place]] = page

    def words(self, task: tasks.Task, area: int) -> list[str] | None:
        """The words in an area; None when it is not in the dump (it belongs to a file that did not change)."""
        begin, end = task.areas[area]
        parts = [self._pages.get((task.pid, page)) for page in _pages_of((begin, end))]
        if not parts or None in parts:
            return None
        data = b"".join(part for part in parts if part is not None)[begin % _PAGE :][: end - begin]
        return [word.decode("utf-8", "replace") for word in data.rstrip(b"\0").split(b"\0")]


def _pages_of(area: tuple[int, int]) -> range:
    begin, end = area
    if not 0 < end - begin <= _MOST_AREA:
        return range(0)
    return range(begin - begin % _PAGE, end, _PAGE)
