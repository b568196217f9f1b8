# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as other people's engines write them, small, made here: CRIU's images, their descriptions, the archive around them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import subprocess
import tarfile
from typing import Any

COMMON, SERVICE = 0x54564319, 0x55105940
PAGE = 4096
UID = "11111111-2222-3333-4444-555555555555"
LOOPBACK = 0x0100007F
"""127.0.0.1 as CRIU stores it."""


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(**fields: Any) -> bytes:
    """A protobuf message: ``f5=7`` is field 5; bytes, text, numbers, or a list of them."""
    parts = []
    for name, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, int):
                parts.append(varint(int(name[1:]) << 3) + varint(value))
            else:
                data = value.encode() if isinstance(value, str) else value
                parts.append(varint(int(name[1:]) << 3 | 2) + varint(len(data)) + data)
    return b"".join(parts)


def image(*entries: bytes, kind: int = COMMON) -> bytes:
    """An image file."""
    return struct.pack("<II", kind, 0) + b"".join(struct.pack("<I", len(entry)) + entry for entry in entries)


def connection(identifier: int, source: tuple[int, int], destination: tuple[int, int], state: int = 1) -> bytes:
    """An entry of ``files.img`` for a TCP socket."""
    inner = message(
        f1=identifier,
        f2=identifier,
        f3=2,
        f4=1,
        f5=6,
        f6=state,
        f7=source[1],
        f8=destination[1],
        f11=source[0],
        f12=destination[0],
    )
    return message(f1=4, f2=identifier, f4=inner)


def regular(identifier: int, path: str) -> bytes:
    """An entry of ``files.img`` for a file."""
    return message(f1=1, f2=identifier, f3=message(f1=identifier, f6=path))


def core(
    command: str, state: int = 1, *, caps: int = 0, uid: int = 0, seccomp: int = 2, no_new_privs: int = 0
) -> bytes:
    """``core-PID.img``."""
    sets = [caps & 0xFFFFFFFF, caps >> 32]
    creds = message(f1=uid, f9=[0, 0], f10=sets, f11=sets, f12=sets, f18=no_new_privs)
    return image(message(f1=1, f3=message(f1=state, f6=command), f5=message(f10=creds, f11=seccomp)))


def criu_images(files: tuple[bytes, ...] = ()) -> dict[str, bytes]:
    """A dump of two processes, 1 and its child 7, and a zombie 9. Process 1 has its arguments and environment in page 1."""
    arguments = b"app\0--fast\0"
    environment = b"SECRET=hunter2\0EMPTY=\0"
    page = (arguments + environment).ljust(PAGE, b"\0")
    area = {"f8": 0x10000, "f9": 0x10000 + len(arguments), "f10": 0x10000 + len(arguments),
            "f11": 0x10000 + len(arguments) + len(environment)}  # fmt: skip
    return {
        "inventory.img": image(message(f1=2)),
        "pstree.img": image(message(f1=1, f2=0, f3=1, f4=1, f5=[1, 2]), message(f1=7, f2=1, f5=[7]), message(f1=9, f2=1, f5=[9])),
        "core-1.img": core("app"), "core-2.img": core("app"), "core-7.img": core("worker"), "core-9.img": core("gone", 6),
        "ids-1.img": image(message(f1=1, f2=5)), "ids-7.img": image(message(f1=2, f2=5)),
        "fdinfo-5.img": image(message(f1=20, f3=1, f4=0), message(f1=21, f3=2, f4=1), message(f1=22, f3=5, f4=3), message(f1=23, f3=4, f4=4)),
        "fs-1.img": image(message(f1=20, f2=20)), "fs-7.img": image(message(f1=20, f2=20)),
        "mm-1.img": image(message(f12=20, **area)), "mm-7.img": image(message(f12=20)),
        "pagemap-1.img": image(message(f1=1), message(f1=0x8000, f2=1, f4=4), message(f1=0x9000, f2=1, f4=1), message(f1=0x10000, f2=1, f4=4)),
        "pages-1.img": b"\xa5" * PAGE + page,
        "files.img": image(
            regular(20, "/usr/bin/app"), message(f1=2, f2=21, f18=message(f1=21, f2=77)),
            message(f1=5, f2=22, f16=message(f1=22, f2=5, f3=1, f4=10, f11=b"\0abstract")),
            connection(23, (LOOPBACK, 7000), (0, 0), 10), *files,
        ),
        "descriptors.json": b"[]", "seccomp.img": image(message()),
    }  # fmt: skip


CONFIG: dict[str, Any] = {
    "id": "ab" * 32,
    "name": "app_web-0_shop",
    "rootfsImageName": "registry.example.com/app:1",
    "rootfsImage": "registry.example.com/app:1",
    "rootfsImageRef": "registry.example.com/app@sha256:" + "0" * 64,
    "runtime": "io.containerd.runc.v2",
    "createdTime": "2026-11-25T17:41:43.84825833Z",
    "checkpointedTime": "2026-11-25T17:41:44.956514876Z",
}
SPEC: dict[str, Any] = {
    "ociVersion": "1.2.1",
    "process": {"args": ["app", "--fast"], "env": ["PATH=/bin", "SECRET=hunter2", "EMPTY="]},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]}],
    "annotations": {
        "io.kubernetes.cri.container-name": "app",
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-name": "web-0",
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-uid": UID,
    },
    "linux": {"namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc", "uts", "network")]},
}
CRIO_NOTES = {
    "io.container.manager": "cri-o",
    "io.kubernetes.cri-o.ContainerType": "container",
    "io.kubernetes.cri-o.SandboxName": f"k8s_web-0_shop_{UID}_0",
    "io.kubernetes.container.name": "app",
}


def contents(**more: bytes) -> dict[str, bytes]:
    """Files of a checkpoint; ``more`` may replace or (b"-") remove some, with ``__`` for a dot and ``___`` for a slash."""
    files = {"config.dump": json.dumps(CONFIG).encode(), "spec.dump": json.dumps(SPEC).encode()}
    files.update({f"checkpoint/{name}": data for name, data in criu_images().items()})
    files["stats-dump"] = image(message(f1=message(f1=1, f2=2, f3=3, f4=4, f5=5, f6=6, f7=7)), kind=SERVICE)
    for name, data in more.items():
        files[name.replace("___", "/").replace("__", ".")] = data
    return {name: data for name, data in files.items() if data != b"-"}


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """One entry of a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime, info.mode = kind, len(data), 1_700_000_000, 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar(*entries: tuple[tarfile.TarInfo, bytes], style: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of these."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data) if data else None)
    return out.getvalue()


def archive(files: dict[str, bytes] | None = None, *more: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A checkpoint archive."""
    return tar(*(entry(name, data) for name, data in (contents() if files is None else files).items()), *more)


def zstd(data: bytes) -> bytes:
    """Compressed by the tool."""
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout


def docker_save(layer: bytes, *, packed: bool = False) -> bytes:
    """What ``docker save`` writes of an image with this layer."""
    config = json.dumps(
        {"rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}}
    ).encode()
    name = hashlib.sha256(config).hexdigest()
    manifest = json.dumps([{"Config": f"{name}.json", "RepoTags": ["app:1"], "Layers": ["one/layer.tar"]}]).encode()
    stored = gzip.compress(layer) if packed else layer
    return tar(entry(f"{name}.json", config), entry("one/layer.tar", stored), entry("manifest.json", manifest))
