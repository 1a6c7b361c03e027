"""Neurons, compiled: all of `lavatube.neuron_step.step` in one pass over a sample's row, equal to it bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from lavatube.sim.fast_kernels.compiled import compiled

int32: Any = np.int32  # numba widens what is not cast back
int64: Any = np.int64
LIMIT = 1 << 23
VOLTAGE_MAX = LIMIT - 1
NARROW = 1 << 24  # |a| and |u| below it: nothing in a step leaves 32 bits
BINARY, SIGNED, GRADED, SILENT = 0, 1, 2, 3


@compiled
def magnitude(row: np.ndarray) -> Any:
    """A bound of the largest |x| in a row of int32: every bit that any x or -x - 1 has."""
    bits = int32(0)
    for n in range(row.shape[0]):
        bits = int32(bits | int32(row[n] ^ int32(row[n] >> int32(31))))
    return int64(bits) + 1


@compiled
def leak(x: Any, keep: Any) -> Any:
    """tz(x * keep / 4096) in 32 bits: |x| in 12-bit halves, so that no product leaves them."""
    sign = int32(x >> int32(31))
    size = int32(int32(x ^ sign) - sign)
    kept = int32(int32(int32(size >> int32(12)) * keep) + int32(int32(int32(size & int32(4095)) * keep) >> int32(12)))
    return int32(int32(kept ^ sign) - sign)


@compiled
def leak_wide(x: Any, keep: Any) -> Any:
    """tz(x * keep / 4096) in 64 bits."""
    product = x * keep
    return (product + ((product >> 63) & 4095)) >> 12


@compiled
def plain_row(
    a: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    bias: np.ndarray,
    keep_u: int,
    keep_v: int,
    full: int,
    subtracts: bool,
    with_u: bool,
    events: np.ndarray,
) -> tuple[int, int]:
    """One step of binary neurons, in 32 bits: |a| and |u| are below NARROW. Returns (wrapped, saturated) neurons.

    with_u: False leaves u alone: it keeps nothing (keep_u = 0) and nobody looks.
    """  # fmt: skip
    wrapped, saturated = int32(0), int32(0)
    keep_u, keep_v, full = int32(keep_u), int32(keep_v), int32(full)
    lost = full if subtracts else int32(0)
    for n in range(a.shape[0]):
        raw = int32(a[n] << int32(6))
        if with_u:
            raw = int32(raw + leak(u[n], keep_u))
        above, below = int32(raw > LIMIT), int32(raw <= -LIMIT)
        current = int32(raw + int32(int32(below - above) << int32(24)))
        wrapped = int32(wrapped + int32(above | below))
        if with_u:
            u[n] = current
        raw = int32(int32(leak(v[n], keep_v) + current) + bias[n])
        voltage = int32(min(max(raw, int32(-VOLTAGE_MAX)), int32(VOLTAGE_MAX)))
        saturated = int32(saturated + int32(raw != voltage))
        spike = voltage > full
        events[n] = spike
        after = int32(voltage - lost) if subtracts else int32(0)
        v[n] = after if spike else voltage
    return wrapped, saturated


@compiled
def any_row(
    a: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    resting: np.ndarray,
    balance: np.ndarray,
    bias: np.ndarray,
    keep_u: int,
    keep_v: int,
    full: int,
    low: int,
    output: int,
    gate: bool,
    payload_shift: int,
    payload_max: int,
    subtracts: bool,
    refractory: int,
    events: np.ndarray,
) -> tuple[int, int]:
    """One step of neurons with every option, in 64 bits. Returns (wrapped, saturated) neurons."""  # fmt: skip
    wrapped = saturated = 0
    for n in range(a.shape[0]):
        raw = leak_wide(int64(u[n]), keep_u) + (int64(a[n]) << 6)
        current = int64(int32(raw))
        if current > LIMIT:
            current -= 2 * LIMIT
        elif current <= -LIMIT:
            current += 2 * LIMIT
        wrapped += raw != current
        u[n] = current
        if resting[n] > 0:
            resting[n] -= 1
            events[n] = 0
            continue
        raw = leak_wide(int64(v[n]), keep_v) + current + bias[n]
        voltage = min(max(int64(int32(raw)), -VOLTAGE_MAX), VOLTAGE_MAX)
        saturated += raw != voltage
        event: Any = 0
        if output != SILENT and voltage > full:
            event = min(voltage >> payload_shift, payload_max) if output == GRADED else 1
        elif output == SIGNED and voltage < -low and (not gate or balance[n] > 0):
            event = -1
        events[n] = event
        v[n] = voltage
        if event != 0:
            sign = 1 if event > 0 else -1
            v[n] = voltage - full * sign if subtracts else 0
            resting[n] = refractory
            balance[n] += sign
    return wrapped, saturated


@compiled
def run_neurons(
    a: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    resting: np.ndarray,
    balance: np.ndarray,
    bias: np.ndarray,
    leaks: tuple[int, int],
    levels: tuple[int, int],
    payload: tuple[int, int],
    kind: tuple[int, bool, bool, int],
    restart: tuple[int, int, int],
    plain: bool,
    first: int,
    events: np.ndarray,
    us: np.ndarray,
    vs: np.ndarray,
    overflows: np.ndarray,
) -> None:
    """Timesteps first, first + 1, ... of a population.

    a: [T, B, N] int32. u, v, resting, balance: state [B, N] int32; bias: [N] int32. plain: binary, never refractory.
    leaks: kept of u and v per step, in 1/4096. levels: 64 vth, 64 vth_low. payload: shift, largest.
    kind: output, memory gate, subtracts, refractory. restart: interval, offset, initial voltage.
    events: [T, B, N] out; us, vs: [T, B, N] int32 out, of no steps where not wanted; overflows: [2, T, B] int64 out.
    """  # fmt: skip
    output, gate, subtracts, refractory = kind
    interval, offset, initial = restart
    for b in range(a.shape[1]):
        for t in range(a.shape[0]):
            if interval > 0 and (first + t) % interval == offset:
                u[b], v[b], resting[b], balance[b] = 0, initial, 0, 0
            row = a[t, b]
            with_u = leaks[0] > 0 or us.shape[0] > 0
            if plain and magnitude(row) < NARROW and (not with_u or magnitude(u[b]) < NARROW):
                found = plain_row(row, u[b], v[b], bias, leaks[0], leaks[1], levels[0], subtracts, with_u, events[t, b])
                overflows[0, t, b], overflows[1, t, b] = found
            else:
                overflows[0, t, b], overflows[1, t, b] = any_row(
                    row, u[b], v[b], resting[b], balance[b], bias, leaks[0], leaks[1], levels[0], levels[1], output,
                    gate, payload[0], payload[1], subtracts, refractory, events[t, b],
                )  # fmt: skip
            if us.shape[0] > 0:
                us[t, b] = u[b]
            if vs.shape[0] > 0:
                vs[t, b] = v[b]
