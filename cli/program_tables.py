"""Tables about a program."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from lavatube.bounds import LayerBound
from lavatube.program import Conv2dNode, LifNode, LoihiProgram, ReadoutNode


def bounds_table(bounds: Sequence[LayerBound]) -> Table:
    """How far each register can go."""
    table = Table(title="register bounds (any input within the encoding)", title_justify="left")
    for column in ("synapse", "activation", "u (24 bits)", "v (24 bits)", "fits"):
        table.add_column(column)
    for bound in bounds:
        cells = [
            f"{low:,} .. {high:,}" if pair else "-"
            for pair in (bound.activation, bound.u, bound.v)
            for low, high in [pair or (0, 0)]
        ]
        table.add_row(bound.synapse, *cells, "NO" if bound.violations() else "yes")
    return table


def nodes_table(program: LoihiProgram) -> Table:
    """The nodes in order."""
    table = Table(title=f"program for {program.target}, T = {program.num_steps}", title_justify="left")
    for column in ("node", "kind", "shape", "what"):
        table.add_column(column)
    table.add_row("input", "input", str(program.input.shape), f"integers 0..{program.input.max_value}")
    for synapse, target in program.layers:
        geometry = f", stride {synapse.stride}, padding {synapse.padding}" if isinstance(synapse, Conv2dNode) else ""
        what = (
            f"{synapse.weight.size} weights of {synapse.num_weight_bits} bits, exponent {synapse.weight_exp}{geometry}"
        )
        table.add_row(synapse.name, synapse.kind, f"{synapse.in_shape} -> {synapse.out_shape}", what)
        if isinstance(target, LifNode):
            bias = f"bias {target.bias_mant.min()}..{target.bias_mant.max()} << {target.bias_exp}"
            table.add_row(
                target.name, "lif", str(target.shape), f"du {target.du}, dv {target.dv}, vth {target.vth}, {bias}"
            )
        elif isinstance(target, ReadoutNode):
            table.add_row(target.name, "readout", str(target.shape), "int64 sum over timesteps, on the host")
    return table
