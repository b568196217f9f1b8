# SPDX-License-Identifier: Apache-2.0
"""The API server part: storage, strategies, controllers, HTTP."""
