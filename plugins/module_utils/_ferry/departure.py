# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A pod that is stopped and dumped on its node: what a migration's source and a checkpoint have in common."""

from __future__ import annotations

import os
import subprocess
import time
import typing as t

from .._common import faults
from .._common.errors import (
    Cancelled,
    DeadlineExceeded,
    DumpFailed,
    FreezeFailed,
    InvalidInput,
    NotFound,
    PodferryError,
    StateConflict,
)  # fmt: skip
from .._criu import ipc
from .._criu import tcp as connections
from .._criu.dump import DUMP_LOG, STOP_SECONDS, Dump, log_tail
from .._runtime import container as containers
from .._runtime import oci, procfs, quota, versions, volumes
from .._runtime.inspect import established_connections, foreign_processes
from .._runtime.process import Runner
from . import deadman, held, sockets, thaw, tree
from .base import Ferry, roster
from .control import Message, Peer, Server
from .paths import VOLUMES, RunPaths
from .staging import Staging, patience

_FOREIGN_TRIES = 5
_FOREIGN_PAUSE = 0.2
_AT_REST_SECONDS = 0.05
GET_READY_SECONDS = 20.0
_SKIPS_IN_FLIGHT = [1, 3]
"""runc's version from which on it has a flag for it."""


class Departure(Ferry):
    """One pod on its way through freeze and dump. Subclasses say where the state goes, and what becomes of the pod."""

    role = "source"
    modes: t.ClassVar[t.Tuple[str, ...]] = ()
    keeps_rounds = False
    """Archives of the rounds before the freeze stay on this node's disk."""

    def __init__(self, paths: RunPaths, config: t.Mapping[str, t.Any], server: Server, runner: Runner) -> None:
        super().__init__(paths, config, server, runner)
        self.tcp: str = config.get("tcp", "close")
        if self.mode not in self.modes or self.tcp not in ("close", "refuse"):
            raise InvalidInput(f"mode {self.mode!r} or tcp {self.tcp!r} is not known")
        self._containers = [containers.find(str(item["name"]), str(item["id"])) for item in config["containers"]]
        for item in self._containers:
            oci.check_trusted(item.config)
            if (item.owner.namespace, item.owner.pod, item.owner.uid) != (
                config["namespace"],
                config["pod"],
                config["uid"],
            ):
                raise NotFound(f"container {item.name} does not belong to pod {config['pod']} of that UID any more")
        self._staging: Staging | None = None
        self._stage_patience = patience(int(config.get("stage_bytes") or 0))
        self._stage_wanted = False
        self._go: tuple[Peer, Message] | None = None
        self._cancelled = False
        self._cancellable = True
        self._dumps: list[Dump] = []
        self._between: sockets.Between | None = None
        self._usage: dict[str, int] = {}
        self._freeze_ns = 0
        self._freeze_deadline = 0.0
        self._can_hold_loopback = False
        """Whoever restores can hold the pod's loopback up between the restores of its containers."""
        self._closed = 0

    # --- what subclasses bring ------------------------------------------------------------------------------------

    def _during_rounds(self) -> None:
        """Called again and again while something takes long before the freeze; may raise to stop."""
        self._watch()

    def _keep_up(self) -> None:
        """The same while the runtime gets ready."""
        self._watch()

    def _packed(self, item: containers.Container, names: t.Sequence[str], *, described: bool) -> None:
        """``item``'s files are archived under ``names``, and its dump has begun.

        :param described: what the runtime needs at the restore, before CRIU, is there.
        """

    def _dumping(self, item: containers.Container) -> None:
        """``item``'s dump goes on. Called without a pause between: must wait a little when there is nothing to do."""
        time.sleep(0.001)

    # --- requests -------------------------------------------------------------------------------------------------

    def on_go(self, peer: Peer, request: Message) -> None:
        """Freeze as soon as the target's handler waits."""
        if self.journal.state != "prepared":
            raise StateConflict(f"the source is {self.journal.state}, not prepared")
        self._go = (peer, request)

    def on_stage(self, peer: Peer, request: Message) -> None:
        """Copy the pod's files while it runs, in rounds; ``staged`` is said when that is worth no further round."""
        if self.journal.state != "prepared":
            raise StateConflict(f"the source is {self.journal.state}, not prepared")
        self._stage_wanted = True
        peer.answer(request, {})

    def on_cancel(self, peer: Peer, request: Message) -> None:
        """Stop, if the commit point has not been reached."""
        if not self._cancellable:
            peer.answer(request, {"cancelled": False})
            return
        self._cancelled = True
        peer.answer(request, {"cancelled": True})

    def _watch(self) -> None:
        """Look after everything that may end the migration early."""
        self.pump()
        if self._cancelled and self._cancellable:
            raise Cancelled("the migration was cancelled before the commit point", "The pod runs on at its source.")

    # --- the way --------------------------------------------------------------------------------------------------

    def _claim(self) -> None:
        """Make this the one run that may freeze the pod, and write down what it is about.

        :raises StateConflict: another run has it.
        """
        thaw.claim(self.paths, self.config["namespace"], self.config["pod"])
        self.journal.write(
            "prepared", run=self.paths.run, role=self.role, mode=self.mode, namespace=self.config["namespace"],
            pod=self.config["pod"], uid=self.config["uid"], target_pod=self.config.get("target_pod", self.config["pod"]),
            target_node=self.config.get("target_node", ""), tcp=self.tcp,
            source_node=self.config.get("source_node", ""), context=self.context(), roster=roster(self.config),
            containers=[{"name": item.name, "id": f"{'containerd' if item.engine == 'containerd' else 'cri-o'}://{item.id}",
                         "cgroup": item.cgroup.path} for item in self._containers],
            through=self.config.get("through"),
        )  # fmt: skip
        self.mount_images()

    def _empty_dirs(self) -> list[volumes.EmptyDir]:
        first = self._containers[0]
        return volumes.empty_dirs(first.config, first.owner.uid)

    def _rounds(self) -> Staging:
        """The trees of the pod, from their first look on."""
        if self._staging is None:
            trees = {f"{item.name}/rootfs": tree.upper_directory(item.rootfs) for item in self._containers}
            for volume in self._empty_dirs():
                if not volume.in_memory:  # what was never meant for a disk is not put on one
                    trees[f"{VOLUMES}/{volume.name}"] = volume.path
            self._staging = Staging(self.paths, trees, keep=self.keeps_rounds)
        return self._staging

    def _stage(self) -> None:
        """Copy the pod's files in rounds while it runs."""
        deadman.within(self._stage_patience + deadman.MARGIN)
        self.enter("stage")
        rounds = self._rounds()
        while rounds.worth_another():
            self._round()
            self.emit("staged_round", round=rounds.number, bytes=rounds.last_bytes)
        self.emit("staged", rounds=rounds.number, bytes=rounds.bytes)

    def _round(self) -> None:
        rounds = self._rounds()
        point = f"source:round:{rounds.number + 1}"
        faults.point(f"{point}:before")
        rounds.round(self._during_rounds)
        faults.point(f"{point}:after")

    def _freeze(self) -> None:
        """Freeze all containers, without guests from ``kubectl exec`` or an exec probe in them."""
        self.enter("freeze")
        self._freeze_deadline = time.monotonic() + self.deadlines.freeze
        deadman.within(self.deadlines.freeze + deadman.MARGIN)
        # Entered before it is done: whoever puts it back must know even if we die in between.
        quotas = {path: value for item in self._containers for path, value in quota.read(item.pid).items()}
        for attempt in range(_FOREIGN_TRIES):
            self.journal.write("freezing", quotas=quotas)
            quota.lift(quotas)
            thaw.depart(self.paths, self.config["namespace"], self.config["pod"])
            self._freeze_ns = min([self._freeze_one(item) for item in self._containers])
            guests = [guest for item in self._containers for guest in foreign_processes(item)]
            if not guests:
                break
            self._thaw()
            if attempt == _FOREIGN_TRIES - 1:
                raise FreezeFailed(
                    f"processes entered by exec stay in the pod: {', '.join(sorted({str(guest['comm']) for guest in guests}))}",
                    "End `kubectl exec` sessions and what they left behind; exec probes must end quickly.",
                )
            time.sleep(_FOREIGN_PAUSE)
        if self.tcp == "refuse" and established_connections(self._containers[0].pid):
            raise FreezeFailed(
                "a TCP connection was opened meanwhile and tcp=refuse", "Migrate with tcp=close, or again."
            )
        self.journal.write("frozen", freeze_ns=self._freeze_ns)
        self._usage = self._usage_at_rest()

    def _usage_at_rest(self) -> dict[str, int]:
        """Processor time by container: the kernel calls a group frozen a moment before its last task is off the processor."""
        deadline = time.monotonic() + _AT_REST_SECONDS
        usage: dict[str, int] = {}
        while True:
            before, usage = usage, {item.name: item.cgroup.usage_ns() for item in self._containers}
            if usage == before or time.monotonic() > deadline:
                return usage
            time.sleep(0.001)

    @staticmethod
    def _freeze_one(item: containers.Container) -> int:
        faults.point("source:freeze:before", item.name)
        return item.cgroup.freeze(5.0)

    def _get_ready(self) -> None:
        """Let the runtime come as far as CRIU for every container, while they still run."""
        self._between = sockets.Between(self._containers)
        for item in self._containers:
            os.makedirs(self.paths.container(item.name), mode=0o700)
            skip = (versions.runc(self.runner([item.runtime, "--version"]).stdout) or [0]) >= _SKIPS_IN_FLIGHT
            dump = Dump(item, self.paths.criu(item.name), self.paths.work(item.name), skip)
            self._dumps.append(dump)
            dump.get_ready(GET_READY_SECONDS, self._keep_up)

    def _dump_all(self) -> list[subprocess.Popen[bytes]]:
        """Dump every container, with what of its files is not copied yet.

        :returns: what writes shared volumes out beside it, see :meth:`_wait_for_flush`.
        """
        flushed = self._flush()
        between = self._joined()
        between.look()
        for dump in self._dumps:
            dump.tell(between.options())
        for item, dump in zip(self._containers, self._dumps):
            faults.point("source:dump:before", item.name)
            # What it wrote to a volume meanwhile is newer than that volume's archive. CRIU's own use does not count.
            self._stood(item, "from the freeze to its dump")
            dump.begin()
            names = self._pack(item)
            while not dump.described() and dump.running():
                time.sleep(0.001)
                self._during_transfer()
            self._packed(item, names, described=dump.described())
            while dump.running():
                self._dumping(item)
                self._during_transfer()
            dump.finish()
            self._usage[item.name] = item.cgroup.usage_ns()
            faults.point("source:dump:after", item.name)
        return flushed

    def _mend(self) -> bool:
        """Change the dumps to what can come back: connections with others are closed, what all dumps hold stays in one.

        :returns: whether containers are connected with each other over loopback.
        :raises FreezeFailed: a connection is there and tcp=refuse.
        """
        folders = [self.paths.criu(item.name) for item in self._containers]
        self._joined().mend({item.name: folder for item, folder in zip(self._containers, folders)})
        if len(folders) > 1:
            ipc.divide(folders, [procfs.sysv_segments(item.cgroup.pids()) for item in self._containers])
        ends = [set(connections.connections(folder)) for folder in folders]
        # One whose ends lie in two containers needs a target that can hold the loopback up between the two restores.
        across = {end for mine in ends for end in mine if end.inner and end.other_end not in mine}
        across = {end for end in across if any(end.other_end in theirs for theirs in ends)}
        lost = {end for mine in ends for end in mine if not end.inner} | (set() if self._can_hold_loopback else across)
        if lost and self.tcp == "refuse":
            raise FreezeFailed(
                "a TCP connection was opened meanwhile and tcp=refuse", "Migrate with tcp=close, or again."
            )
        self._closed = sum(connections.close(folder, lost.__contains__) for folder in folders) if lost else 0
        return bool(across) and self._can_hold_loopback

    def _joined(self) -> sockets.Between:
        """The unix sockets between the containers.

        :raises StateConflict: nobody has got ready for a dump.
        """
        if self._between is None:
            raise StateConflict("the pod's containers were not made ready for a dump")
        return self._between

    def _pack(self, item: containers.Container) -> list[str]:
        """Archive what of the files is not on the target yet: the pod's own with the first container.

        :returns: names of the archives.
        """
        # Reading a large tree takes longer than the silence after which the target counts us as lost.
        names = []
        if item is self._containers[0]:
            mapped = procfs.mapped_writable(pid for each in self._containers for pid in each.cgroup.pids())
            names += self._rounds().last(f"{VOLUMES}/", mapped, self._during_transfer)
            for volume in self._empty_dirs():
                if volume.in_memory:
                    names.append(self._archive(VOLUMES, volume.name, volume.path))
            written = self._joined().write(self.paths.criu(item.name))
            if written:
                names.append(f"{item.name}/criu/{written}")
            memory = oci.mount_source(item.config, "/dev/shm")
            if memory and os.path.isdir(memory):
                names.append(self._archive(item.name, "shm", memory))
        names += self._rounds().last(f"{item.name}/", procfs.mapped_writable(item.cgroup.pids()), self._during_transfer)
        open_there = os.path.join(self.paths.container(item.name), held.NAME)
        if held.pack(item.cgroup.pids(), volumes.kubelet_volumes(item.config, item.owner.uid), open_there):
            names.append(f"{item.name}/{held.NAME}")
        return names

    def _archive(self, owner: str, name: str, path: str) -> str:
        """All of a tree in memory, in one archive."""
        os.makedirs(self.paths.container(owner), mode=0o700, exist_ok=True)
        tree.pack(path, os.path.join(self.paths.container(owner), f"{name}.tar"), self._during_transfer)
        return f"{owner}/{name}.tar"

    def _flush(self) -> list[subprocess.Popen[bytes]]:
        """Write out what volumes that other nodes mount have not written yet, beside the dump."""
        places = {place for item in self._containers for place in volumes.shared(item.config, item.owner.uid)}
        return [
            subprocess.Popen(["sync", "--file-system", place], stdin=subprocess.DEVNULL) for place in sorted(places)
        ]

    def _wait_for_flush(self, flushed: list[subprocess.Popen[bytes]]) -> None:
        for child in flushed:
            while child.poll() is None:
                self._during_transfer()
                time.sleep(0.001)
            if child.returncode != 0:
                raise DumpFailed("a shared volume could not be written out", "Look at its server, and at `dmesg`.")

    def _during_transfer(self) -> None:
        self._during_rounds()
        if time.monotonic() > self._freeze_deadline:
            raise DeadlineExceeded(f"the freeze took longer than {self.deadlines.freeze:g} s", "Allow a longer freeze.")

    def _verify_still(self) -> None:
        """:raises FreezeFailed: something else thawed, killed or ran the source since its dump."""
        for item in self._containers:
            self._stood(item, "after its dump")

    def _stood(self, item: containers.Container, when: str) -> None:
        if not item.cgroup.stands() or item.cgroup.usage_ns() != self._usage[item.name]:
            raise FreezeFailed(
                f"container {item.name} did not stay frozen {when}",
                "Something else (the runtime, a person, a node agent) thawed or killed it: the dump cannot be used.",
            )

    def _remaining(self) -> float:
        return max(0.1, self._freeze_deadline - time.monotonic())

    def _thaw(self) -> bool:
        """Thaw everything that we may have frozen; one that refuses does not keep the others frozen."""
        failed = thaw.run_again(self.journal.data)
        for error in failed:
            self.emit("warning", message=error.message, remedy=error.remedy)
        return not failed

    def _put_back(self, error: PodferryError) -> list[str]:
        """Something went wrong before the commit: the pod runs on, first of all.

        :returns: the end of CRIU's log, when it was the dump.
        """
        error.phase = error.phase or self.phases.current
        deadman.within(STOP_SECONDS + 2 * deadman.MARGIN)
        for dump in self._dumps:
            dump.stop()
        running = self._thaw()
        self._cancellable = False
        if running:
            self.journal.write("aborted", error=error.to_dict())
        # else the journal keeps saying that it is frozen: the guard tries again once everything of ours is gone
        if error.kind != "dump_failed":
            return []
        return [line for item in self._containers for line in log_tail(self.paths.work(item.name), DUMP_LOG)]

    def _go_on(self) -> float:
        """Let the pod run on: what was dumped goes a way of its own from here.

        :returns: how long it stood, in ms.
        :raises FreezeFailed: it did not stand since its dump, which is of no use then.
        """
        self._verify_still()
        failed = thaw.run_again(self.journal.data)
        if failed:
            raise failed[0]
        self.journal.write("copied")
        return round((time.monotonic_ns() - self._freeze_ns) / 1e6, 2)
