# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A process on a host, as Ansible would reach it, whose standard input and output stay open.

Modules cannot stream. A ferry's controller has to: it sends requests and hears events while the pod is frozen, over a
connection that was opened before. So the host's own connection plugin builds the command (every ssh option, proxy
command and variable is honoured), its become plugin wraps it, and we keep the pipes.
"""

from __future__ import annotations

import collections
import contextlib
import io
import os
import select
import shlex
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.loader import become_loader, connection_loader

_SSH = ("ssh", "ansible.builtin.ssh", "ansible.legacy.ssh")
_LOCAL = ("local", "ansible.builtin.local", "ansible.legacy.local")
_BECOME_TIMEOUT_S = 30.0
_LAST_MOMENT_S = 0.5

#: A connection of its own: a shared one could be closed by somebody else in the middle of the freeze, and one that
#: we opened would stay behind.
_OWN_CONNECTION = (b"-o", b"ControlMaster=no", b"-o", b"ControlPath=none")
#: Notice a dead network within half a minute, unless the user has said otherwise before.
_KEEP_ALIVE = ("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=6")


class StreamError(Exception):
    """The process could not be started on the host; ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class Stream:
    """The running process. ``reader`` and ``writer`` are its standard output and input."""

    def __init__(self, process: Any, become: Any = None, secret: Any = None) -> None:
        """``secret``: shared memory in which ssh finds its password until ``established``."""
        self._process = process
        self._secret = secret
        self._tail: collections.deque[str] = collections.deque(maxlen=8)
        prefix = b""
        if become is not None:
            try:
                prefix = self._escalate(become)
            except BaseException:
                self.close()
                raise
        self.writer = process.stdin
        self.reader = io.BufferedReader(_Prefixed(prefix, process.stdout))
        self._drain = threading.Thread(target=self._read_errors, daemon=True)
        self._drain.start()

    def last_words(self) -> str:
        """What the transport or the program said on standard error, its last lines."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_MOMENT_S)  # its output may have ended a moment before it
            self._drain.join(1.0)
        return " / ".join(self._tail)

    def returncode(self) -> int | None:
        """The exit status, None while it runs."""
        status: int | None = self._process.poll()
        return status

    def established(self) -> None:
        """The program answers: nobody needs the password any more."""
        secret, self._secret = self._secret, None
        if secret is not None:
            with contextlib.suppress(FileNotFoundError):
                secret.unlink()

    def close(self) -> None:
        """End of input, then a moment, then the signal. Idempotent."""
        self.established()
        for pipe in (self._process.stdin,):
            with contextlib.suppress(OSError, ValueError):
                if pipe is not None:
                    pipe.close()
        try:
            self._process.wait(3.0)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            try:
                self._process.wait(3.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _read_errors(self) -> None:
        for line in self._process.stderr:
            text = to_text(line, errors="replace").strip()
            if text:
                self._tail.append(text)

    def _escalate(self, become: Any) -> bytes:
        """Answer the password prompt if one comes; return what the program said after the become plugin's marker."""
        process = self._process
        seen = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
        out = process.stdout.fileno()
        marker = to_bytes(become.success)
        deadline = time.monotonic() + _BECOME_TIMEOUT_S
        asked = False
        open_fds = list(seen)
        while True:
            _head, found, rest = seen[out].partition(marker)
            if found and b"\n" in rest:
                return rest.split(b"\n", 1)[1]
            both = b"".join(seen.values())
            if become.expect_prompt() and not asked and any(become.check_password_prompt(s) for s in seen.values()):
                asked = True
                process.stdin.write(to_bytes(become.get_option("become_pass")) + b"\n")
                process.stdin.flush()
            if asked and become.check_incorrect_password(both):
                raise StreamError(
                    f"incorrect {become.name} password", "Set ansible_become_password for the host, or use -K."
                )
            if become.check_missing_password(both) or (
                not become.expect_prompt() and become.check_password_prompt(both)
            ):
                raise StreamError(
                    f"{become.name} wants a password", "Set ansible_become_password for the host, or use -K."
                )
            left = deadline - time.monotonic()
            if left <= 0 or not open_fds:
                words = to_text(both, errors="replace").strip()
                raise StreamError(
                    f"{become.name} did not start the program: {words or 'it said nothing'}",
                    "Check that the host's user may become root.",
                )
            for fd in select.select(open_fds, [], [], min(left, 1.0))[0]:
                data = os.read(fd, 65536)
                if not data:
                    open_fds.remove(fd)
                seen[fd] += data


class _Prefixed(io.RawIOBase):
    """A pipe with bytes put back in front of it."""

    def __init__(self, prefix: bytes, pipe: Any) -> None:
        self._prefix = prefix
        self._pipe = pipe

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._prefix:
            data, self._prefix = self._prefix[: len(buffer)], self._prefix[len(buffer) :]
        else:
            data = os.read(self._pipe.fileno(), len(buffer))
        buffer[: len(data)] = data
        return len(data)


