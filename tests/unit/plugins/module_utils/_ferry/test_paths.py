# SPDX-License-Identifier: Apache-2.0
"""Names that come from elsewhere never become a path that is not ours."""

from __future__ import annotations

import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._ferry import paths

RUN = "0123456789ab"
HOSTILE = [
    "", ".", "..", "/", "../x", "x/y", "/etc", "a\0b", "a\n", "A", " ", "a b", "~", "$(x)", "-x", "x-", "a..b", "é", None, 1, b"x", ["x"],
    "a" * 254, "x;y", "*", "a\\b", "a_b",
]  # fmt: skip


@pytest.mark.parametrize(
    "run",
    [
        *HOSTILE,
        "0123456789abc",
        "0123456789a",
        "0123456789AB",
        RUN + "\n",
        RUN + ".undo\n",
        RUN + "/..",
        RUN + ".undo.undo",
    ],
)
def test_hostile_runs(run: object) -> None:
    with pytest.raises(InvalidInput, match="is not a run id"):
        paths.valid_run(run)
    with pytest.raises(InvalidInput):
        paths.RunPaths(run)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(name: object) -> None:
    with pytest.raises(InvalidInput, match="is not a Kubernetes name"):
        paths.valid_name(name)
    for build in (lambda: paths.RunPaths(RUN).container(name), lambda: paths.RunPaths(RUN).mark("claim", name)):  # type: ignore[arg-type]
        with pytest.raises(InvalidInput):
            build()
    for pair in ((name, "web"), ("default", name)):
        with pytest.raises(InvalidInput):
            paths.arrival(*pair)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "identifier", ["", "..", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n", "../" + "a" * 61]
)
def test_hostile_container_ids(identifier: str) -> None:
    with pytest.raises(InvalidInput, match="is not a container id"):
        paths.claim(identifier)


@given(st.text(max_size=60))
def test_whatever_passes_stays_in_its_folder(text: str) -> None:
    try:
        path = paths.arrival(text, "web", "/state")
    except InvalidInput:
        return
    assert os.path.normpath(path) == path and os.path.dirname(path) == "/state/arrivals" and "\n" not in path


@given(*[st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)] * 4)
def test_arrivals_of_two_pods_are_two(one: str, two: str, three: str, four: str) -> None:
    assert (paths.arrival(one, two) == paths.arrival(three, four)) == ((one, two) == (three, four))


@pytest.mark.parametrize("run", [RUN, RUN + ".undo"])
def test_a_run_has_a_folder_of_roots_own(tmp_path: pathlib.Path, run: str) -> None:
    place = paths.RunPaths(run, str(tmp_path / "state"))
    place.create()
    assert place.directory == str(tmp_path / "state/runs" / run)
    assert os.stat(place.directory).st_mode & 0o777 == 0o700
    with pytest.raises(FileExistsError):
        place.create()


def test_a_new_run_removes_what_forgotten_runs_left_and_nothing_else(tmp_path: pathlib.Path) -> None:
    place = paths.RunPaths(RUN, str(tmp_path / "state"))
    staging = pathlib.Path(place.staging).parent
    for name in ("ffffffffffff", "eeeeeeeeeeee.undo", "checkpoints", "something-else"):
        (staging / name).mkdir(parents=True)
        (staging / name / "file").touch()
    place.create()
    assert sorted(entry.name for entry in staging.iterdir()) == ["checkpoints", "something-else"]
    assert (staging / "checkpoints/file").exists()


def test_units_are_named_by_run_and_role() -> None:
    assert paths.unit_name(RUN, "source") == f"podferry-{RUN}-source.service"
    with pytest.raises(InvalidInput):
        paths.unit_name("x; reboot", "source")
