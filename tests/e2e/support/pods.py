# SPDX-License-Identifier: Apache-2.0
"""`python -m e2e.support.pods KIND NODE [NAME]`: create one of the lab's workloads and wait until it is Ready (KUBECONFIG says where)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from e2e.support import workloads
from e2e.support.cluster import Cluster

KINDS = {"counter": workloads.counter, "redis": workloads.redis, "http": workloads.http, "json": workloads.json_service}


def main(arguments: list[str]) -> int:
    """Create the pod; 2 on wrong usage."""
    if len(arguments) not in (2, 3) or arguments[0] not in KINDS:
        print(__doc__, f"KIND: {', '.join(KINDS)}", file=sys.stderr)
        return 2
    kind, node, *name = arguments
    print(Cluster(Path(os.environ["KUBECONFIG"])).create(KINDS[kind](name[0] if name else kind, node)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
