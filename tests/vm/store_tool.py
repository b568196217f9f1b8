# SPDX-License-Identifier: Apache-2.0
"""On a machine of `tests/vm/nfs`: the store of checkpoints, by its node code. Prints one JSON document.

`save ID FOLDER` | `load ID FOLDER` | `list`; the store is the mount of role nfs_client.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time

from ansible_collections.podferry.live.plugins.module_utils._store import manifest as documents
from ansible_collections.podferry.live.plugins.module_utils._store import node

STORE = {"kind": "path", "path": "/var/lib/podferry/nfs"}
NAMESPACE, POD = "default", "counter"


def save(identity: str, folder: str) -> dict[str, object]:
    """Store what is in a state folder, and publish it."""
    fields = {
        "id": identity,
        "namespace": NAMESPACE,
        "pod": POD,
        "uid": "00000000-0000-4000-8000-000000000000",
        "node": os.uname().nodename,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kind": "pod",
        "containers": [
            {"name": "counter", "image": "localhost/podferry-counter:lab", "image_id": "sha256:" + "0" * 64}
        ],
        "facts": {"arch": os.uname().machine, "kernel": os.uname().release},
    }
    made = node.save(STORE, folder, fields)
    node.publish(STORE, documents.canonical(made), "")
    return dataclasses.asdict(made)


def main() -> int:
    """0, or 1 with what went wrong."""
    began = time.monotonic()
    verb, *arguments = sys.argv[1:]
    try:
        if verb == "save":
            answer: dict[str, object] = save(*arguments)
        elif verb == "load":
            (found,) = (entry for entry in node.entries(STORE, NAMESPACE, POD) if entry.manifest.id == arguments[0])
            node.load(STORE, found.manifest, arguments[1], limit=1 << 30)
            answer = {"loaded": found.manifest.id}
        else:
            answer = {"ids": [entry.manifest.id for entry in node.entries(STORE)]}
    except Exception as error:  # noqa: BLE001
        print(json.dumps({"error": f"{type(error).__name__}: {error}", "seconds": time.monotonic() - began}))
        return 1
    print(json.dumps({**answer, "seconds": time.monotonic() - began}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
