"""What the tests of a GPU need: the device, and torch as it was. Their bodies run on the CPU too, in the slow tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

NONE = "no CUDA device is visible here"
ON_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=NONE)]

# torch looks at it once, at the first matrix product: whichever test comes first.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(params=[pytest.param("cuda", marks=ON_CUDA), pytest.param("cpu", marks=pytest.mark.slow)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """A GPU; in the slow tests the CPU, so that what is tested there is not run for the first time on a GPU."""
    return torch.device(request.param)


@pytest.fixture
def no_tf32() -> Iterator[None]:
    """float32 is float32, in convolutions too."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before
