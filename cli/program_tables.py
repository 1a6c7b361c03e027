"""Tables about a program."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from lavatube.bounds import LayerBound, never_spiking
from lavatube.cli.output import console
from lavatube.fixed_point import VOLTAGE_MAX
from lavatube.program import Conv2dNode, InputNode, LoihiProgram, NeuronNode, Synapse
from lavatube.weight_code import weight_code

SHARE_LOST = 0.2  # of the weights of a synapse


def bounds_table(bounds: Sequence[LayerBound]) -> Table:
    """How far each register can go; the last column is the real chip's accumulator, which Lava does not have.

    Where a range has no room in one line, its lower end stands above its upper end.
    """
    table, to = _bounds_table(bounds, " .. "), console()
    wide = to.measure(table, options=to.options.update(max_width=1000)).maximum > to.width
    return _bounds_table(bounds, "\n") if wide else table


def _bounds_table(bounds: Sequence[LayerBound], between: str) -> Table:
    table = Table(title="register bounds (any input within the encoding)", title_justify="left")
    table.add_column("synapse", overflow="fold")
    for column in ("activation", "u (24 bits)", "v (24 bits)", "fits", "fits 21 bits"):
        table.add_column(column, no_wrap="bits)" in column or column == "activation")
    for bound in bounds:
        cells = [
            f"{low:,}{between}{high:,}" if pair else "-"
            for pair in (bound.activation, bound.u, bound.v)
            for low, high in [pair or (0, 0)]
        ]
        dendrite = {None: "-", True: "yes", False: "NO"}[bound.fits_dendrite]
        table.add_row(bound.synapse, *cells, "NO" if bound.violations() else "yes", dendrite)
    return table


def notes(program: LoihiProgram, bounds: Sequence[LayerBound]) -> list[str]:
    """What a user of a file quantized after training should look at first."""
    found = []
    for name in never_spiking(program, bounds):
        what = f"no neuron of {name} can spike in {program.num_steps} timesteps, whatever the input"
        found.append(f"note: {what}: are contract, dt and input the file's own?")
    tight = {
        name for each in bounds if each.v and max(map(abs, each.v)) > VOLTAGE_MAX // 2 for name in each.accumulators
    }
    for record in program.lossy:
        lost, of = record.get("weights_to_zero", 0), record.get("weights", 0)
        if lost > SHARE_LOST * of and record.get("layer") in tight and program.overflow == "strict":
            what = f"{lost} of {of} weights of {record['layer']} became 0, as v could leave its register otherwise"
            found.append(
                f"note: {what}: try --overflow hardware (v saturates, counted), fewer timesteps or --input-bits"
            )
    return found


def nodes_table(program: LoihiProgram) -> Table:
    """The nodes in order."""
    table = Table(title=f"program for {program.target}, T = {program.num_steps}", title_justify="left")
    for column in ("node", "kind", "shape", "what"):
        table.add_column(column)
    for node in program.nodes:
        if isinstance(node, InputNode):
            table.add_row(node.name, node.kind, str(node.shape), f"integers 0..{node.max_value}")
        elif isinstance(node, Synapse):
            source, lag = program.source_of(node), program.lag(node)
            what = f"{node.weight.size} weights of {node.num_weight_bits} bits"
            what += f"{weight_code(node.weight, node.num_weight_bits)}, exponent {node.weight_exp}"
            if isinstance(node, Conv2dNode):
                what += f", stride {node.stride}, padding {node.padding}"
            what += f", {lag} timesteps late" if lag else ""
            table.add_row(node.name, node.kind, f"{node.in_shape} -> {node.out_shape}", f"from {source.name}: {what}")
        elif isinstance(node, NeuronNode):
            bias = f"bias {node.bias_mant.min()}..{node.bias_mant.max()} << {node.bias_exp}"
            what = f"du {node.du}, dv {node.dv}, vth {node.vth}, {bias}"
            needs = ", ".join(sorted(node.needs()))
            table.add_row(node.name, node.kind, str(node.shape), what + (f"; {needs}" if needs else ""))
        else:
            what = {"current": "int64 sum over timesteps", "spikes": "spike counts", "voltage": "last voltage"}[
                node.reads
            ]
            table.add_row(node.name, node.kind, str(node.shape), f"{what}, on the host")
    return table
