"""Products of unsigned and signed bytes, four at a time (`vpdpbusd`), into int32 sums that wrap.

A tile of some places times some vectors of outputs stays in registers. Four inputs side by side are a word; a line is
words side by side in memory, so a window is the lines of its kernel and nothing is gathered. Words that are 0 at all
places of a tile are left out. Written as assembly because LLVM changes the forms of its intrinsics with its version.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from lavatube.sim.fast_kernels.compiled import compiled

LANES = 16  # outputs of a vector, and words that are looked at together
INPUTS = 4  # of a word
FLIP = 128  # signed events are moved by this much
NEEDS = ("+avx512f", "+avx512vnni")
BIT, BYTE, INT16, INT32, INT64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
VECTOR, MASK = ir.VectorType(INT32, LANES), ir.VectorType(BIT, LANES)
ZERO, NUMBERS = ir.Constant(VECTOR, [0] * LANES), ir.Constant(VECTOR, list(range(LANES)))


def _assembly(result: ir.Type, given: list[ir.Type], text: str, where: str, *, memory: bool = False) -> ir.InlineAsm:
    return ir.InlineAsm(ir.FunctionType(result, given), text, where + ",~{memory}" * memory, side_effect=memory)


DOT = _assembly(VECTOR, [VECTOR, VECTOR, VECTOR], "vpdpbusd $3, $2, $0", "=v,0,v,v")
PRESS = _assembly(VECTOR, [VECTOR, MASK], "vpcompressd $1, $0 {$2} {z}", "=v,v,^Yk")
LOAD = _assembly(VECTOR, [INT64, MASK], "vmovdqu32 ($1), $0 {$2} {z}", "=v,r,^Yk", memory=True)
STORE = _assembly(ir.VoidType(), [VECTOR, INT64, MASK], "vmovdqu32 $0, ($1) {$2}", "v,r,^Yk", memory=True)


def processor_has_dots() -> bool:
    """Whether the processor that numba compiles for has the instructions."""
    return set(NEEDS) <= set(cpu_target.target_context.codegen().magic_tuple()[2].split(","))


@lru_cache(maxsize=1)
def dots_are_exact() -> bool:
    """Whether they are there, and pass a self-check with the largest products."""
    if not processor_has_dots():
        return False
    binding.initialize_native_asmparser()
    events, weight = np.full((9, 20), 255, np.uint8), np.full((20, 17), -128, np.int8)
    events[::2, ::3], weight[:, ::2] = 0, 127
    out = np.zeros((9, 17), np.int32)
    first = np.zeros(vectors_of(17) * LANES, np.int32)  # whole vectors of it are read
    dense_dots(events, packed(weight), first, 0, 0, out, False)
    return bool((out == events.astype(np.int32) @ weight.astype(np.int32)).all())


def vectors_of(width: int) -> int:
    """Vectors that `width` outputs are held in: blocks of four, and one of two or one."""
    vectors = -(-width // LANES)
    return vectors + (vectors % 4 == 3)


def packed(weight: np.ndarray) -> np.ndarray:
    """[..., inputs of a line, outputs] int8 into [words, vectors, LANES, INPUTS], filled with zeros."""
    *lead, size, width = weight.shape
    words = -(-size // INPUTS)
    padded = np.zeros((*lead, words * INPUTS, vectors_of(width) * LANES), np.int8)
    padded[..., :size, :width] = weight
    split = padded.reshape(-1, INPUTS, padded.shape[-1]).transpose(0, 2, 1)
    return np.ascontiguousarray(split).reshape(len(split), -1, LANES, INPUTS)


def _number(value: int) -> ir.Constant:
    return ir.Constant(INT64, value)


def _load(b: ir.IRBuilder, address: ir.Value, kind: ir.Type, align: int) -> ir.Value:
    value = b.load(b.inttoptr(address, kind.as_pointer()))
    value.align = align
    return value


def _splat(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    nothing = ir.Constant(VECTOR, ir.Undefined)
    narrow = value if value.type == INT32 else b.trunc(value, INT32)
    return b.shuffle_vector(b.insert_element(nothing, narrow, ir.Constant(INT32, 0)), nothing, ZERO)


def _tile(places: int, vectors: int) -> Any:
    """add(at, there, words, count, weight, stride, first, out, width, lanes, valid, keep, left, right), of addresses
    and numbers: out = (out & keep) + ((first + sum over `count` words) << left >> right) for a tile.

    at: addresses of the places' inputs; there, words: int32, where a word lies and which it is; stride: bytes of
    the weights of a word; width: outputs of a place; lanes: of them from here on; valid: places to write.
    """

    @intrinsic
    def add(  # type: ignore[no-untyped-def]
        typing, at, there, words, count, weight, stride, first, out, width, lanes, valid, keep, left, right
    ):
        def code(context, b, signature, given):  # type: ignore[no-untyped-def]
            at, there, words, count, weight, stride, first, out, width, lanes, valid, keep, left, right = given
            tile = [(h, v) for h in range(places) for v in range(vectors)]
            bases = [_load(b, b.add(at, _number(8 * h)), INT64, 8) for h in range(places)]
            begin = [_load(b, b.add(first, _number(64 * v)), VECTOR, 4) for v in range(vectors)]
            before, loop, done = b.block, b.append_basic_block("dots"), b.append_basic_block("done")
            b.cbranch(b.icmp_signed(">", count, _number(0)), loop, done)
            b.position_at_end(loop)
            k = b.phi(INT64)
            totals = {each: b.phi(VECTOR) for each in tile}
            far = b.mul(k, _number(4))
            offset, word = (b.sext(_load(b, b.add(base, far), INT32, 4), INT64) for base in (there, words))
            seen = [_splat(b, _load(b, b.add(base, offset), INT32, 1)) for base in bases]
            row = b.add(weight, b.mul(word, stride))
            held = [_load(b, b.add(row, _number(64 * v)), VECTOR, 4) for v in range(vectors)]
            sums = {(h, v): b.call(DOT, [totals[h, v], seen[h], held[v]]) for h, v in tile}
            following = b.add(k, _number(1))
            b.cbranch(b.icmp_signed("<", following, count), loop, done)
            b.position_at_end(done)
            ends = {each: b.phi(VECTOR) for each in tile}
            pairs = [(totals[each], begin[each[1]], sums[each]) for each in tile]
            for phi, start, later in ((k, _number(0), following), *pairs):
                phi.add_incoming(start, before)
                phi.add_incoming(later, loop)
            for each in tile:
                ends[each].add_incoming(begin[each[1]], before)
                ends[each].add_incoming(sums[each], loop)
            lanes, keep, left, right = (_splat(b, value) for value in (lanes, keep, left, right))
            masks = [b.icmp_signed("<", b.add(NUMBERS, ir.Constant(VECTOR, [v * LANES] * LANES)), lanes)
                     for v in range(vectors)]  # fmt: skip
            end = b.append_basic_block("end")
            for h in range(places):
                write = b.append_basic_block("write")
                b.cbranch(b.icmp_signed(">", valid, _number(h)), write, end)
                b.position_at_end(write)
                for v in range(vectors):
                    to = b.add(out, b.add(b.mul(width, _number(4 * h)), _number(64 * v)))
                    moved = b.ashr(b.shl(ends[h, v], left), right)
                    b.call(STORE, [b.add(b.and_(b.call(LOAD, [to, masks[v]]), keep), moved), to, masks[v]])
            b.branch(end)
            b.position_at_end(end)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 14), code

    return add


def _finder(places: int) -> Any:
    """find(at, line, first, size, there, words, count): add the words of a line that are not 0 at every place.

    at, there, words: as in `_tile`; line: its offset from a place; first: its first word; size: its words. Returns
    the new count.
    """

    @intrinsic
    def find(typing, at, line, first, size, there, words, count):  # type: ignore[no-untyped-def]
        def code(context, b, signature, given):  # type: ignore[no-untyped-def]
            at, line, first, size, there, words, count = given
            bases = [b.add(_load(b, b.add(at, _number(8 * h)), INT64, 8), line) for h in range(places)]
            before, loop, done = b.block, b.append_basic_block("find"), b.append_basic_block("found")
            b.cbranch(b.icmp_signed(">", size, _number(0)), loop, done)
            b.position_at_end(loop)
            k, total = b.phi(INT64), b.phi(INT64)
            inside = b.icmp_signed("<", NUMBERS, _splat(b, b.sub(size, k)))
            far = b.mul(k, _number(4))
            some: ir.Value = ZERO
            for base in bases:
                some = b.or_(some, b.call(LOAD, [b.add(base, far), inside]))
            active = b.icmp_signed("!=", some, ZERO)
            number = b.add(NUMBERS, _splat(b, k))
            offset = b.add(b.shl(number, ir.Constant(VECTOR, [2] * LANES)), _splat(b, line))
            for value, to in ((offset, there), (b.add(number, _splat(b, first)), words)):
                address = b.inttoptr(b.add(to, b.mul(total, _number(4))), VECTOR.as_pointer())
                b.store(b.call(PRESS, [value, active]), address).align = 4
            more = b.add(total, b.zext(b.ctpop(b.bitcast(active, INT16)), INT64))
            following = b.add(k, _number(LANES))
            b.cbranch(b.icmp_signed("<", following, size), loop, done)
            b.position_at_end(done)
            end = b.phi(INT64)
            for phi, start, later in ((k, _number(0), following), (total, count, more)):
                phi.add_incoming(start, before)
                phi.add_incoming(later, loop)
            end.add_incoming(count, before)
            end.add_incoming(more, loop)
            return end

        return types.intp(*[types.intp] * 7), code

    return find


_add_4x4, _add_6x2, _add_8x1 = _tile(4, 4), _tile(6, 2), _tile(8, 1)
_find_4, _find_6, _find_8 = (_finder(places) for places in (4, 6, 8))


@compiled
def add_dots(
    places: np.ndarray,
    lines: np.ndarray,
    size: int,
    weight: np.ndarray,
    first: np.ndarray,
    left: int,
    right: int,
    out: np.ndarray,
    adds: bool,
) -> None:
    """places: addresses [P] int64; lines: offsets [L] from there, of `size` words each, whole in memory.

    weight: `packed` [L * size, vectors, LANES, INPUTS]; first: [vectors * LANES] int32, added to the sums; out: [P, O]
    int32 = or += (sums << left) >> right.
    """
    vectors, width, keep = weight.shape[1], out.shape[1], -1 if adds else 0
    there, words = np.empty(len(weight) + LANES, np.int32), np.empty(len(weight) + LANES, np.int32)
    tile, stride = np.empty(8, np.int64), 64 * vectors
    at, done = tile.ctypes.data, 0
    while done < vectors:
        left_over = vectors - done
        block = 4 if left_over >= 4 else left_over
        high = 4 if block == 4 else 6 if block == 2 else 8
        stop = done + left_over // 4 * 4 if block == 4 else vectors
        for p in range(0, len(places), high):
            valid = min(high, len(places) - p)
            for h in range(high):
                tile[h] = places[p + min(h, valid - 1)]
            near, which = there.ctypes.data, words.ctypes.data  # in the loop: numba frees what is not named again
            count = 0
            for line in range(len(lines)):
                if block == 4:
                    count = _find_4(at, lines[line], line * size, size, near, which, count)
                elif block == 2:
                    count = _find_6(at, lines[line], line * size, size, near, which, count)
                else:
                    count = _find_8(at, lines[line], line * size, size, near, which, count)
            for v in range(done, stop, block):
                to = out.ctypes.data + 4 * (p * width + v * LANES)
                start, held, lanes = first.ctypes.data + 64 * v, weight.ctypes.data + 64 * v, width - v * LANES
                if block == 4:
                    _add_4x4(at, near, which, count, held, stride, start, to, width, lanes, valid, keep, left, right)
                elif block == 2:
                    _add_6x2(at, near, which, count, held, stride, start, to, width, lanes, valid, keep, left, right)
                else:
                    _add_8x1(at, near, which, count, held, stride, start, to, width, lanes, valid, keep, left, right)
        done = stop


@compiled
def dense_dots(
    events: np.ndarray, weight: np.ndarray, first: np.ndarray, left: int, right: int, out: np.ndarray, adds: bool
) -> None:
    """events: [rows, in] bytes, `in` a multiple of INPUTS; out: [rows, out] int32; else as `add_dots`."""
    places = events.ctypes.data + events.shape[1] * np.arange(events.shape[0])
    add_dots(places, np.zeros(1, np.int64), events.shape[1] // INPUTS, weight, first, left, right, out, adds)


@compiled
def conv_dots(
    events: np.ndarray,
    weight: np.ndarray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    flip: int,
    first: np.ndarray,
    left: int,
    right: int,
    out: np.ndarray,
    adds: bool,
) -> None:
    """events: [rows, H, W, C] bytes, moved by `flip`; out: [rows, H', W', out] int32; else as `add_dots`.

    A line is one of the kernel's, or where it is dilated, one of its places.
    """
    _, height, width, channels = events.shape
    wide = (width + 2 * padding[1]) * channels
    span = kernel[1] if dilation[1] == 1 else 1
    size = (span * channels + INPUTS - 1) // INPUTS
    image = np.full((height + 2 * padding[0]) * wide + INPUTS, flip, np.uint8)
    lines = np.empty(kernel[0] * (kernel[1] // span), np.int64)
    for n in range(len(lines)):
        j, i = n // (kernel[1] // span), n % (kernel[1] // span)
        lines[n] = j * dilation[0] * wide + i * dilation[1] * channels
    places = np.empty(out.shape[1] * out.shape[2], np.int64)
    for y in range(out.shape[1]):
        for x in range(out.shape[2]):
            far = y * stride[0] * wide + x * stride[1] * channels
            places[y * out.shape[2] + x] = image.ctypes.data + far
    for row in range(events.shape[0]):
        for y in range(height):
            begin = (y + padding[0]) * wide + padding[1] * channels
            seen, copied = events[row, y].reshape(-1), image[begin : begin + width * channels]
            for n in range(copied.shape[0]):
                copied[n] = np.uint8(seen[n]) ^ np.uint8(flip)
        add_dots(places, lines, size, weight, first, left, right, out[row].reshape(-1, out.shape[3]), adds)