def open_stream(host: str, variables: Mapping[str, Any], play_context: Any, command: str) -> Stream:
    """Start ``command`` as root on an inventory host. ``variables`` are the host's, templated on access.

    Become: ``ansible_become`` decides; when it is not set, every user but root becomes root.
    Raises StreamError for connections that cannot stream and for a host that cannot be reached.
    """
    name = str(variables.get("ansible_connection") or C.DEFAULT_TRANSPORT)
    name = "ssh" if name == "smart" else name
    if name not in _SSH + _LOCAL:
        raise StreamError(
            f"host {host} is reached by the connection plugin {name}, which cannot keep a program's input and output open",
            "Use ssh (or local) for the nodes: ansible_connection=ssh.",
        )
    context = play_context.copy()
    context.remote_addr = str(variables.get("ansible_host") or host)
    context.remote_user = context.port = None
    try:
        connection = connection_loader.get(name, context, os.devnull)
        _set_options(connection, "connection", variables, _task_keys(play_context))
        _set_options(connection._shell, "shell", variables, {})
        if name in _LOCAL:
            return _open_local(connection, variables, play_context, command)
        return _open_ssh(connection, host, variables, play_context, command)
    except AnsibleError as exc:
        raise StreamError(f"host {host}: {exc}") from exc


def _task_keys(play_context: Any) -> dict[str, Any]:
    keys: dict[str, Any] = {"timeout": play_context.timeout}
    if play_context.password:
        keys["password"] = play_context.password
    return keys


def _set_options(plugin: Any, kind: str, variables: Mapping[str, Any], task_keys: dict[str, Any]) -> None:
    """Give a plugin the variables that it knows, as the task executor does."""
    known = C.config.get_plugin_vars(kind, plugin._load_name)
    options: dict[str, Any] = {name: variables[name] for name in known if name in variables}
    if kind == "connection":
        options["_extras"] = {}
    plugin.set_options(task_keys=task_keys, var_options=options)


def _become(variables: Mapping[str, Any], play_context: Any, user: str | None) -> Any:
    """The become plugin for the host, or None when its user is root or must not become anybody."""
    wanted = variables.get("ansible_become")
    if (user == "root") if wanted is None else not boolean(wanted):
        return None
    method = str(variables.get("ansible_become_method") or C.DEFAULT_BECOME_METHOD)
    plugin = become_loader.get(method)
    if plugin is None:
        raise StreamError(f"there is no become plugin {method}", "Set ansible_become_method for the host.")
    keys = {"become_pass": play_context.become_pass} if play_context.become_pass else {}
    _set_options(plugin, "become", variables, keys)
    if getattr(plugin, "require_tty", False):
        raise StreamError(
            f"the become plugin {method} needs a terminal, which would garble the stream",
            "Use sudo (ansible_become_method=sudo), or log in as root.",
        )
    return plugin


def _open_ssh(connection: Any, host: str, variables: Mapping[str, Any], play_context: Any, command: str) -> Stream:
    address = str(connection.get_option("host") or connection._play_context.remote_addr)
    become = _become(variables, play_context, connection.get_option("remote_user"))
    remote = become.build_become_command(command, connection._shell) if become is not None else command
    executable = to_bytes(connection.get_option("ssh_executable"))
    argv: list[bytes] = connection._build_command(to_text(executable), "ssh", *_KEEP_ALIVE, address, remote)
    at = argv.index(executable) + 1
    argv[at:at] = _OWN_CONNECTION
    extra: dict[str, Any] = connection._init_shm() if hasattr(connection, "_init_shm") else {}
    pipe = getattr(connection, "sshpass_pipe", None)
    if pipe:
        extra["pass_fds"] = pipe
    try:
        process = _popen(argv, extra)
    except OSError as exc:
        raise StreamError(f"ssh cannot be run on the controller: {exc}") from exc
    if pipe:
        os.close(pipe[0])
        with contextlib.suppress(BrokenPipeError), os.fdopen(pipe[1], "wb") as handle:
            handle.write(to_bytes(connection.get_option("password") or play_context.password) + b"\n")
    return Stream(process, become, secret=getattr(connection, "shm", None))


def _open_local(connection: Any, variables: Mapping[str, Any], play_context: Any, command: str) -> Stream:
    become = _become(variables, play_context, "root" if os.geteuid() == 0 else None)
    if become is not None:
        command = become.build_become_command(command, connection._shell)
    return Stream(
        _popen([to_bytes(arg) for arg in shlex.split(C.DEFAULT_EXECUTABLE)] + [b"-c", to_bytes(command)], {}), become
    )


def _popen(argv: list[bytes], extra: dict[str, Any]) -> Any:
    """In a session of its own: a Ctrl-C at the terminal must reach us, who can cancel in order, not the transport."""
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **{"start_new_session": True, **extra},
    )
