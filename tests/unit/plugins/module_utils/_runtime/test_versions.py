# SPDX-License-Identifier: Apache-2.0
"""Versions as the programs print them."""

import pytest

from ansible_collections.podferry.live.plugins.module_utils._runtime import versions


@pytest.mark.parametrize(
    ("parse", "text", "version"),
    [
        (versions.runc, "runc version 1.1.15+ds1\ncommit: 1.1.15+ds1-2+b4\nspec: 1.2.0\ngo: go1.24.4\n", [1, 1, 15]),
        (versions.runc, "runc version 1.3.6+ds1\ncommit: 1.3.6+ds1-1\n", [1, 3, 6]),
        (versions.runc, "crun version 1.21\ncommit: 10269840aa07\n", None),
        (versions.runc, "", None),
        (versions.criu, "Version: 4.1.1\n", [4, 1, 1]),
        (versions.criu, "Version: 4.2\nGitID: v4.2-3-gabc\n", [4, 2]),
        (
            versions.containerd,
            "containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+deb13u1\n",
            [1, 7, 24],
        ),
        (versions.containerd, "containerd github.com/containerd/containerd/v2 2.1.9+unknown \n", [2, 1, 9]),
        (versions.containerd, "containerd containerd.io v2.0.0 207ad711\n", [2, 0, 0]),
        (versions.crio, "crio version 1.33.2\n   GitCommit: abc\n", [1, 33, 2]),
        (versions.crio, "Version:          1.28.1\nGitCommit: x\n", [1, 28, 1]),
        (versions.kernel_release, "6.12.107+deb13-amd64\n", [6, 12, 107]),
    ],
)
def test_parses(parse, text: str, version) -> None:
    assert parse(text) == version


def test_dotted() -> None:
    assert versions.dotted([4, 1, 1]) == "4.1.1"
