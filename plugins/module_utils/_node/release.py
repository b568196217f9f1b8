# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Programs out of a project's own release (a tar archive or a single file): fetched, verified, installed, and taken away again.

What was installed is written down, with digests, so that nothing else is ever overwritten or removed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import stat
import tarfile
import typing as t
from pathlib import Path

from .._common.errors import InvalidInput, PodferryError
from .._common.files import write_json

_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Release:
    """What shall be there.

    :ivar files: member of the archive to where it goes; a download that is no archive has the one member "".
    :ivar mode: permissions of programs.
    """

    name: str
    url: str
    sha256: str
    files: t.Mapping[str, str]
    mode: int = 0o755

    def mode_of(self, path: str) -> int:
        """Return the permissions of a file that goes to ``path``."""
        return 0o644 if path.endswith((".service", ".socket")) else self.mode


class Installed:
    """What is there of a release, by its record.

    :param root: the folder of the records.
    """

    def __init__(self, root: str, name: str) -> None:
        self.path = os.path.join(root, f"{name}.json")
        try:
            record = json.loads(Path(self.path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            record = {}
        self.url: str = record.get("url", "")
        self.sha256: str = record.get("sha256", "")
        self.files: dict[str, str] = record.get("files", {})
        """Path to SHA-256 of what was installed."""
        self.folders: list[str] = record.get("folders", [])
        """Folders that came with it, outermost first."""

    def whole(self, release: Release) -> bool:
        """Whether it is this release and no other, and every file of it as it was installed (modes: :meth:`loose`)."""
        intact = all(digest_of(path) == self.files.get(path, "") for path in release.files.values())
        return intact and self.sha256 == release.sha256 and not self.superseded(release)

    def altered(self) -> list[str]:
        """Return the files that are missing or not as they were installed."""
        return [path for path, digest in sorted(self.files.items()) if digest_of(path) != digest]

    def superseded(self, release: Release) -> list[str]:
        """Return the files that a former release had and this one has not, as far as they are as they were installed."""
        return [path for path in self.present() if path not in release.files.values()]

    def write(self, release: Release, unpacked: t.Mapping[str, str]) -> None:
        """Write the record of a release that is about to be installed, and of the folders that will be made for it.

        What a former one has left there stays in it: it can still be taken away, or is somebody's who has to be told.

        :param unpacked: where each file goes, to where it lies now.
        """
        left = {path: digest for path, digest in self.files.items() if os.path.lexists(path)}
        self.url, self.sha256 = release.url, release.sha256
        self.files = {**left, **{path: digest_of(source) or "" for path, source in unpacked.items()}}
        folders = [folder for path in release.files.values() for folder in missing_folders(path)]
        self.folders = list(dict.fromkeys([*self.folders, *folders]))
        self._save()

    def drop(self, paths: t.Iterable[str]) -> None:
        """Remove some of the files, and then from the record."""
        for path in paths:
            os.unlink(path)
            del self.files[path]
        self._save()

    def _save(self) -> None:
        os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
        record = {"url": self.url, "sha256": self.sha256, "files": self.files, "folders": self.folders}
        write_json(self.path, record, 0o644)

    def present(self) -> list[str]:
        """Return the files that are there as they were installed; others' changes are not ours to remove."""
        return [path for path, digest in sorted(self.files.items()) if digest_of(path) == digest]


def strangers(release: Release, installed: Installed) -> list[str]:
    """Return the files that somebody else has put where this release would go."""
    return [path for path in sorted(release.files.values()) if path not in installed.files and os.path.lexists(path)]


def loose(release: Release) -> list[str]:
    """Return the files that have other permissions than they should."""
    return [
        path for path in sorted(release.files.values()) if stat.S_IMODE(os.stat(path).st_mode) != release.mode_of(path)
    ]


def mode(value: object) -> int:
    """Return permissions out of octal digits.

    :raises InvalidInput: it is something else; a number is one that YAML has read, as octal or as decimal digits.
    """
    if not isinstance(value, str) or not re.fullmatch("[0-7]{3,4}", value):
        raise InvalidInput(f"mode has to be octal digits as a string, not {value!r}", 'Quote it: mode: "0755".')
    return int(value, 8)


def missing_folders(path: str) -> list[str]:
    """Return the folders that would have to be made for a file, outermost first."""
    missing: list[str] = []
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        missing.insert(0, folder)
        folder = os.path.dirname(folder)
    return missing


def digest_of(path: str) -> str | None:
    """Return a file's SHA-256, None when there is none."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            for block in iter(lambda: stream.read(_BLOCK), b""):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def save(source: t.IO[bytes], path: str, sha256: str, url: str) -> None:
    """Write a download to a file and check it.

    :raises InvalidInput: it is not what its checksum says.
    """
    digest = hashlib.sha256()
    with open(path, "wb") as stream:
        for block in iter(lambda: source.read(_BLOCK), b""):
            digest.update(block)
            stream.write(block)
    if digest.hexdigest() != sha256:
        raise InvalidInput(
            f"{url} has the SHA-256 {digest.hexdigest()}, not {sha256}",
            "Compare it with the checksum that the project publishes for this version and architecture.",
        )


def unpack(path: str, release: Release, folder: str) -> dict[str, str]:
    """Take the files out of a verified download into ``folder``: where each goes, to where it lies now.

    :raises InvalidInput: a file is not in it, or is no regular file.
    """
    if set(release.files) == {""}:
        return {release.files[""]: path}
    found = {}
    try:
        with tarfile.open(path) as archive:
            for number, (member, destination) in enumerate(release.files.items()):
                try:
                    entry = archive.getmember(member)
                except KeyError:
                    raise InvalidInput(f"{release.url} holds no {member}", "Say which files it has.") from None
                stream = archive.extractfile(entry) if entry.isreg() else None
                if stream is None:
                    raise InvalidInput(f"{member} in {release.url} is no regular file")
                found[destination] = os.path.join(folder, str(number))
                with open(found[destination], "wb") as target:
                    shutil.copyfileobj(stream, target, _BLOCK)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InvalidInput(f"{release.url} cannot be unpacked: {error}") from error
    return found


def check(release: Release) -> None:
    """Check what was asked for.

    :raises PodferryError: it cannot be meant.
    """
    if len(release.sha256) != 64 or set(release.sha256) - set("0123456789abcdef"):
        raise PodferryError(f"{release.sha256!r} is no SHA-256", "Give 64 hexadecimal digits.")
    if not release.files:
        raise PodferryError("no file is named")
    if "" in release.files and len(release.files) > 1:
        raise PodferryError("a download is either an archive with members or a single file")
    for destination in release.files.values():
        if not os.path.isabs(destination) or ".." in destination.split("/"):
            raise PodferryError(f"{destination} is no absolute path")
    if not release.name or "/" in release.name or release.name.startswith("."):
        raise PodferryError(f"{release.name!r} is no name")
