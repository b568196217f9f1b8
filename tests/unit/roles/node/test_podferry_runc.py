# SPDX-License-Identifier: Apache-2.0
"""The runtime's front: who goes to the real runtime at once, who to the handler, and what is answered without either."""

import json
import pathlib
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).parents[4]
FRONT = REPOSITORY / "roles/node/files/libexec/podferry-runc"
CONTAINER = "ab" * 32


class Node:
    """A node's folders in a temporary place, with a runtime and a handler that only write down how they were called."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.state = root / "run/podferry"
        self.bundle = root / "bundle"
        self.calls = root / "calls"
        for folder in (self.state / "arrivals", self.state / "claims", self.bundle):
            folder.mkdir(parents=True)
        self.annotate({})
        runtime = self._program("runc", 'echo "runtime $*"')
        handler = self._program("podferry-node", 'echo "handler $PODFERRY_RUNTIME $*"')
        text = FRONT.read_text().replace("@RUNTIME@", str(runtime)).replace("/run/podferry", str(self.state))
        text = text.replace("/usr/local/libexec/podferry/podferry-node", str(handler))
        assert "/usr/local" not in text and "@" not in text.replace("$@", "").replace('"$@"', "")
        self.front = root / "podferry-runc"
        self.front.write_text(text)
        self.front.chmod(0o755)
        self.runtime = str(runtime)

    def _program(self, name: str, body: str) -> pathlib.Path:
        path = self.root / name
        path.write_text(f"#!/bin/sh\n{body} >>{self.calls}\n")
        path.chmod(0o755)
        return path

    def annotate(self, annotations: dict[str, str]) -> None:
        (self.bundle / "config.json").write_text(json.dumps({"annotations": annotations}))

    def arrive(self, name: str = "default_web") -> None:
        run = self.state / "runs/0123456789ab"
        run.mkdir(parents=True, exist_ok=True)
        (self.state / "arrivals" / name).symlink_to(run)

    def call(self, *words: str) -> str:
        """Who was called with what; an empty string when nobody was."""
        self.calls.unlink(missing_ok=True)
        subprocess.run([str(self.front), *words], check=True, cwd=self.bundle, capture_output=True)
        text = self.calls.read_text().strip() if self.calls.exists() else ""
        for prefix, who in ((f"runtime {' '.join(words)}", "runtime"), (f"handler {self.runtime} handler", "handler")):
            if text.startswith(prefix):
                return who
        return text


@pytest.fixture
def node(tmp_path: pathlib.Path) -> Node:
    return Node(tmp_path)


GLOBAL = ("--root", "/run/containerd/runc/k8s.io", "--log", "/b/log.json", "--log-format", "json", "--systemd-cgroup")


def create(node: Node) -> tuple[str, ...]:
    return (*GLOBAL, "create", "--bundle", str(node.bundle), "--pid-file", "/p", CONTAINER)


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("features",),
        ("list",),
        (*GLOBAL, "exec", "--process", "/p", "--detach", CONTAINER),
        (*GLOBAL, "delete", "--force", CONTAINER),
        (*GLOBAL, "kill", CONTAINER, "9"),
        (*GLOBAL, "state", CONTAINER),
        (*GLOBAL, "start", CONTAINER),
        (*GLOBAL, "exec", CONTAINER, "sh", "-c", "create"),
        ("--log", "create", "ps", CONTAINER),
    ],
)
def test_everything_else_goes_to_the_runtime(node: Node, words: tuple[str, ...]) -> None:
    node.arrive()
    node.annotate({"podferry.live/arrival": "0123456789ab"})
    assert node.call(*words) == "runtime"


def test_a_container_without_an_arrival_is_created(node: Node) -> None:
    assert node.call(*create(node)) == "runtime"


def test_an_arrival_on_this_node_leads_to_the_handler(node: Node) -> None:
    node.arrive()
    assert node.call(*create(node)) == "handler"


def test_an_arrival_is_seen_behind_one_that_points_nowhere(node: Node) -> None:
    (node.state / "arrivals/a_first").symlink_to(node.state / "runs/gone")
    node.arrive("b_second")
    assert node.call(*create(node)) == "handler"


@pytest.mark.parametrize("flag", [["--bundle", "{}"], ["--bundle={}"], ["-b", "{}"], []])
def test_a_mark_without_a_record_leads_to_the_handler(node: Node, flag: list[str]) -> None:
    node.annotate({"podferry.live/arrival": "0123456789ab"})
    words = [word.format(node.bundle) for word in flag]
    assert node.call(*GLOBAL, "create", *words, "--pid-file", "/p", CONTAINER) == "handler"


def test_run_is_a_create(node: Node) -> None:
    node.arrive()
    assert node.call(*GLOBAL, "run", "--bundle", str(node.bundle), CONTAINER) == "handler"


def test_start_of_a_restored_container_is_noted_and_nothing_else(node: Node) -> None:
    (node.state / "claims" / CONTAINER).mkdir()
    assert node.call(*GLOBAL, "start", CONTAINER) == ""
    assert (node.state / "claims" / CONTAINER / "started").exists()


def test_start_of_another_container_is_the_runtimes(node: Node) -> None:
    (node.state / "claims" / ("cd" * 32)).mkdir()
    assert node.call(*GLOBAL, "start", CONTAINER) == "runtime"


def test_state_is_the_handlers_until_the_start(node: Node) -> None:
    (node.state / "claims" / CONTAINER).mkdir()
    assert node.call(*GLOBAL, "state", CONTAINER) == "handler"
    node.call(*GLOBAL, "start", CONTAINER)
    assert node.call(*GLOBAL, "state", CONTAINER) == "runtime"


def test_the_code_of_the_runtime_is_the_fronts(node: Node) -> None:
    pathlib.Path(node.runtime).write_text("#!/bin/sh\nexit 42\n")
    assert subprocess.run([str(node.front), *create(node)], check=False).returncode == 42


def test_words_with_spaces_and_globs_arrive_as_they_are(node: Node) -> None:
    pathlib.Path(node.runtime).write_text(f'#!/bin/sh\nprintf "<%s>" "$@" >{node.calls}\n')
    subprocess.run([str(node.front), "--log", "a b", "exec", CONTAINER, "sh", "-c", "echo *"], check=True)
    assert node.calls.read_text() == f"<--log><a b><exec><{CONTAINER}><sh><-c><echo *>"


def test_exec_goes_to_the_handler_only_while_a_hook_is_awaited(node: Node) -> None:
    words = (*GLOBAL, "exec", "--process", "/p.json", "--detach", "--pid-file", "/p", CONTAINER)
    assert node.call(*words) == "runtime"
    (node.state / "claims" / CONTAINER).mkdir()
    assert node.call(*words) == "runtime"
    (node.state / "claims" / CONTAINER / "post-start").touch()
    assert node.call(*words) == "handler"
    assert node.call(*words[:-1], "../claims") == "runtime"
