# SPDX-License-Identifier: Apache-2.0
"""Puts pip into an empty virtual environment from the interpreter's own `ensurepip` and the package index.

ansible-test downloads get-pip from a host of its own for this, unless it finds a script in its cache: this one is put there,
so that the sanity tests need the package index only. Called as get-pip is: with pip's options and packages.
"""

from __future__ import annotations

import subprocess
import sys

subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", *arguments])
if "--no-setuptools" in sys.argv:
    subprocess.check_call([sys.executable, "-m", "pip", "uninstall", "-q", "-y", "setuptools"])
