"""Loihi number formats and the integer operations on them: the one place where a chip constant is written.

Every operation here is the bit-accurate arithmetic of Lava 0.10.0 (`proc/lif/models.py`, `proc/dense/models.py`,
`utils/weightutils.py`), in NumPy int64. Whatever computes the same thing elsewhere must equal it bit for bit.

| register | width | rule |
|---|---|---|
| weight mantissa `W` | 8 bits and sign, see `weight_range` | refused when off that grid |
| activation `a` | sum of W * s, then shifted by `weight_exp` | floor for a right shift; both kept in int32 (wrap) |
| synaptic current `u` | 24 bits signed | `a << 6` added in int32 (wrap), then wraps once into (-2^23, 2^23] |
| membrane voltage `v` | 24 bits signed | summed in int32 (wrap), then saturates at +-(2^23 - 1) |
| threshold `vth` | 17 bits unsigned | compared as `v > vth << 6`, strictly |
| decays `du`, `dv` | 12 bits unsigned, 1/4096 per step | rounds toward zero; the chip adds 1 to `du` |
| bias | 13 bits signed << 0..7 | added to v every step, in 1/64 of a weight unit |
"""

from __future__ import annotations

import numpy as np

DECAY_BITS = 12
DECAY_ONE = 1 << DECAY_BITS
DECAY_MAX = DECAY_ONE - 1
CURRENT_DECAY_OFFSET = 1  # the chip adds one to du, so du = 4095 forgets all of the current
ACTIVATION_SHIFT = 6  # u, v and the shifted threshold count in 1/64 of a weight unit
STATE_BITS = 24
STATE_LIMIT = 1 << (STATE_BITS - 1)
VOLTAGE_MAX = STATE_LIMIT - 1
THRESHOLD_BITS = 17
THRESHOLD_MAX = (1 << THRESHOLD_BITS) - 1
BIAS_MANTISSA_MIN = -(1 << 12)
BIAS_MANTISSA_MAX = (1 << 12) - 1
BIAS_EXPONENT_MAX = 7
WEIGHT_BITS_MAX = 8
SIGNS = ("mixed", "excitatory", "inhibitory")
WEIGHT_EXPONENT_MIN = -8
WEIGHT_EXPONENT_MAX = 7
DELAY_MAX = 62
MESSAGE_BITS_MAX = 24  # Lava 0.10.0 declares 24-bit payloads on its spike ports
INT32_MAX = (1 << 31) - 1
DENDRITE_MAX = (
    1 << 21
) - 1  # of `a << 6` on Loihi 1: 21 bits and sign (nengo-loihi's emulator; Lava has no such limit)


def weight_range(num_weight_bits: int, sign: str = "mixed") -> tuple[int, int, int]:
    """(lowest, highest, step) of the weight mantissas that b bits hold.

    mixed: multiples of 2^(9 - b) in -256..256 - 2^(9 - b), the sign taking one bit; excitatory and inhibitory:
    multiples of 2^(8 - b) in 0..256 - 2^(8 - b) and their negatives.
    source: lava-nc 0.10.0, utils/weightutils.py.
    """
    grid = 1 << (WEIGHT_BITS_MAX + (sign == "mixed") - num_weight_bits)
    lowest = {"mixed": -256, "excitatory": 0, "inhibitory": grid - 256}[sign]
    return lowest, 0 if sign == "inhibitory" else 256 - grid, grid


def int32(value: np.ndarray) -> np.ndarray:
    """Wrap into 32 bits signed, the width of Lava's channels and sums. value: (...) int64; returns (...) int64."""
    return value.astype(np.int32).astype(np.int64)


def activation(total: np.ndarray, weight_exp: int) -> np.ndarray:
    """a = sum of W * s, shifted by the weight exponent after the summation. total: (...) int64; returns (...) int64.

    source: lava-nc 0.10.0, proc/dense/models.py, PyDenseModelBitAcc; int32 channels.
    """
    return int32(shift(int32(total), weight_exp))


def shift(value: np.ndarray, exponent: int) -> np.ndarray:
    """value * 2^exponent as integers: left shift, or arithmetic right shift (floor) for a negative exponent."""
    return value << exponent if exponent >= 0 else value >> -exponent


def decay(state: np.ndarray, constant: int, *, offset: int = 0) -> np.ndarray:
    """Leak an integer state by one timestep, rounding toward zero.

    state:    (...) int64, within 24 bits signed (or one wrap beyond).
    constant: leak per step in units of 1/4096, 0..4095.
    offset:   added by the chip: 1 for the current, 0 for the voltage.
    returns:  (...) int64, sign(state) * floor(|state| * (4096 - constant - offset) / 4096).
    source:   lava-nc 0.10.0, proc/lif/models.py, AbstractPyLifModelFixed.subthr_dynamics.
    """
    magnitude = (np.abs(state) * (DECAY_ONE - constant - offset)) >> DECAY_BITS
    return np.asarray(np.sign(state) * magnitude)


def wrap_current(current: np.ndarray) -> np.ndarray:
    """Wrap u once into (-2^23, 2^23], as Lava does; a value more than one period away stays out of range.

    current: (...) int64.  Returns (...) int64.
    source:  lava-nc 0.10.0, proc/lif/models.py: `> 2^23` subtracts 2^24, `<= -2^23` adds 2^24.
    """
    wrapped = np.where(current > STATE_LIMIT, current - 2 * STATE_LIMIT, current)
    return np.where(current <= -STATE_LIMIT, current + 2 * STATE_LIMIT, wrapped)


def saturate_voltage(voltage: np.ndarray) -> np.ndarray:
    """Clip v to +-(2^23 - 1). voltage: (...) int64."""
    return np.clip(voltage, -VOLTAGE_MAX, VOLTAGE_MAX)


def bias_register(bias_mant: np.ndarray, bias_exp: int) -> np.ndarray:
    """The bias that is added to v: bias_mant << bias_exp, in 1/64 of a weight unit."""
    return shift(bias_mant.astype(np.int64), bias_exp)


def integrate(
    u: np.ndarray, v: np.ndarray, activation: np.ndarray, bias: np.ndarray, *, du: int, dv: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Current and voltage of Loihi's current-based leaky integrator after one timestep, before any threshold.

        u' = wrap(int32(tz(u * (4096 - du - 1) / 4096) + (a << 6)))
        v' = saturate(int32(tz(v * (4096 - dv) / 4096) + u' + bias))

    u, v, activation: (...) int64; bias: broadcastable int64, from `bias_register`.
    returns: (u', v', wrapped, saturated); the last two (...) bool mark overflow.
    source:  lava-nc 0.10.0, proc/lif/models.py, AbstractPyLifModelFixed.subthr_dynamics.
    """
    raw_u = decay(u, du, offset=CURRENT_DECAY_OFFSET) + (activation << ACTIVATION_SHIFT)
    new_u = wrap_current(int32(raw_u))
    raw_v = decay(v, dv) + new_u + bias
    new_v = saturate_voltage(int32(raw_v))
    return new_u, new_v, raw_u != new_u, raw_v != new_v
