"""Binary events: an output adds the rows of weights of its active inputs, in vector registers.

LLVM's vectors fit any processor; numba itself would write the sums to memory after each row. Sums are int16 until
as many rows are added as certainly fit, then int32. Weights lie as `packed` says.

One file: numba's cache on disk notices a change of the file of a compiled function, not of what it calls elsewhere.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from lavatube.sim.fast_kernels.compiled import compiled

LANES = 32  # outputs of a vector
BYTE, INT16, INT32, INT64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
CHUNK = 32  # inputs that are looked at together
AT_ONCE = 8  # of which so many are written down without a branch
PRESSED = 64  # inputs that are looked at together where the processor presses bytes together
ROOM = PRESSED  # beyond the end of the list of active inputs
INPUTS_AT_ONCE = 1 << 16  # whose list is made before their rows are added, in dense synapses


@lru_cache(maxsize=1)
def presses_bytes() -> bool:
    """Whether the processor that numba compiles for has `vpcompressb`."""
    binding.initialize_native_asmparser()
    return "+avx512vbmi2" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")


def packed(weight: np.ndarray) -> np.ndarray:
    """[..., in, out] into [..., vectors * in * LANES]: blocks of 4, 2 or 1 vectors of outputs, each [in, block]."""
    *lead, size, width = weight.shape
    vectors = -(-width // LANES)
    padded = np.zeros((*lead, size, vectors * LANES), weight.dtype)
    padded[..., :width] = weight
    parts, at = [], 0
    while at < vectors:
        block = next(n for n in (4, 2, 1) if n <= vectors - at)
        parts.append(padded[..., at * LANES : (at + block) * LANES].reshape(*lead, -1))
        at += block
    return np.concatenate(parts, -1)


def _vector(kind: ir.Type, lanes: int = LANES) -> ir.VectorType:
    return ir.VectorType(kind, lanes)


def _number(value: int) -> ir.Constant:
    return ir.Constant(INT64, value)


def _at(b: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    return b.inttoptr(address, kind.as_pointer())


def _splat(b: ir.IRBuilder, value: ir.Value, kind: ir.VectorType) -> ir.Value:
    nothing = ir.Constant(kind, ir.Undefined)
    one = b.insert_element(nothing, b.trunc(value, kind.element), ir.Constant(INT32, 0))
    return b.shuffle_vector(one, nothing, ir.Constant(_vector(INT32, kind.count), [0] * kind.count))


def _rows(vectors: int) -> Any:
    """add(active, count, one, rows, out, keep, left, right), for `vectors` of outputs:

    out = ((out & keep) + sum of the rows active[k] over k < count) << left >> right. See `add_rows`.
    """

    @intrinsic
    def add(typing, active, count, one, rows, out, keep, left, right):  # type: ignore[no-untyped-def]
        size = one.bitwidth // 8
        arguments = [types.intp] * 8
        arguments[2] = one

        def code(context, b, signature, given):  # type: ignore[no-untyped-def]
            active, count, _, rows, out, keep, left, right = given
            stored, short, long = _vector(ir.IntType(8 * size)), _vector(INT16), _vector(INT32)
            zero, before = ir.Constant(short, [0] * LANES), b.block
            loop, done = b.append_basic_block("rows"), b.append_basic_block("done")
            b.cbranch(b.icmp_signed(">", count, _number(0)), loop, done)
            b.position_at_end(loop)
            k = b.phi(INT64)
            totals = [b.phi(short) for _ in range(vectors)]
            place = b.sext(b.load(_at(b, b.add(active, b.mul(k, _number(4))), INT32)), INT64)
            row = b.add(rows, b.mul(place, _number(vectors * LANES * size)))
            sums = []
            for n, total in enumerate(totals):
                some = b.load(_at(b, b.add(row, _number(n * LANES * size)), stored))
                some.align = size
                sums.append(b.add(total, b.sext(some, short) if size == 1 else some))
            following = b.add(k, _number(1))
            b.cbranch(b.icmp_signed("<", following, count), loop, done)
            b.position_at_end(done)
            ends = [b.phi(short) for _ in range(vectors)]
            for phi, first, later in ((k, _number(0), following), *zip(totals, [zero] * vectors, sums, strict=True)):
                phi.add_incoming(first, before)
                phi.add_incoming(later, loop)
            for phi, later in zip(ends, sums, strict=True):
                phi.add_incoming(zero, before)
                phi.add_incoming(later, loop)
            keep, left, right = (_splat(b, value, long) for value in (keep, left, right))
            for n, end in enumerate(ends):
                to = _at(b, b.add(out, _number(n * LANES * 4)), long)
                held = b.load(to)
                moved = b.ashr(b.shl(b.add(b.and_(held, keep), b.sext(end, long)), left), right)
                stores = b.store(moved, to)
                held.align = stores.align = 4
            return context.get_dummy_value()

        return types.void(*arguments), code

    return add


_add_1, _add_2, _add_4 = (_rows(vectors) for vectors in (1, 2, 4))


def _copier() -> Any:
    """copy(to, origin, size): `size` bytes between addresses."""

    @intrinsic
    def copy(typing, to, origin, size):  # type: ignore[no-untyped-def]
        def code(context, b, signature, given):  # type: ignore[no-untyped-def]
            to, origin, size = given
            cgutils.raw_memcpy(b, _at(b, to, BYTE), _at(b, origin, BYTE), size, 1)  # type: ignore[no-untyped-call]
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, types.intp), code

    return copy


def _write_places(b: ir.IRBuilder, mask: ir.Value, base: ir.Value, to: ir.Value) -> ir.Value:
    """Write base + the places of the first AT_ONCE bits of a mask, or anything beyond them; returns what is left."""
    for k in range(AT_ONCE):
        place = b.cttz(mask, ir.Constant(ir.IntType(1), 0))
        b.store(b.add(base, place), _at(b, b.add(to, _number(4 * k)), INT32))
        mask = b.and_(mask, b.sub(mask, ir.Constant(INT32, 1)))
    return mask


def _finder() -> Any:
    """find(events, first, found): write down which of CHUNK bytes at `events` are not 0, counted from `first`.

    Returns how many; all but the number `first` are addresses.
    """

    @intrinsic
    def find(typing, events, first, found):  # type: ignore[no-untyped-def]
        def code(context, b, signature, given):  # type: ignore[no-untyped-def]
            events, first, found = given
            chunk, none = _vector(BYTE, CHUNK), ir.Constant(INT32, 0)
            seen = b.load(_at(b, events, chunk))
            seen.align = 1
            mask = b.bitcast(b.icmp_unsigned("!=", seen, ir.Constant(chunk, [0] * CHUNK)), INT32)
            count, base, step = b.zext(b.ctpop(mask), INT64), b.trunc(first, INT32), _number(4 * AT_ONCE)
            rest, beyond = _write_places(b, mask, base, found), b.add(found, step)
            before, loop, done = b.block, b.append_basic_block("more"), b.append_basic_block("found")
            b.cbranch(b.icmp_unsigned("!=", rest, none), loop, done)
            b.position_at_end(loop)
            more, to = b.phi(INT32), b.phi(INT64)
            left, following = _write_places(b, more, base, to), b.add(to, step)
            for phi, start, later in ((more, rest, left), (to, beyond, following)):
                phi.add_incoming(start, before)
                phi.add_incoming(later, loop)
            b.cbranch(b.icmp_unsigned("!=", left, none), loop, done)
            b.position_at_end(done)
            return count

        return types.intp(types.intp, types.intp, types.intp), code

    return find


def _presser() -> Any:
    """As `_finder`, of PRESSED bytes: their places are pressed together as bytes, then written sixteen at a time."""

    @intrinsic
    def find(typing, events, first, found):  # type: ignore[no-untyped-def]
        def code(context, b, signature, given):  # type: ignore[no-untyped-def]
            if not presses_bytes():  # never called there
                return _number(0)
            events, first, found = given
            chunk, mask, wide = _vector(BYTE, PRESSED), _vector(ir.IntType(1), PRESSED), _vector(INT32, 16)
            seen = b.load(_at(b, events, chunk))
            seen.align = 1
            active = b.icmp_unsigned("!=", seen, ir.Constant(chunk, [0] * PRESSED))
            press = ir.InlineAsm(ir.FunctionType(chunk, [chunk, mask]), "vpcompressb $1, $0 {$2} {z}", "=v,v,^Yk")
            places = b.call(press, [ir.Constant(chunk, list(range(PRESSED))), active])
            count, base = b.zext(b.ctpop(b.bitcast(active, INT64)), INT64), _splat(b, first, wide)
            done = b.append_basic_block("found")
            for start in range(0, PRESSED, 16):
                some = ir.Constant(_vector(INT32, 16), list(range(start, start + 16)))
                numbers = b.zext(b.shuffle_vector(places, ir.Constant(chunk, ir.Undefined), some), wide)
                b.store(b.add(numbers, base), _at(b, b.add(found, _number(4 * start)), wide)).align = 4
                if start + 16 < PRESSED:
                    more = b.append_basic_block("more")
                    b.cbranch(b.icmp_unsigned(">", count, _number(start + 16)), more, done)
                    b.position_at_end(more)
            b.branch(done)
            b.position_at_end(done)
            return count

        return types.intp(types.intp, types.intp, types.intp), code

    return find


_copy, _active, _active_pressed = _copier(), _finder(), _presser()


@compiled
def find_active(flat: np.ndarray, start: int, stop: int, found: np.ndarray, count: int, pressed: bool) -> int:
    """found[count:] = which of flat[start:stop] (bytes) are not 0; returns the new count. found has ROOM to spare.

    pressed: see `presses_bytes`."""
    i = start
    if pressed:
        while i + PRESSED <= stop:
            count += _active_pressed(flat.ctypes.data + i, i, found.ctypes.data + 4 * count)
            i += PRESSED
    while i + CHUNK <= stop:
        count += _active(flat.ctypes.data + i, i, found.ctypes.data + 4 * count)
        i += CHUNK
    while i < stop:
        found[count] = i
        count += flat[i] != 0
        i += 1
    return count


@compiled
def add_rows(
    active: int,
    count: int,
    one: Any,
    rows: int,
    vectors: int,
    most: int,
    out: int,
    width: int,
    scratch: int,
    fresh: bool,
    left: int,
    right: int,
) -> None:
    """out[:width] = (0 if `fresh` else itself, plus the rows of active[:count]) << left >> right.

    All but `one` (any weight: its type tells their width) are addresses or numbers. rows: where row 0 of this block
    of 1, 2 or 4 vectors would begin; most: rows that certainly fit int16 together; scratch: int32 for `vectors`.
    """
    partial, keep, to = width < vectors * LANES, 0 if fresh else -1, out
    if partial:
        to = scratch
        if not fresh:
            _copy(scratch, out, 4 * width)
    while True:
        now = min(most, count)
        up, down = (left, right) if now == count else (0, 0)
        if vectors == 4:
            _add_4(active, now, one, rows, to, keep, up, down)
        elif vectors == 2:
            _add_2(active, now, one, rows, to, keep, up, down)
        else:
            _add_1(active, now, one, rows, to, keep, up, down)
        if now == count:
            break
        active, count, keep = active + 4 * now, count - now, -1
    if partial:
        _copy(out, scratch, 4 * width)


@compiled
def move_into(total: np.ndarray, out: np.ndarray) -> None:
    """out += total, in int32. total, out: [n] int32."""
    for o in range(total.shape[0]):
        out[o] = np.int32(out[o] + total[o])


@compiled
def dense_rows(
    events: np.ndarray,
    weight: np.ndarray,
    most: int,
    pressed: bool,
    left: int,
    right: int,
    out: np.ndarray,
    adds: bool,
) -> None:
    """events: [rows, in] bytes 0 or 1; weight: `packed` [in, out]; out: [rows, out] int32; most: see `add_rows`.

    out = or += (sums << left) >> right.
    """
    size, width = events.shape[1], out.shape[1]
    together = max(1, min(events.shape[0], INPUTS_AT_ONCE // size))
    found, starts = np.empty(together * size + ROOM, np.int32), np.empty(together + 1, np.int64)
    scratch = np.empty(4 * LANES, np.int32)
    sums = np.empty(out.size if adds else 0, np.int32)
    flat, to = events.reshape(-1), sums if adds else out.reshape(-1)
    for first in range(0, events.shape[0], together):
        some = min(together, events.shape[0] - first)
        count = 0
        for row in range(some):
            starts[row] = count
            count = find_active(flat, (first + row) * size, (first + row + 1) * size, found, count, pressed)
        starts[some] = count
        begin = 0
        while begin < width:
            vectors = (width - begin + LANES - 1) // LANES
            vectors = 4 if vectors >= 4 else 2 if vectors >= 2 else 1
            block = min(width - begin, vectors * LANES)
            for row in range(some):
                rows = begin * size - (first + row) * size * vectors * LANES
                add_rows(
                    found.ctypes.data + 4 * starts[row], starts[row + 1] - starts[row], weight[0],
                    weight.ctypes.data + rows * weight.itemsize, vectors, most,
                    to.ctypes.data + 4 * ((first + row) * width + begin), block, scratch.ctypes.data, True, left, right,
                )  # fmt: skip
            begin += vectors * LANES
    if adds:
        move_into(sums, out.reshape(-1))


@compiled
def conv_rows(
    events: np.ndarray,
    weight: np.ndarray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    most: int,
    pressed: bool,
    left: int,
    right: int,
    out: np.ndarray,
    adds: bool,
) -> None:
    """A line of the kernel at a time, at all places: its weights stay in the cache.

    events: [rows, H, W, C] bytes 0 or 1; weight: `packed` [groups, kernel height * kernel width * C / groups,
    out / groups]; out: [rows, H', W', out] int32; most: see `add_rows`.
    """
    _, height, width, channels = events.shape
    groups = weight.shape[0]
    per_in, per_out = channels // groups, out.shape[3] // groups
    window = kernel[0] * kernel[1] * per_in
    places = height * width * groups
    span = kernel[1] if groups == 1 and dilation[1] == 1 else 1  # neighbours are neighbours in the list too
    found, starts = np.empty(places * per_in + ROOM, np.int32), np.empty(places + 1, np.int64)
    scratch = np.empty(4 * LANES, np.int32)
    sums = np.empty(out[0].size if adds else 0, np.int32)
    for row in range(events.shape[0]):
        flat = events[row].reshape(-1)
        to = sums if adds else out[row].reshape(-1)
        count = 0
        for place in range(places):
            starts[place] = count
            count = find_active(flat, place * per_in, (place + 1) * per_in, found, count, pressed)
        starts[places] = count
        for group in range(groups):
            begin = 0
            while begin < per_out:
                vectors = (per_out - begin + LANES - 1) // LANES
                vectors = 4 if vectors >= 4 else 2 if vectors >= 2 else 1
                block = min(per_out - begin, vectors * LANES)
                for j in range(kernel[0]):
                    for i in range(0, kernel[1], span):
                        fresh, last = i == 0 and j == 0, j == kernel[0] - 1 and i + span == kernel[1]
                        up, down = left if last else 0, right if last else 0
                        slab = begin * window + (j * kernel[1] + i) * per_in * vectors * LANES
                        first = weight[group].ctypes.data + slab * weight.itemsize
                        for y in range(out.shape[1]):
                            from_y = y * stride[0] + j * dilation[0] - padding[0]
                            inside = from_y >= 0 and from_y < height
                            for x in range(out.shape[2]):
                                from_x = x * stride[1] + i * dilation[1] - padding[1]
                                a, z = max(0, from_x), min(from_x + span, width)
                                start = stop = 0
                                if inside and a < z:
                                    line = from_y * width * groups + group
                                    start = starts[line + a * groups]
                                    stop = starts[line + (z - 1) * groups + 1]
                                if start < stop or fresh or last:
                                    at = (y * out.shape[2] + x) * out.shape[3] + group * per_out + begin
                                    place = (from_y * width + from_x) * groups + group
                                    rows = first - place * per_in * vectors * LANES * weight.itemsize
                                    add_rows(
                                        found.ctypes.data + 4 * start, stop - start, weight[0, 0], rows, vectors, most,
                                        to.ctypes.data + 4 * at, block, scratch.ctypes.data, fresh, up, down,
                                    )  # fmt: skip
                begin += vectors * LANES
        if adds:
            move_into(sums, out[row].reshape(-1))
