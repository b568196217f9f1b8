# SPDX-License-Identifier: Apache-2.0
"""When the other node's runtime may get ready."""

import pathlib

from ansible_collections.podferry.live.plugins.module_utils._criu.dump import DESCRIPTORS, Dump


def test_a_dump_is_described_when_the_descriptors_are_written(tmp_path: pathlib.Path) -> None:
    """crun writes them when it begins, and makes the file before it fills it."""
    dump = object.__new__(Dump)
    dump._images = str(tmp_path)
    assert not dump.described()
    (tmp_path / DESCRIPTORS).touch()
    assert not dump.described()
    (tmp_path / DESCRIPTORS).write_text('["/dev/null","pipe:[1]","pipe:[2]"]')
    assert dump.described()
