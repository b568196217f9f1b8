# SPDX-License-Identifier: Apache-2.0
"""A create's words become a restore's: those of containerd's shims and of conmon, and none that we do not understand."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._criu import restore
from ansible_collections.podferry.live.plugins.module_utils._criu.environment import environment, restore_options
from ansible_collections.podferry.live.plugins.module_utils._criu.restore import parse_create, restore_argv

ID = "ab" * 32
BUNDLE = f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}"
SHIM = ["--root", "/run/containerd/runc/k8s.io", "--log", f"{BUNDLE}/log.json", "--log-format", "json"]
CALLS = {
    "containerd 1.7, cgroupfs": [*SHIM, "create", "--bundle", BUNDLE, "--pid-file", f"{BUNDLE}/init.pid", ID],
    "containerd 2.x, systemd": [*SHIM, "--systemd-cgroup", "create", "--bundle", BUNDLE, "--pid-file", f"{BUNDLE}/init.pid", ID],
    "containerd, keyring": [*SHIM, "create", "--bundle", BUNDLE, "--pid-file", f"{BUNDLE}/init.pid", "--no-new-keyring", ID],
    "containerd, ramdisk": [*SHIM, "create", "--bundle", BUNDLE, "--pid-file", f"{BUNDLE}/init.pid", "--no-pivot", ID],
    "conmon": ["--systemd-cgroup", "--root=/run/runc", "create", "--bundle", BUNDLE, "--pid-file", f"{BUNDLE}/init.pid", ID],
    "conmon, keyring": ["--root=/run/runc", "create", "--bundle", BUNDLE, "--pid-file", f"{BUNDLE}/init.pid", "--no-new-keyring", ID],
}  # fmt: skip


@pytest.mark.parametrize("words", CALLS.values(), ids=CALLS.keys())
def test_known_callers(words: list[str]) -> None:
    call = parse_create(words)
    assert (call.bundle, call.identifier) == (BUNDLE, ID)
    argv = restore_argv("/usr/sbin/runc", call, "/images", "/work", {})
    command = argv.index("restore")
    assert argv[0] == "/usr/sbin/runc" and argv[-1] == ID
    assert "create" not in argv and "--no-new-keyring" not in argv
    before, after = argv[1:command], argv[command:]
    assert before[before.index("--root") + 1] in ("/run/containerd/runc/k8s.io", "/run/runc")
    assert ("--systemd-cgroup" in before) == ("--systemd-cgroup" in words)
    assert "--detach" in after and after[after.index("--image-path") + 1] == "/images"
    assert after[after.index("--work-path") + 1] == "/work"
    assert after[after.index("--bundle") + 1] == BUNDLE
    assert after[after.index("--pid-file") + 1] == f"{BUNDLE}/init.pid"
    assert after[after.index("--manage-cgroups-mode") + 1] == "soft", "full would replay the freezer's state"
    assert ("--no-pivot" in after) == ("--no-pivot" in words)


@pytest.mark.parametrize("flag", [["--bundle", "/b"], ["--bundle=/b"], ["-b", "/b"], ["-b=/b"]])
def test_the_bundle_in_every_form(flag: list[str]) -> None:
    assert parse_create(["create", *flag, ID]).bundle == "/b"


def test_without_a_bundle_it_is_here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_create(["create", ID]).bundle == str(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ["create", "--preserve-fds", "3", ID], ["create", "--preserve-fds=3", ID], ["create", "--pidfd-socket", "/s", ID], ["run", "--keep", ID],
        ["--unheard-of", "create", ID], ["create", "--", ID], ["create", "-d", ID], ["--systemd-cgroup=false", "create", ID],
        ["create", "--systemd-cgroup", ID], ["--no-pivot", "create", ID], ["create", "--root", "/r", ID],
    ],
    ids=" ".join,
)  # fmt: skip
def test_unknown_words_are_refused(words: list[str]) -> None:
    with pytest.raises(InvalidInput, match="which a restore does not know"):
        parse_create(words)


@pytest.mark.parametrize("words", [["create"], [], ["create", "a", "b"], ["create", "--bundle"], ["x", "create", ID]])
def test_not_one_container(words: list[str]) -> None:
    with pytest.raises(InvalidInput, match="instead of one container"):
        parse_create(words)


def test_security_labels_are_the_targets_own() -> None:
    call = parse_create(["create", "--bundle", "/b", ID])

    def labels(config: dict[str, object]) -> list[str]:
        argv = restore_argv("runc", call, "/i", "/w", config)
        return [word for position, word in enumerate(argv) if argv[position - 1].startswith("--lsm")]

    assert labels({}) == labels({"process": None, "linux": None}) == []
    assert labels({"process": {"apparmorProfile": "cri-containerd.apparmor.d"}}) == [
        "apparmor:cri-containerd.apparmor.d"
    ]
    label = "system_u:system_r:container_t:s0:c1,c2"
    assert labels({"process": {"selinuxLabel": label}, "linux": {"mountLabel": "m"}}) == [f"selinux:{label}", "m"]


def test_the_options_of_a_restore(tmp_path: pathlib.Path) -> None:
    found = environment(str(tmp_path), restore_options("/usr/local/libexec/podferry/podferry-action"))
    lines = pathlib.Path(found["CRIU_CONFIG_FILE"]).read_text().splitlines()
    assert lines == ["network-lock skip", "action-script /usr/local/libexec/podferry/podferry-action"]


@pytest.mark.parametrize("unified", [True, False])
def test_the_arrival_is_shell(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, unified: bool) -> None:
    monkeypatch.setattr(restore, "is_unified", lambda: unified)
    restore.write_arrival(str(tmp_path), "/run/podferry/runs/0123456789ab", "web", ID)
    script = f'. {tmp_path}/podferry.arrival; echo "$container $run $name"; echo "$refuge"'
    out = subprocess.run(["sh", "-euc", script], check=True, capture_output=True, text=True).stdout.splitlines()
    assert out[0] == f"{ID} /run/podferry/runs/0123456789ab web"
    assert out[1].startswith("/sys/fs/cgroup") and not out[1].endswith("/")


def test_crun_gets_no_words_that_only_runc_knows() -> None:
    call = parse_create(["create", "--bundle", "/b", "--no-pivot", "--pid-file", "/p", ID])
    argv = {runtime: restore_argv(runtime, call, "/i", "/w", {}) for runtime in ("/usr/sbin/runc", "/usr/bin/crun")}
    assert "--no-pivot" in argv["/usr/sbin/runc"] and "--no-pivot" not in argv["/usr/bin/crun"]
    for words in argv.values():
        assert words[-5:] == ["--bundle", "/b", "--pid-file", "/p", ID] or "--no-pivot" in words
        assert words[1:7] == ["restore", "--detach", "--image-path", "/i", "--work-path", "/w"]
