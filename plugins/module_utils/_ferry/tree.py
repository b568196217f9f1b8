# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Changes of a root file system, and the sandbox's /dev/shm, as a tar between two nodes.

An archive from another node is hostile, and so is the tree that it is laid into: both hold what a workload or an image
wanted. It is therefore unpacked by a child that has made that tree its root directory first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import stat
import sys
import tarfile
import time
import typing as t

from .._common.errors import InvalidInput, NotFound, RestoreFailed
from .._common.files import read_text
from . import inside

_OPAQUE_ATTRIBUTES = ("trusted.overlay.opaque", "user.overlay.opaque")
DELETED = "PODFERRY.deleted"
OPAQUE = "PODFERRY.opaque"
_GONE = "PODFERRY.gone"
"""An earlier round brought it, and it is not there any more."""
_SPARSE = "PODFERRY.sparse"
"""``size offset+length offset+length…`` of a file with holes; only its data is in the archive."""
_INCOMPLETE = tuple(f"{kind}.overlay.{name}" for kind in ("trusted", "user") for name in ("metacopy", "redirect"))
"""Marks of entries whose contents lie in a lower layer under another name: the upper directory is not all of it."""
_PULSE_SECONDS = 0.1
Pulse = t.Callable[[], None]
"""Called now and then while a tree is read or written, so that the other ferry hears of us; may raise to stop."""
XATTR = "SCHILY.xattr."
SKIPPED_XATTRS = ("trusted.overlay.", "user.overlay.", "security.selinux")


def upper_directory(rootfs: str, mountinfo: str = "/proc/self/mountinfo") -> str:
    """Where overlayfs keeps the changes of the file system mounted at ``rootfs``.

    :raises NotFound: it is no overlay.
    """
    target = os.path.realpath(rootfs)
    for line in read_text(mountinfo).splitlines():
        fields, _dash, rest = line.partition(" - ")
        words = fields.split()
        if len(words) > 4 and _unescape(words[4]) == target and rest.startswith("overlay "):
            for option in rest.split(" ", 2)[2].split(","):
                if option.startswith("upperdir="):
                    return _unescape(option[len("upperdir=") :])
    raise NotFound(
        f"{rootfs} is not an overlay file system",
        "Only the overlayfs snapshotter (containerd) and overlay storage driver (CRI-O) are supported.",
    )


def _unescape(text: str) -> str:
    return text.encode().decode("unicode_escape") if "\\" in text else text


def size(path: str) -> int:
    """Bytes on disk of the files below ``path``, without following links out of it."""
    if not os.path.isdir(path):
        return 0
    found = inside.walk(path, inside.estimating)
    return sum(status.st_blocks * 512 for _name, status in found if not stat.S_ISDIR(status.st_mode))


def _no_pulse() -> None:
    pass


def pack(
    path: str,
    archive: str,
    pulse: Pulse = _no_pulse,
    *,
    only: t.Sequence[str] | None = None,
    gone: t.Sequence[str] = (),
    fresh: t.AbstractSet[str] | None = None,
    frozen: bool = True,
    seen: t.Mapping[str, t.Tuple[int, ...]] | None = None,
    left_out: set[str] | None = None,
) -> int:
    """Write the tree below ``path`` to ``archive``; overlayfs' marks for deletions travel along.

    :param only: these entries instead of all, a folder before what is in it.
    :param gone: what an earlier archive brought and is to be removed.
    :param fresh: folders among them that hide what the image has there; None: each that overlayfs marks so. A folder that
        came before has hidden it already, and would now hide what came with it.
    :param frozen: nothing changes meanwhile. Else what vanishes is left out, and what shrinks is filled with zeros: it has
        changed, so a later round brings it again.
    :param seen: what the look saw of each entry, its inode first. What is another one by now counts as vanished.
    :param left_out: what vanished is added; what lies below one of them is left out, too, as it has no folder there.
    :returns: the number of entries.
    :raises InvalidInput: there is something that cannot be carried. :raises DumpFailed: something cannot be read.
    """
    count = 0
    failed = inside.standing if frozen else inside.running
    missing = set() if left_out is None else left_out
    seldom = _Seldom(pulse)
    inodes: dict[tuple[int, int], str] = {}
    with contextlib.ExitStack() as opened:
        stream = opened.enter_context(open(archive, "xb"))
        tar = opened.enter_context(
            tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, copybufsize=1 << 20)
        )
        os.chmod(archive, 0o600)
        for relative in gone:
            info = tarfile.TarInfo(relative)
            info.pax_headers = {_GONE: "1"}
            tar.addfile(info)
            count += 1
        folders = opened.enter_context(inside.Folders(path))
        if only is None:
            only = inside.in_order(name for name, _status in inside.walk(path, failed))
        for relative in only:
            inside.check_length(relative)
            if missing and os.path.dirname(relative) in missing:
                missing.add(relative)
                continue
            try:
                entry = folders.entry(relative)
            except OSError as error:
                failed(error, relative)
                missing.add(relative)
                continue
            try:
                status = os.fstat(entry)
                if seen is not None and seen[relative][0] != status.st_ino:
                    missing.add(relative)
                    continue
                if stat.S_ISSOCK(status.st_mode):
                    continue  # CRIU makes the sockets that it restores
                info = tarfile.TarInfo(relative)
                info.mtime, info.mode = status.st_mtime, stat.S_IMODE(status.st_mode)
                info.uid, info.gid = status.st_uid, status.st_gid
                hides = fresh is None or relative in fresh
                _describe(tar, info, entry, status, inodes, seldom, hides=hides, frozen=frozen)
            finally:
                os.close(entry)
            count += 1
    return count


