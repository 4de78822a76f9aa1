"""exp, sigmoid and tanh of float32 without branches, so that the compiler vectorises loops over them."""

import numpy as np

from pipeline.core.kernel_cache import kernel_helper

HALF, ONE, TWO = (np.float32(value) for value in (0.5, 1, 2))
# Below and above these float32's exp is 0 and infinity.
LOWEST, HIGHEST = np.float32(-87.3), np.float32(88.3)
LOG2E = np.float32(1.44269504088896341)
# log(2) as the sum of two numbers, the first exact in few bits, and the polynomial of Cephes' expf (Moshier). The error
# is 1 to 2 ulp.
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
P0, P1, P2, P3, P4, P5 = (
    np.float32(value)
    for value in (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
)


@kernel_helper
def exp32(x):
    """Return e to the power of x, a float32; the result is clamped to float32's range."""
    x = min(max(x, LOWEST), HIGHEST)
    n = np.floor(x * LOG2E + HALF)
    r = x - n * LN2_HIGH - n * LN2_LOW
    p = ((((P0 * r + P1) * r + P2) * r + P3) * r + P4) * r + P5
    power = (np.int32(n) + np.int32(127)) << np.int32(23)
    return (p * r * r + r + ONE) * np.int32(power).view(np.float32)


@kernel_helper
def sigmoid(x):
    """Return 1 / (1 + exp(-x))."""
    return ONE / (ONE + exp32(-x))


@kernel_helper
def tanh(x):
    """Return the hyperbolic tangent; the absolute error is about 1e-7."""
    return ONE - TWO / (exp32(TWO * x) + ONE)
