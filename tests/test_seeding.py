"""Named streams: pure functions of seed and names, unrelated to each other and to the global one."""

from __future__ import annotations

import hashlib

import torch

from drcli.seeding import derive, generator, seed_global, seeded


def test_derive_is_the_head_of_a_digest() -> None:
    digest = hashlib.sha256(b"3/order/7").digest()
    assert derive(3, "order", 7) == int.from_bytes(digest[:8], "big") >> 1
    assert 0 <= derive(3, "order", 7) < 2**63


def test_different_names_give_different_streams() -> None:
    streams = {
        derive(seed, *names)
        for seed in range(5)
        for names in (("order", 0), ("order", 1), ("init", "a"), ("init", "b"), ("epoch", 0), ())
    }
    assert len(streams) == 30


def test_a_generator_starts_where_its_name_says() -> None:
    first, second = (torch.rand(4, generator=generator(0, "x")) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.rand(4, generator=generator(0, "y")))


def test_the_global_generator_starts_where_it_is_put() -> None:
    with torch.random.fork_rng(devices=[]):
        seed_global(0, "epoch", 3)
        assert torch.equal(torch.rand(3), torch.rand(3, generator=generator(0, "epoch", 3)))


def test_seeded_leaves_the_global_generator_as_it_was() -> None:
    state = torch.get_rng_state()
    with seeded(0, "init"):
        drawn = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(drawn, torch.rand(3, generator=generator(0, "init")))
