# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""Command line of the lab tool; role ``lab`` is its user."""

from __future__ import annotations

import argparse
import json
import os
import sys

from . import command, down, keys, machine, network, oci, pki, relay, roots, spec


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="podferry_lab")
    commands = parser.add_subparsers(dest="command", required=True)
    for kind in ("root", "images"):
        sub = commands.add_parser(kind, help=f"make sure that the {kind} of the lab are in the cache")
        sub.add_argument("--cache", required=True)
        sub.add_argument("--suite", required=True)
        sub.add_argument("--mirror", required=True)
        sub.add_argument("packages", nargs="+")
    for name in ("keys", "pki", "network", "relay-up", "supervise", "relay", "machine"):
        sub = commands.add_parser(name)
        sub.add_argument("state")
        if name in ("machine", "supervise"):
            sub.add_argument("machine")
    sub = commands.add_parser("down", help="remove a lab")
    sub.add_argument("state")
    sub.add_argument("name")
    return parser


def _run(arguments: argparse.Namespace) -> dict[str, object]:
    if arguments.command == "root":
        path, built = roots.ensure(
            arguments.cache, "node", arguments.suite, arguments.mirror, arguments.packages, strip=False
        )
        installed = roots.versions(path)
        return {
            "changed": built,
            "path": path,
            "containerd": installed.get("containerd", ""),
            "runc": installed.get("runc", ""),
        }
    if arguments.command == "images":
        return oci.ensure(arguments.cache, arguments.suite, arguments.mirror, arguments.packages)
    if arguments.command == "down":
        return {"changed": down.remove(spec.check_name(arguments.name), arguments.state)}
    lab = spec.load(arguments.state)
    if arguments.command == "keys":
        return {"changed": keys.ensure(lab)}
    if arguments.command == "pki":
        return {"changed": pki.ensure(lab)}
    if arguments.command == "network":
        return {"changed": network.ensure_control(lab)}
    if arguments.command == "machine":
        return {"changed": machine.ensure(lab, lab.machine(arguments.machine))}
    if arguments.command == "relay-up":
        return {"changed": relay.ensure(lab)}
    if arguments.command == "supervise":
        sys.exit(machine.supervise(lab, lab.machine(arguments.machine)))
    relay.serve(lab)
    return {"changed": False}


def main() -> int:
    """Entry point; 0, or 1 with a message on standard error."""
    arguments = _parser().parse_args()
    if os.geteuid() != 0:
        print("the lab wants root", file=sys.stderr)
        return 1
    try:
        print(json.dumps(_run(arguments)))
    except (command.LabError, OSError, ValueError, KeyError) as error:
        print(json.dumps({"changed": False}))
        print(f"{type(error).__name__}: {error}" if not isinstance(error, command.LabError) else error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
