"""Marks for tests of the kernel `vnni`, which not every machine can run."""

from __future__ import annotations

import pytest

from hermes_runtime.weights.kernels import vnni

NEEDS_VNNI = pytest.mark.skipif(vnni.reason_against() is not None, reason=str(vnni.reason_against()))
VNNI = pytest.param("vnni", marks=NEEDS_VNNI)
