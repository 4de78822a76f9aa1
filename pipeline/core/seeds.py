"""How every seed is derived: from one root seed and the name of what it is for."""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed for `purpose`, a whole number in [0, 2**63).

    The same (seed, purpose) always gives the same seed, and different purposes give unrelated ones: the first
    63 bits of the SHA-256 of "seed/purpose/…". Thus adding a consumer of randomness never shifts another's.
    """
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def sample_seed(seed: int, sample: int) -> int:
    """Return the seed of sample `sample` (from 0) of several asked for with one seed; the first has the seed itself."""
    return seed if sample == 0 else derive_seed(seed, "sample", sample)
