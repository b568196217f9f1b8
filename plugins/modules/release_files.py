#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_files
short_description: Files out of a project's release, verified
version_added: 0.1.0
description:
  - Fetches a release (a tar archive, or a single program) to the node, checks its SHA-256 before anything is done with it, installs single
    files of it, and writes down which. Or takes exactly these away again, as far as nobody has changed them, and the folders that
    were made for them.
  - Files of a former release of that name that are not in O(files) any more are removed, as far as nobody has changed them.
  - A file that is there already and was not installed by this module is a reason to fail, never overwritten.
extends_documentation_fragment:
  - podferry.live._attributes
attributes:
  check_mode:
    support: full
    details:
      - Nothing is fetched, so a wrong checksum is only found by a real run.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  name:
    description:
      - Name of the record below O(record_path).
    type: str
    required: true
  state:
    description:
      - Whether the files shall be there.
    type: str
    choices: [present, absent]
    default: present
  url:
    description:
      - Where the release is. Required with O(state=present).
    type: str
  checksum:
    description:
      - Its SHA-256, with or without C(sha256:) in front. Required with O(state=present).
    type: str
  files:
    description:
      - Member of the archive to the path where it goes. For a single file that is no archive, an empty name to its path.
        Required with O(state=present).
    type: dict
  mode:
    description:
      - Permissions of programs. Files of systemd (C(.service), C(.socket)) get C(0644).
      - Octal digits as a string. A number is refused, because YAML reads V(0755) and V(755) as different ones.
    type: raw
    default: "0755"
  record_path:
    description:
      - Folder of the records.
    type: path
    default: /var/lib/podferry-installed
  timeout:
    description:
      - Seconds without an answer after which the server counts as gone.
    type: int
    default: 30
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Install runc from its release
  podferry.live.release_files:
    name: runc
    url: https://mirror.example.com/opencontainers/runc/releases/download/v1.3.6/runc.amd64
    checksum: sha256:3f3921dbbee7723e9868f97e88e51ffc910206e3ba55646e74d93d24ea76023c
    files: {"": /usr/local/sbin/runc}

- name: Take it away again
  podferry.live.release_files:
    name: runc
    state: absent
"""

RETURN = r"""
files:
  description: Files that were (or in check mode would be) written, removed, or given other permissions.
  returned: success
  type: list
  elements: str
  sample: [/usr/local/sbin/runc]
kept:
  description: Files of the record that somebody has changed; they were left alone.
  returned: when O(state=absent)
  type: list
  elements: str
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import fetch_url

from ..module_utils._common.errors import PodferryError
from ..module_utils._node import release as releases


def fetch(module: AnsibleModule, release: releases.Release) -> str:
    """Return the path of the verified download."""
    stream, info = fetch_url(module, release.url, timeout=module.params["timeout"])
    if stream is None or info["status"] not in (-1, 200):
        raise PodferryError(
            f"{release.url} cannot be fetched: {info['msg']}",
            "Let the node reach it, or set podferry_download_base to a mirror that it reaches.",
        )
    path = os.path.join(module.tmpdir, "release")
    releases.save(stream, path, release.sha256, release.url)
    return path


def present(module: AnsibleModule, release: releases.Release) -> dict[str, t.Any]:
    """Install it unless it is there."""
    releases.check(release)
    installed = releases.Installed(module.params["record_path"], release.name)
    if installed.whole(release):
        files = releases.loose(release)
        if not module.check_mode:
            permit(release, files)
        return {"changed": bool(files), "files": files}
    foreign = releases.strangers(release, installed)
    if foreign:
        raise PodferryError(
            f"{', '.join(foreign)} is there already, and not from this module", "Remove it, or keep it."
        )
    superseded = installed.superseded(release)
    if not module.check_mode:
        unpacked = releases.unpack(fetch(module, release), release, module.tmpdir)
        # First the record: whatever breaks off after it can be finished, and taken away.
        installed.write(release, unpacked)
        for destination, source in unpacked.items():
            os.makedirs(os.path.dirname(destination), mode=0o755, exist_ok=True)
            module.atomic_move(source, destination)
            permit(release, [destination])  # only now: a move gives the permissions of what was there, or the umask's
        installed.drop(superseded)
    return {"changed": True, "files": sorted([*release.files.values(), *superseded])}


def permit(release: releases.Release, paths: t.Iterable[str]) -> None:
    """Give files their permissions."""
    for path in paths:
        os.chmod(path, release.mode_of(path))


def absent(module: AnsibleModule) -> dict[str, t.Any]:
    """Remove what the record names and nobody has changed."""
    installed = releases.Installed(module.params["record_path"], module.params["name"])
    files = installed.present()
    recorded = os.path.lexists(installed.path)
    if recorded and not module.check_mode:
        for path in files:
            os.unlink(path)
        os.unlink(installed.path)
        for folder in [*reversed(installed.folders), os.path.dirname(installed.path)]:
            if os.path.isdir(folder) and not os.listdir(folder):
                os.rmdir(folder)
    kept = [path for path in installed.altered() if path not in files and os.path.lexists(path)]
    return {"changed": recorded, "files": files, "kept": kept}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "url": {"type": "str"},
            "checksum": {"type": "str"},
            "files": {"type": "dict"},
            "mode": {"type": "raw", "default": "0755"},
            "record_path": {"type": "path", "default": "/var/lib/podferry-installed"},
            "timeout": {"type": "int", "default": 30},
        },
        required_if=[("state", "present", ("url", "checksum", "files"))],
        supports_check_mode=True,
    )
    wanted = module.params
    try:
        if wanted["state"] == "absent":
            result = absent(module)
        else:
            checksum = str(wanted["checksum"]).lower().rpartition(":")[2]
            files = {str(member): str(path) for member, path in wanted["files"].items()}
            mode = releases.mode(wanted["mode"])
            result = present(module, releases.Release(wanted["name"], wanted["url"], checksum, files, mode))
    except PodferryError as error:
        module.fail_json(msg=f"{error.message}. {error.remedy}".strip(), **error.to_dict())
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
