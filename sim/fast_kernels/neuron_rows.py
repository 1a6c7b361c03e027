"""Neurons, compiled: all of `lavatube.neuron_step.step` in one pass over part of a sample, equal to it bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from lavatube.sim.fast_kernels.compiled import compiled

int32: Any = np.int32  # numba widens what is not cast back
int64: Any = np.int64
LIMIT = 1 << 23
VOLTAGE_MAX = LIMIT - 1
NARROW = 1 << 24  # |a| and |u| below it: nothing in a step leaves 32 bits
CALM_V, CALM_A = 1 << 22, 1 << 15  # |v| and |a| below them: nothing wraps or saturates
TOGETHER = 2048  # neurons that take all timesteps before the next: their state stays in the nearest cache
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
def calm_row(
    a: np.ndarray,
    v: np.ndarray,
    bias: np.ndarray,
    keep: int,
    full: int,
    subtracts: bool,
    after: np.ndarray,
    events: np.ndarray,
) -> bool:
    """One step of binary neurons that keep no current. after: their v. Returns whether a and v were calm.

    If not, what it gives is void. |bias| is at most 2^19, so that |voltage| stays below 2^22 + 2^21 + 2^19.
    """  # fmt: skip
    seen_a, seen_v = int32(0), int32(0)
    keep, full = int32(keep), int32(full)
    lost = full if subtracts else int32(0)
    for n in range(a.shape[0]):
        x, given = v[n], a[n]
        sign = int32(x >> int32(31))
        seen_a = int32(seen_a | int32(given ^ int32(given >> int32(31))))
        seen_v = int32(seen_v | int32(x ^ sign))
        low = int32(int32(int32(x & int32(4095)) * keep) + int32(sign & int32(4095)))
        kept = int32(int32(int32(x >> int32(12)) * keep) + int32(low >> int32(12)))
        voltage = int32(int32(kept + int32(given << int32(6))) + bias[n])
        spike = voltage > full
        events[n] = spike
        rest = int32(voltage - lost) if subtracts else int32(0)
        after[n] = rest if spike else voltage
    return bool(seen_a < CALM_A - 1 and seen_v < CALM_V - 1)


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
    overflows[:] = 0
    with_u = leaks[0] > 0 or us.shape[0] > 0
    spare = np.empty(min(TOGETHER, a.shape[2]), np.int32)
    for b in range(a.shape[1]):
        for start in range(0, a.shape[2], TOGETHER):
            part = slice(start, min(start + TOGETHER, a.shape[2]))
            now, following = v[b, part], spare[: part.stop - part.start]
            some_u, some_resting, some_balance, some_bias = u[b, part], resting[b, part], balance[b, part], bias[part]
            calm, at_home = plain and not with_u, True
            for t in range(a.shape[0]):
                if interval > 0 and (first + t) % interval == offset:
                    some_u[:], now[:], some_resting[:], some_balance[:] = 0, initial, 0, 0
                row, made = a[t, b, part], events[t, b, part]
                if calm:
                    calm = calm_row(row, now, some_bias, leaks[1], levels[0], subtracts, following, made)
                if calm:
                    now, following, at_home = following, now, not at_home
                else:
                    if plain and magnitude(row) < NARROW and (not with_u or magnitude(some_u) < NARROW):
                        wrapped, saturated = plain_row(
                            row, some_u, now, some_bias, leaks[0], leaks[1], levels[0], subtracts, with_u, made
                        )
                    else:
                        wrapped, saturated = any_row(
                            row, some_u, now, some_resting, some_balance, some_bias, leaks[0], leaks[1],
                            levels[0], levels[1], output, gate, payload[0], payload[1], subtracts, refractory, made,
                        )  # fmt: skip
                    overflows[0, t, b] += wrapped
                    overflows[1, t, b] += saturated
                if us.shape[0] > 0:
                    us[t, b, part] = some_u
                if vs.shape[0] > 0:
                    vs[t, b, part] = now
            if not at_home:
                following[:] = now
