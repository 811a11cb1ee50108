"""Named streams of random numbers, each a pure function of the run's seed.

Nothing in drcli draws from a generator that somebody else advances: the order of epoch 7, the initial
weights of the audio encoder and a method's own noise come from streams derived from (seed, names). A
resumed run therefore has no generator state to restore, and no hook can shift the numbers of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *names: str | int) -> int:
    """Seed of the stream `names`, in [0, 2**63): different names give unrelated streams."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator at the start of the stream `names`."""
    return torch.Generator(device=device).manual_seed(derive(seed, *names))


def seed_global(seed: int, *names: str | int) -> None:
    """Put torch's global generators (dropout and the like draw from them) at the start of a stream.

    Where torch finds no accelerator, `torch.manual_seed` would keep one more call for later, with the text of the
    stack, every time: slow, and never given back.
    """
    number = derive(seed, *names)
    if torch.accelerator.is_available():
        torch.manual_seed(number)
    else:
        torch.default_generator.manual_seed(number)


@contextmanager
def seeded(seed: int, *names: str | int) -> Iterator[None]:
    """Let the body draw from the stream `names`, and leave the global CPU generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, *names))
        yield
