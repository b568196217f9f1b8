# SPDX-License-Identifier: Apache-2.0
"""`python -m e2e.support.repository CACHE MIRROR FOLDER PACKAGE...`: a Debian repository in a folder, for machines without a network.

It holds these packages of Debian 13 (``name/testing``: of testing) and all that they need beyond a minimal system, from the lab's cache.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from podferry_lab import roots


def packages(cache: str, mirror: str, names: list[str]) -> list[Path]:
    """The archives of these packages and of what they need. A root with all of them is made once: so apt has resolved and fetched them."""
    base, _built = roots.ensure(cache, "base", "trixie", mirror, [], strip=False)
    root, _built = roots.ensure(cache, "node", "trixie", mirror, names, strip=False)
    have = roots.versions(base)
    wanted = {name: version for name, version in roots.versions(root).items() if have.get(name) != version}
    found = []
    for name, version in sorted(wanted.items()):
        archives = list(Path(cache, "debs").glob(f"{name}_{quote(version, safe='+~').replace('%3A', '%3a')}_*.deb"))
        if not archives:
            raise SystemExit(
                f"{name} {version} is not in {cache}/debs any more: remove {Path(root).parent} and try again"
            )
        found += archives
    return found


def make(archives: list[Path], folder: Path) -> None:
    """Copy the archives into a folder and write its index."""
    folder.mkdir(parents=True, exist_ok=True)
    index = []
    for archive in archives:
        shutil.copy(archive, folder)
        control = subprocess.run(
            ["dpkg-deb", "--field", str(archive)], check=True, capture_output=True, text=True
        ).stdout
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        index.append(
            f"{control.strip()}\nFilename: ./{archive.name}\nSize: {archive.stat().st_size}\nSHA256: {digest}\n"
        )
    (folder / "Packages").write_text("\n".join(index))


def main(arguments: list[str]) -> int:
    """0; 2 on wrong usage."""
    if len(arguments) < 4:
        print(__doc__, file=sys.stderr)
        return 2
    cache, mirror, folder, *names = arguments
    make(packages(cache, mirror, names), Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
