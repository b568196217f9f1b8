# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""How modules reach a store of checkpoints, and with which keys."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that plugin_utils/_shelf.py has as a specification."""

    DOCUMENTATION = r"""
options:
  store:
    description:
      - Where checkpoints are kept; see docs/stores.md. The default is the folder C(/var/lib/podferry/checkpoints) of the node.
    type: dict
    suboptions:
      kind:
        description:
          - V(path) is a folder on the node (a disk, an NFS mount), V(registry) an OCI registry, V(s3) a bucket.
          - Buckets are listed by the controller, which gives nodes URLs for what they need; all else is done by the nodes.
        type: str
        required: true
        choices: [path, registry, s3]
      path:
        description:
          - The folder of a V(path).
        type: path
      url:
        description:
          - URL of a V(registry).
        type: str
      repository:
        description:
          - Prefix of the repositories in a V(registry).
        type: str
      username:
        description:
          - User at a V(registry).
        type: str
      password:
        description:
          - His password.
        type: str
      ca:
        description:
          - Certificate authority of a V(registry) or V(s3) as PEM text. The default is what the system trusts.
        type: str
      insecure:
        description:
          - Take any certificate, and plain HTTP.
        type: bool
        default: false
      bucket:
        description:
          - Name of the bucket of V(s3).
        type: str
      prefix:
        description:
          - Prefix of the objects in the bucket.
        type: str
      endpoint:
        description:
          - URL of a V(s3) server other than Amazon's. Controller and nodes must reach it under the same.
        type: str
      region:
        description:
          - Region of V(s3).
        type: str
      access_key:
        description:
          - Access key of V(s3). The default is where C(boto3) looks.
        type: str
      secret_key:
        description:
          - Secret key of V(s3).
        type: str
"""

    # What checkpoints are signed, checked and opened with.
    KEYS = r"""
options:
  identity:
    description:
      - The text of a secret key of C(age), for encrypted checkpoints. A lookup can give it.
    type: str
  signing_key:
    description:
      - A private Ed25519 key as PEM text, with which manifests are signed.
    type: str
  verify_key:
    description:
      - One or several public Ed25519 keys as PEM text. A checkpoint that none of them has signed is refused.
    type: str
"""
