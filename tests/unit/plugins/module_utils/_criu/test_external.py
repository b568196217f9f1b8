# SPDX-License-Identifier: Apache-2.0
"""What a restore mounts for masked paths, whatever the other node's OCI runtime called them in the dump."""

from ansible_collections.podferry.live.plugins.module_utils._criu import external


def options(*masked: object) -> list[str]:
    return external.options(
        {"linux": {"maskedPaths": list(masked)}}, lambda path: path in ("/proc/acpi", "/sys/firmware")
    )


def test_files_and_folders() -> None:
    found = options("/proc/kcore", "/proc/acpi", "/sys/firmware")
    assert "external mnt[/proc/kcore]:/dev/null" in found
    assert "external mnt[/proc/acpi]:/run/podferry/empty" in found
    assert "external mnt[/sys/firmware]:/run/podferry/empty" in found


def test_the_names_of_runc_and_of_crun_at_any_root() -> None:
    for config in ({}, {"linux": None}, {"linux": {"maskedPaths": None}}):
        found = external.options(config)
        assert "external mnt[/dev/null]:/dev/null" in found
        assert "external mnt[/run/crun/.empty-directory]:/run/podferry/empty" in found


def test_a_path_can_be_no_other_line_of_the_configuration() -> None:
    usual = options()
    assert options("/x\naction-script /tmp/evil", "relative", "/a]:/etc/shadow", "/with space", 7) == usual


def test_each_line_once() -> None:
    found = options("/proc/kcore", "/proc/kcore", "/dev/null")
    assert len(found) == len(set(found))