def _describe(
    tar: tarfile.TarFile,
    info: tarfile.TarInfo,
    entry: int,
    status: os.stat_result,
    inodes: dict[tuple[int, int], str],
    pulse: Pulse,
    *,
    hides: bool,
    frozen: bool,
) -> None:
    pulse()
    key = (status.st_dev, status.st_ino)
    notes: dict[str, str] = {}
    info.pax_headers = notes
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        notes[DELETED] = "1"
        tar.addfile(info)
        return
    try:
        attributes = _attributes(entry, frozen)
        if stat.S_ISLNK(status.st_mode):
            info.linkname = os.readlink("", dir_fd=entry)
    except OSError as error:
        inside.standing(error, info.name)
    for name, value in attributes.items():
        if name in _INCOMPLETE:
            raise InvalidInput(
                f"{info.name} is kept by overlayfs as a reference into the image ({name})",
                "Mount the nodes' container storage without metacopy and redirect_dir.",
            )
        if name in _OPAQUE_ATTRIBUTES and value == b"y" and hides and stat.S_ISDIR(status.st_mode):
            notes[OPAQUE] = "1"
        if not name.startswith(SKIPPED_XATTRS):
            notes[XATTR + name] = value.decode("utf-8", "surrogateescape")
    if stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif stat.S_ISLNK(status.st_mode):
        info.type = tarfile.SYMTYPE
        tar.addfile(info)
    elif stat.S_ISFIFO(status.st_mode):
        info.type = tarfile.FIFOTYPE
        tar.addfile(info)
    elif stat.S_ISREG(status.st_mode):
        if status.st_nlink > 1 and key in inodes:
            info.type, info.linkname = tarfile.LNKTYPE, inodes[key]
            tar.addfile(info)
            return
        try:
            descriptor = os.open(inside.opened(entry), os.O_RDONLY)
        except OSError as error:
            inside.standing(error, info.name)
        try:
            inodes[key] = info.name
            extents = [(0, status.st_size)]
            if status.st_blocks * 512 < status.st_size:
                extents = _extents(descriptor, status.st_size, info.name)
                notes[_SPARSE] = " ".join([str(status.st_size), *(f"{start}+{length}" for start, length in extents)])
            info.size = sum(length for _start, length in extents)
            data = _Data(descriptor, info.name, extents, pulse, fill=not frozen)
            tar.addfile(info, t.cast("t.IO[bytes]", data))
        finally:
            os.close(descriptor)
    else:
        raise InvalidInput(
            f"the root file system holds a device, {info.name}", "Pods that make device nodes are not supported."
        )


def _attributes(entry: int, frozen: bool) -> dict[str, bytes]:
    """The extended attributes of what a descriptor stands for."""
    path = inside.opened(entry)
    found: dict[str, bytes] = {}
    for name in os.listxattr(path):
        try:
            found[name] = os.getxattr(path, name)
        except OSError as error:
            if frozen or error.errno != errno.ENODATA:  # while the pod runs it may be taken away
                raise
    return found


