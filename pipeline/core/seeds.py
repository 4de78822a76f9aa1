"""Derives every seed from one root seed and the name of its purpose."""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed for `purpose`, a whole number in [0, 2**63).

    It is the first 63 bits of the SHA-256 of "seed/purpose/…". The same (seed, purpose) always gives the same seed, and
    different purposes give unrelated ones, so a new consumer of randomness never changes the others.
    """
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def sample_seed(seed: int, sample: int) -> int:
    """Return the seed of sample number `sample` (from 0) if one request has several; the first uses `seed` itself."""
    return seed if sample == 0 else derive_seed(seed, "sample", sample)
