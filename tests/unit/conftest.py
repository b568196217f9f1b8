# SPDX-License-Identifier: Apache-2.0
"""Settings of the property tests: the same examples in every run, so that a gate judges alike; PODFERRY_EXAMPLES=n looks further."""

import os

from hypothesis import settings

settings.register_profile("gate", derandomize=True, deadline=None, database=None)
settings.register_profile("search", max_examples=int(os.environ.get("PODFERRY_EXAMPLES") or 1000), deadline=None)
settings.load_profile("search" if os.environ.get("PODFERRY_EXAMPLES") else "gate")
