#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: checkpoint_image
short_description: Make an image of a checkpoint archive, or an archive of such an image
version_added: 0.1.0
description:
  - Makes an OCI image of a checkpoint archive of the kubelet, of CRI-O, containerd or podman, with the annotations by which CRI-O, containerd 2.1 to 2.3 and
    podman know that an image is a checkpoint; or the archive of such an image. CRI-O and podman restore from it. containerd does so only before 2.4, and
    since 2.2.7 and 2.3.4 only when it is configured to.
  - Nothing is needed for that but Python. The image has one layer, the files of the archive. The same checkpoint always becomes the same image.
  - What is written is readable for its owner only, because it holds the memory of processes.
extends_documentation_fragment:
  - podferry.live._attributes
attributes:
  check_mode:
    support: full
    details:
      - Reads the checkpoint, and what is there already, to tell whether something would change.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  src:
    description:
      - On the task's host, an archive (plain, or compressed with gzip or zstd), an OCI layout folder, or a tar of an OCI layout or of C(docker save).
    type: path
    required: true
  src_reference:
    description:
      - Which image, when O(src) holds several.
    type: str
    default: ""
  dest:
    description:
      - Where to write, on the task's host. What is there is replaced if it is of the same O(form), which is a checkpoint archive, or one image
        that this module has made. Everything else stays, and the task fails; also a folder with other images or files.
    type: path
    required: true
  form:
    description:
      - What to write. V(oci-archive) is a tar of an OCI layout, V(oci-dir) is the layout as a folder, V(archive) is a checkpoint archive.
    type: str
    choices: [oci-archive, oci-dir, archive]
    default: oci-archive
  compression:
    description:
      - Compression of the image's layer, or of the archive. podman and CRI-O take all of them.
    type: str
    choices: [none, gzip, zstd]
    default: none
  reference:
    description:
      - Name of the image, for example C(registry.example.com/checkpoints/web:1). No name when empty.
    type: str
    default: ""
  push:
    description:
      - Also copy the image there, with skopeo, for example C(docker://registry.example.com/checkpoints/web:1). Everybody who may pull it can read the
        memory that is in it.
    type: str
  authfile:
    description:
      - File with the credentials for O(push), as C(skopeo login) writes it.
    type: path
  tls_verify:
    description:
      - Whether the registry of O(push) must have a valid certificate.
    type: bool
    default: true
  allow_host_access:
    description:
      - Make an image also of a checkpoint whose metadata asks engines for something of their host
        (RV(podferry.live.checkpoint_info#module:checkpoint.asks_for)). podman restores a container exactly as it is described, with every mount of the host.
    type: bool
    default: false
  max_bytes:
    description:
      - Refuse an archive that unpacks to more.
    type: int
    default: 1099511627776
  max_ratio:
    description:
      - Refuse a compressed archive that unpacks to more than this many times its size, and to more than 64 MiB.
    type: int
    default: 1000
requirements:
  - zstd on the task's host, for what is compressed with it
  - skopeo on the task's host, for O(push)
seealso:
  - module: podferry.live.checkpoint_info
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Make an image that CRI-O restores from
  podferry.live.checkpoint_image:
    src: /var/lib/kubelet/checkpoints/checkpoint-web-0_shop-app-2026-11-25T17:41:44Z.tar
    dest: /var/tmp/web.oci
    reference: registry.example.com/checkpoints/web:1
    compression: zstd

- name: Make one and push it
  podferry.live.checkpoint_image:
    src: /var/tmp/web.tar
    dest: /var/tmp/web.oci
    reference: registry.example.com/checkpoints/web:1
    push: docker://registry.example.com/checkpoints/web:1
    authfile: /root/.config/containers/auth.json

- name: Get the archive back
  podferry.live.checkpoint_image:
    src: /var/tmp/web.oci
    dest: /var/tmp/web-again.tar
    form: archive
"""

RETURN = r"""
dest:
  description: Where it was written.
  returned: success
  type: str
digest:
  description: Digest of the image's manifest; with O(form=archive) of the archive before it is compressed. Empty when nothing was written.
  returned: success
  type: str
  sample: sha256:613fff48f375d3b8a019ab4c96c3be56da0aec28c7290318e4811f4b9febe320
annotations:
  description: Annotations of the image.
  returned: success
  type: dict
size:
  description: Bytes of the checkpoint's files.
  returned: success
  type: int
pushed:
  description: Whether O(push) changed something (in check mode, would).
  returned: when O(push) is given
  type: bool
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._archive import image
from ..module_utils._archive.reader import Checkpoint
from ..module_utils._archive.streams import Limits
from ..module_utils._common.errors import PodferryError


def ensure(parameters: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
    """Bring image or archive, and registry, to be that checkpoint."""
    checkpoint = Checkpoint(
        parameters["src"], Limits(parameters["max_bytes"], parameters["max_ratio"]), parameters["src_reference"]
    )
    wanted = image.Wanted(parameters["dest"], parameters["form"], parameters["compression"], parameters["reference"])
    made = image.make(checkpoint, wanted, write=write, allow_host_access=parameters["allow_host_access"])
    result: dict[str, t.Any] = {
        "changed": made.changed,
        "dest": wanted.path,
        "digest": made.digest,
        "annotations": dict(made.annotations),
        "size": made.size,
    }
    result["diff"] = {
        "before": "" if made.changed else f"{wanted.form} of {parameters['src']}\n",
        "after": f"{wanted.form} of {parameters['src']}\n",
        "after_header": wanted.path,
        "before_header": wanted.path,
    }
    if parameters["push"]:
        result["pushed"] = image.push(
            wanted,
            made.digest,
            parameters["push"],
            write=write,
            authfile=parameters["authfile"] or "",
            tls_verify=parameters["tls_verify"],
        )
        result["changed"] = result["changed"] or result["pushed"]
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "src": {"type": "path", "required": True},
            "src_reference": {"type": "str", "default": ""},
            "dest": {"type": "path", "required": True},
            "form": {"type": "str", "choices": ["oci-archive", "oci-dir", "archive"], "default": "oci-archive"},
            "compression": {"type": "str", "choices": ["none", "gzip", "zstd"], "default": "none"},
            "reference": {"type": "str", "default": ""},
            "push": {"type": "str"},
            "authfile": {"type": "path"},
            "tls_verify": {"type": "bool", "default": True},
            "allow_host_access": {"type": "bool", "default": False},
            "max_bytes": {"type": "int", "default": 1 << 40},
            "max_ratio": {"type": "int", "default": 1000},
        },
        supports_check_mode=True,
    )
    if module.params["push"] and module.params["form"] == "archive":
        module.fail_json(msg="an archive cannot be pushed: choose another form")
    try:
        result = ensure(module.params, not module.check_mode)
    except PodferryError as error:
        module.fail_json(msg=f"{error.message}. {error.remedy}".strip(), **error.to_dict())
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
