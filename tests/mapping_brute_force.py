"""Synapses as explicit connections, and the loads of a map's cores from them, one connection at a time."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

import numpy as np

from lavatube import fixed_point as fp
from lavatube.program import Conv2dNode, DenseNode, SparseNode


def explicit(synapse):
    """[(from, to, weight)] of every stored connection, by docs/program.md."""
    if isinstance(synapse, DenseNode):
        return [(i, o, int(w)) for (o, i), w in np.ndenumerate(synapse.weight)]
    if isinstance(synapse, SparseNode):
        to = np.repeat(np.arange(len(synapse.indptr) - 1), np.diff(synapse.indptr))
        return list(zip(synapse.index.tolist(), to.tolist(), synapse.weight.tolist(), strict=True))
    assert isinstance(synapse, Conv2dNode)
    (_, height, width), (outputs, out_h, out_w) = synapse.in_shape, synapse.out_shape
    per_group, found = outputs // synapse.groups, []
    for (o, i, j, k), weight in np.ndenumerate(synapse.weight):
        channel = o // per_group * synapse.weight.shape[1] + i
        for y in range(out_h):
            for x in range(out_w):
                row = y * synapse.stride[0] + j * synapse.dilation[0] - synapse.padding[0]
                column = x * synapse.stride[1] + k * synapse.dilation[1] - synapse.padding[1]
                if 0 <= row < height and 0 <= column < width:
                    source = (channel * height + row) * width + column
                    found.append((source, (o * out_h + y) * out_w + x, int(weight)))
    return found


def fits_in(weights, exponent, bits):
    """Whether b bits and any exponent of the chip hold the weights of an exponent."""
    for other in range(fp.WEIGHT_EXPONENT_MIN, fp.WEIGHT_EXPONENT_MAX + 1):
        scaled = [Fraction(int(w)) * Fraction(2) ** (exponent - other) for w in weights]
        for sign in fp.SIGNS:
            low, high, grid = fp.weight_range(bits, sign)
            if all(low <= w <= high and w % grid == 0 for w in scaled):
                return True
    return False


def recomputed(program, found):
    """({core: loads}, {source: {(neuron, core that it reaches)}}) one connection at a time, in plain Python."""
    limits, per_core = found.limits, defaultdict(lambda: defaultdict(int))
    inputs, outputs, formats = defaultdict(set), defaultdict(set), defaultdict(set)
    longest, pairs = defaultdict(int), defaultdict(set)
    for name in found.populations:
        for core in found.cores_of(name):
            per_core[int(core)]["neurons"] += 1
    for target in program.targets:
        groups = defaultdict(list)
        for synapse in program.inbound(target):
            source = program.source_of(synapse).name
            alone = synapse.name if isinstance(synapse, Conv2dNode) else ""
            groups[source, synapse.kind, synapse.weight_exp, synapse.sign, alone].append(synapse)
        for (source, kind, exponent, sign, _), synapses in groups.items():
            core_of, sending = found.cores_of(target.name), found.cores_of(source)
            lists, nonzero = defaultdict(int), defaultdict(int)
            for synapse in synapses:
                for a, b, weight in explicit(synapse):
                    lists[int(core_of[b]), a] += 1
                    nonzero[int(core_of[b]), a] += weight != 0
            delay = max(synapse.delay for synapse in synapses)
            weights = np.unique(np.concatenate([synapse.weight.reshape(-1) for synapse in synapses]))
            for core in sorted(set(core_of.tolist())):
                longest[core] = max(longest[core], delay)
                mine = np.flatnonzero(core_of == core)
                options = []
                for form in limits.formats:
                    if kind not in form.nodes:
                        continue
                    counts = {
                        a: n for (c, a), n in (lists if form.stores_zeros else nonzero).items() if c == core and n
                    }
                    bits = next(b for b in sorted(form.weight_bits) if fits_in(weights, exponent, b))
                    each = bits + next(b for b in form.delay_bits if 2**b > delay)
                    if form.index_bits:
                        each += next(b for b in form.index_bits if 2**b >= len(mine))
                    if form.shared:
                        (synapse,) = synapses
                        rows, per_group = defaultdict(int), synapse.out_shape[0] // synapse.groups
                        for channel in sorted({int(n) // int(np.prod(synapse.out_shape[1:])) for n in mine}):
                            for element in np.ndindex(*synapse.weight.shape[1:]):
                                rows[channel // per_group, element] += 1
                        sizes = list(rows.values())
                    else:
                        sizes = list(counts.values())
                    words = 0
                    for size in sizes:
                        while size > 0:
                            part = min(size, form.block or size)
                            words += -(-(form.header_bits + part * each) // 64)
                            size -= part
                    options.append((words, f"{form.name} {bits} {delay} {exponent} {sign}", set(counts), form.shared))
                words, form, sources, shared = min(options, key=lambda option: option[0])
                per_core[core]["synapse_words"] += words
                formats[core].add(form)
                pairs[source] |= {(a, core) for a in sources}
                inputs[core] |= (
                    ({(source, id(synapses[0]))} if shared and sources else set())
                    if shared
                    else {(source, a) for a in sources}
                )
                for a in sources:
                    if sending[a] >= 0:
                        position = a % int(np.prod(synapses[0].in_shape[1:])) if shared else a
                        goes = core if limits.output_axon_per == "core" else (id(synapses[0]), target.name)
                        outputs[int(sending[a])].add(
                            (source, position if limits.output_axon_per != "core" else a, goes)
                        )
    for core, row in per_core.items():
        row["input_axons"], row["output_axons"] = len(inputs[core]), len(outputs[core])
        if "formats" in limits.limits:
            row["formats"] = len(formats[core])
            row["delay_slots"] = row["neurons"] * max(8, 2 ** int(np.ceil(np.log2(longest[core] + 2))))
        row["synapse_words"] += 0
    return {core: dict(row) for core, row in per_core.items()}, pairs