class _Seldom:
    """A pulse that is passed on ten times a second at the most."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._last = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last > _PULSE_SECONDS:
            self._last = now
            self._pulse()


def _extents(descriptor: int, size: int, name: str) -> list[tuple[int, int]]:
    """Where a file with holes has data: (offset, length) in their order."""
    found = []
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            position = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                break
            inside.standing(error, name)
        if position > start:
            found.append((start, position - start))
    return found


class _Data:
    """The data of a file without its holes, as tarfile reads it."""

    def __init__(
        self, descriptor: int, name: str, extents: t.Sequence[tuple[int, int]], pulse: Pulse, fill: bool
    ) -> None:
        self._fill = fill
        self._descriptor = descriptor
        self._name = name
        self._left = list(extents)
        self._pulse = pulse

    def read(self, count: int) -> bytes:
        self._pulse()
        blocks = []
        while count and self._left:
            start, length = self._left[0]
            try:
                block = os.pread(self._descriptor, min(count, length), start)
                if not block and not self._fill:
                    raise OSError(errno.ENODATA, "it is shorter than it was")
            except OSError as error:
                inside.standing(error, self._name)
            block = block or bytes(min(count, length))
            blocks.append(block)
            count -= len(block)
            self._left[0] = (start + len(block), length - len(block))
            if self._left[0][1] == 0:
                del self._left[0]
        return b"".join(blocks)


def unpack(archive: str, root: str, pulse: Pulse = _no_pulse) -> None:
    """Lay the changes in ``archive`` over the tree ``root``, by a child process that cannot see anything else.

    :raises RestoreFailed: the archive is not one of :func:`pack`, or the tree refuses it.
    """
    stream = open(archive, "rb")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            sys.meta_path.clear()  # from here on a module that Python looks for would be one of the image
            os.chroot(root)
            os.chdir("/")
            folders = []
            with tarfile.open(fileobj=stream, mode="r:", errorlevel=2) as tar:
                for member in tar:
                    _lay(tar, member)
                    if member.isdir() and os.path.isdir(_inside(member.name)):
                        folders.append(member)
            for member in reversed(folders):  # what came into them has changed their times
                os.utime(_inside(member.name), (member.mtime, member.mtime))
            code = 0
        except BaseException as error:  # noqa: BLE001 - the only way out of this process is its exit code
            os.write(writer, f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:2000])
        finally:
            os._exit(code)
    os.close(writer)
    stream.close()
    with os.fdopen(reader, "rb") as messages:
        try:
            while not select.select([messages], [], [], _PULSE_SECONDS)[0]:
                pulse()
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        message = messages.read().decode("utf-8", "replace")
    _pid, status = os.waitpid(child, 0)
    if status != 0:
        raise RestoreFailed(f"the changes of the root file system cannot be laid over the image: {message}")


def _inside(name: str) -> str:
    """Where an entry of that name lies below our root directory."""
    return os.path.normpath("/" + name.lstrip("/"))


def _lay(tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    """Create one entry inside our root directory. ``/`` is the container's tree here, so no name can leave it."""
    path = _inside(member.name)
    notes: t.Mapping[str, str] = member.pax_headers
    if path == "/":
        os.chown(path, member.uid, member.gid)
        os.chmod(path, member.mode)
        return
    present = os.path.lexists(path)
    if (
        DELETED in notes
        or _GONE in notes
        or (present and (not member.isdir() or os.path.islink(path) or not os.path.isdir(path)))
    ):
        _remove(path)
        present = False
    if DELETED in notes or _GONE in notes:
        return
    if OPAQUE in notes and present:
        _remove(path)
        present = False
    if member.isdir():
        if not present:
            os.mkdir(path)
    elif member.issym():
        os.symlink(member.linkname, path)
    elif member.islnk():
        os.link(_inside(member.linkname), path, follow_symlinks=False)
        return
    elif member.isfifo():
        os.mkfifo(path)
    elif member.isreg() and not member.issparse():  # tarfile's own holes: a file of any size from an archive of none
        source = tar.extractfile(member)
        with open(path, "xb") as sink:
            if source is not None:
                _fill(source, sink, notes.get(_SPARSE))
    else:
        raise InvalidInput(f"{member.name} is of a type that we never send")
    os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if member.issym():
        return
    os.chmod(path, member.mode)
    for name, value in notes.items():
        if name.startswith(XATTR) and not name[len(XATTR) :].startswith(SKIPPED_XATTRS):
            os.setxattr(path, name[len(XATTR) :], value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
    os.utime(path, (member.mtime, member.mtime))


def _fill(source: t.IO[bytes], sink: t.BinaryIO, sparse: str | None) -> None:
    if sparse is None:
        shutil.copyfileobj(source, sink, 1 << 20)
        return
    whole, *extents = sparse.split()
    for extent in extents:
        start, _plus, length = extent.partition("+")
        sink.seek(int(start))
        left = int(length)
        while left > 0:
            block = source.read(min(left, 1 << 20))
            if not block:
                raise InvalidInput("a file with holes is shorter than it says")
            sink.write(block)
            left -= len(block)
    sink.truncate(int(whole))


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
