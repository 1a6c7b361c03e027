"""Published energies and other tools' numbers, beside what our counts and price tables say of the same workload.

    uv run benchmarks/energy_validation.py [--out docs/results/energy_validation.md]

PilotNet needs the wheel of lava-dl in the folder LAVATUBE_WHEELS (fetched there when it is not), NeuroBench's and
SANA-FE's own counts need `uv run --with neurobench --with sanafe`; rows that could not be made say so. Exit code 1 if a
case leaves its gate.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lavatube.files import whole_file
from lavatube.inputs import make_inputs
from lavatube.program import Conv2dNode, DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.program_file import program_sha256
from lavatube.sim.counts import Counts, LayerCounts, Placement, count, count_cores, neurobench
from lavatube.sim.energy import energy
from lavatube.sim.energy_tables import joules
from lavatube.sim.interval import Interval
from lavatube.sim.placing import place
from lavatube.sim.price_table import PriceTable, parse_prices
from lavatube.sim.reference import run_reference
from lavatube.trace import SpikeTrace

HEAD = ("case", "prices or definition", "published", "ours", "gate", "holds")
STEPS = 25


@dataclass(frozen=True)
class Row:
    """gate: what must hold; holds: None where there is none, or nothing could be run."""

    case: str
    what: str
    published: str
    ours: str
    gate: str = ""
    holds: bool | None = None

    def cells(self) -> tuple[str, ...]:
        return (
            self.case,
            self.what,
            self.published,
            self.ours,
            self.gate,
            {True: "yes", False: "NO", None: ""}[self.holds],
        )


def example() -> tuple[LoihiProgram, SpikeTrace]:
    """784-512-10 with 25 timesteps, a tenth of everything firing: 1,960 + 1,280 + 25 spikes, spread evenly."""
    sizes, totals = (784, 512, 10), (1960, 1280, 25)

    def layer(name: str, inputs: int, units: int) -> tuple[DenseNode, NeuronNode]:
        weight = np.full((units, inputs), 2, np.int16)
        neuron = NeuronNode(f"{name}_lif", (units,), 4095, 0, 1000, np.zeros(units, np.int16), 0)
        return DenseNode(name, (inputs,), weight, 8, 0), neuron

    nodes = (
        InputNode("input", (784,), 1), *layer("hidden", 784, 512), *layer("output", 512, 10),
        ReadoutNode("classes", np.zeros(10, np.int64), "spikes"),
    )  # fmt: skip
    program = LoihiProgram(nodes, tuple(pairwise(node.name for node in nodes)), STEPS, {}, overflow="hardware")

    def spikes(size: int, total: int) -> np.ndarray:
        value = np.zeros(STEPS * size, np.uint8)
        value[np.arange(total) * (STEPS * size) // total] = 1
        return value.reshape(STEPS, 1, size)

    given, hidden, out = (spikes(size, total) for size, total in zip(sizes, totals, strict=True))
    readout = out.sum(0, dtype=np.int64)
    meta = {"program_sha256": program_sha256(program), "engine": "made by hand"}
    populations = {"hidden_lif": hidden, "output_lif": out}
    return program, SpikeTrace({"input": given}, populations, {"classes": readout}, np.array([STEPS]), meta)


def placed(cores: int) -> Placement:
    """The hidden neurons over the cores of one tile, the output on the first."""
    core_of = {"hidden_lif": np.arange(512) * cores // 512, "output_lif": np.zeros(10, np.int64)}
    return Placement(core_of, np.zeros((cores, 2), np.int64), np.zeros(cores, np.int64))


def within(interval: Interval, low: float, high: float, slack: float) -> bool:
    """Whether all known bounds, in fJ, lie in published joules, but for rounding."""
    return all(low * 1e15 * (1 - slack) <= bound <= high * 1e15 * (1 + slack) for bound in interval.known)


def example_rows() -> Iterator[Row]:
    program, trace = example()
    one, four = (count(program, trace, placed(cores)) for cores in (1, 4))
    total = one.total
    found = (total.synops_stored, total.neuron_accesses, total.events_in + 25, total.synops_dense)
    yield Row(
        "784-512-10", "counts: synops, updates, spikes, dense slots", "1,016,320; 13,050; 3,265; 10,163,200",
        "; ".join(f"{number:,}" for number in found), "equal", found == (1_016_320, 13_050, 3_265, 10_163_200),
    )  # fmt: skip
    cases: list[tuple[str | PriceTable, Counts, str, float, float, str]] = [
        (synop_price("thrindex", 500), one, "0.51 uJ", 0.51e-6, 0.51e-6, ""),
        ("horowitz45-fp32", one, "0.91 uJ", 0.91e-6, 0.91e-6, ""),
        ("loihi1-davies2018", one, "24.7 to 25.0 uJ", 24.66e-6, 25.04e-6, ""),
        ("kerasspiking-loihi", one, "28.6 uJ", 28.6e-6, 28.6e-6, ""),
        ("spinnaker1", one, "13.9 mJ", 13.9e-3, 13.9e-3, ""),
    ]
    for name, counts, published, low, high, note in cases:
        (table,) = energy(counts, [name]).tables
        ours = table.dynamic.total
        ok = within(ours, low, high, 0.008)
        yield Row("784-512-10", table.prices.name + note, published, show(ours), "equal but for rounding", ok)
    (sanafe,) = energy(one, ["loihi1-sanafe2025"]).tables
    low, high = (synops(sanafe, price) for price in (33_600, 35_500))
    yield Row(
        "784-512-10", "loihi1-sanafe2025, sparse to dense, a message for each spike", "35.5 to 37.5 uJ",
        f"{joules(low, 1)} to {joules(high, 1)}", "equal but for rounding",
        within(Interval(low, None, high), 35.5e-6, 37.5e-6, 0.008),
    )  # fmt: skip
    for name, published, value in (
        ("horowitz45-fp32", "1.87 uJ", 1.87e-6),
        ("horowitz45-int8", "0.094 uJ", 0.094e-6),
        ("device-degnan-cpu", "3.5 mJ", 3.5e-3),
        ("device-degnan-gpu", "0.12 mJ", 0.12e-3),
    ):
        (table,) = energy(one, [name]).tables
        assert table.baseline is not None
        ok = within(table.baseline, value, value, 0.02)
        yield Row("784-512-10, one dense pass", name, published, show(table.baseline), "equal but for rounding", ok)
    yield from example_with_time(program, trace, four)


def example_with_time(program: LoihiProgram, trace: SpikeTrace, four: Counts) -> Iterator[Row]:
    assert four.traffic is not None
    messages = four.traffic.messages
    yield Row("784-512-10 on 4 cores", "messages", "9,120", f"{messages:,}", "equal", messages == 9_120)
    activity = count_cores(program, trace, placed(4))
    for name, published, low, high in (
        ("loihi1-sanafe2025", "107 uJ (104 mW x 25 x 41 us)", 107e-6, 107e-6),
        ("loihi2-scaled", "60 to 250 uJ (0.23 to 1.0 W x 0.25 ms)", 60e-6, 250e-6),
    ):
        (table,) = energy(four, [name], activity=activity).tables
        static, time = table.static_chips, table.latency
        assert static is not None
        assert time is not None
        ends = tuple(bound * 1e-15 for bound in static.known)
        ok = ends[0] <= high * 1.02 and ends[-1] >= low * 0.98
        ours = f"{show(static)}; {show(time.total, 's')}"
        yield Row("784-512-10 on 4 cores, static", name, published, ours, "intervals meet", ok)


def synop_price(name: str, price: int) -> PriceTable:
    """A table of one price, as a user's file would hold it."""
    term = {
        "low": price, "nominal": price, "high": price, "unit": "fJ", "grade": "assumed", "operating_point": None,
        "source": name, "note": None,
    }  # fmt: skip
    rest = {"step_time": {}, "barrier": [], "static": None, "cores_per_chip": None, "baseline": None, "unpriced": []}
    head = {"schema": 2, "name": name, "chip": "none", "basis": "events", "process_nm": None, "voltage": None}
    value = {**head, "domain": "one number of another tool", "source": name, "terms": {"synop": term}, **rest}
    return parse_prices(value, where=name)


def synops(table: object, price: int) -> int:
    """Total with one price for all synops, at the nominal of the others."""
    from lavatube.sim.energy import PricedCounts

    assert isinstance(table, PricedCounts)
    terms = table.dynamic.terms
    rest = sum(term.energy.nominal or 0 for name, term in terms.items() if name != "synop")
    return rest + price * terms["synop"].events


def frady_rows() -> Iterator[Row]:
    """Nearest-neighbour query of 76,800 patterns on 32 chips, 60 timesteps, 667 to 750 spikes: measured 1.33 mJ."""
    for name, price, published, share in (
        ("loihi1-davies2018", 23_600, "1.45 to 1.60 mJ (+9 to +20 %)", 0.25),
        ("loihi1-sanafe2025", 35_500, "2.05 to 2.28 mJ (+54 to +71 %)", 0.75),
    ):
        found = []
        for spikes in (667, 750):
            row = LayerCounts(synops_stored=spikes * 76_800, neuron_accesses=76_800 * 60)
            (table,) = energy(Counts({"search": row}, 1, 60, "published", graded_input=False), [name]).tables
            found.append(synops(table, price))
        over = [value / 1.33e12 - 1 for value in found]
        ours = f"{joules(found[0], 1)} to {joules(found[1], 1)} ({over[0]:+.0%} to {over[1]:+.0%})"
        ok = all(0 < value < share for value in over)
        gate = f"above the 1.33 mJ measured by at most {share:.0%}"
        yield Row("Frady 2020 query, 1.33 mJ measured", f"{name}, synop {price / 1000:g} pJ", published, ours, gate, ok)


def pilotnet_rows() -> Iterator[Row]:
    """The golden network of lava-dl on its golden image, 16 timesteps; measured on Loihi 2: 1.094 mJ dynamic."""
    case = "PilotNet on Loihi 2, 1.094 mJ dynamic measured"
    from lava_wheels import wheel

    from lavatube.deploy.net_file.read import lower_net
    from lavatube.sim.fast import run_fast

    try:
        gts = wheel("lava-dl==0.6.0", "tests/lava/lib/dl/netx/gts")
    except pytest.skip.Exception as reason:
        yield Row(case, "not run", "", str(reason))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.net"
        path.write_bytes(gts.bytes("pilotnet_lif/network.net"))
        program = lower_net(path, num_steps=16, reset_interval=16)
    image = gts.array("pilotnet_lif/image.npy").transpose(2, 1, 0)[None]
    trace = run_fast(program, make_inputs(image, program.input, default_steps=16))
    counts = count(program, trace)
    total = counts.total
    share = total.synops_stored / total.synops_dense
    yield Row(
        case, "counts: synops (share of dense), accesses, updates, spikes", "158.5 k neurons, 14.5 M dense synapses",
        f"{total.synops_stored:,} ({share:.2%}), {total.neuron_accesses:,}, {total.updates:,}, {total.spikes_out:,}; "
        f"{total.synops_dense // 16:,} dense synapses",
    )  # fmt: skip
    placement, reason = place(program)
    activity = None if placement is None else count_cores(program, trace, placement)
    if activity is None:
        yield Row(case, "not placed", "74 cores", reason)
    else:
        counts = replace(counts, traffic=activity.traffic)
        yield Row(case, "cores", "74", f"{activity.traffic.cores}; {activity.traffic.messages:,} messages")
    for name in ("loihi1-davies2018", "loihi1-sanafe2025", "loihi1-band", "loihi2-scaled"):
        (table,) = energy(counts, [name], activity=activity).tables
        ours = table.dynamic.total
        if table.latency is not None and table.static_chips is not None:
            text = f"{show(table.latency.total, 's')}; static {show(table.static_chips)}"
            yield Row("PilotNet, time and static", name, "2.44 ms at 409 samples/s; static 0.57 mJ", text)
        ratio = ", ".join(f"{bound / 1.094e12:.2f}" for bound in ours.known)
        gate, ok = "", None
        if name == "loihi2-scaled":
            assert ours.low is not None
            assert ours.high is not None
            gate, ok = "holds the measured value", ours.low <= 1.094e12 <= ours.high
        yield Row(case, name, "", f"{show(ours)} ({ratio} of the measured)", gate, ok)


def neurobench_rows() -> Iterator[Row]:
    """NeuroBench's own counts of the same spikes."""
    for case, (program, trace) in (
        ("784-512-10", example()),
        ("a strided, grouped, padded convolution", convolution()),
    ):
        ours = neurobench(count(program, trace))
        mine = float(ours.effective_acs), float(ours.effective_macs), float(ours.dense)
        try:
            other = neurobench_counts(program, trace)
        except ImportError as error:
            yield Row(f"NeuroBench, {case}", "not run", "", f"{operations(*mine)}; {error}")
            continue
        what = "its SynapticOperations on the same spikes"
        yield Row(f"NeuroBench, {case}", what, operations(*other), operations(*mine), "equal", mine == other)


def convolution() -> tuple[LoihiProgram, SpikeTrace]:
    """4 channels in 2 groups, half of the weights zero, a fifth of the pixels firing, 6 timesteps."""
    rng = np.random.default_rng(0)
    weight = (2 * rng.integers(-9, 10, (6, 2, 3, 3)) * rng.integers(0, 2, (6, 2, 3, 3))).astype(np.int16)
    conv = Conv2dNode("conv", (4, 9, 8), weight, 8, 0, (2, 2), (1, 1), groups=2)
    neuron = NeuronNode("lif", conv.out_shape, 4095, 0, 10, np.zeros(conv.out_shape, np.int16), 0)
    readout = ReadoutNode("o", np.zeros(neuron.bias_mant.size, np.int64), "spikes")
    nodes = (InputNode("input", (4, 9, 8), 1), conv, neuron, readout)
    program = LoihiProgram(nodes, tuple(pairwise(node.name for node in nodes)), 6, {}, overflow="hardware")
    events = (rng.random((6, 1, 4, 9, 8)) < 0.2).astype(np.int64)
    return program, run_reference(program, make_inputs(events, program.input, default_steps=6))


def sanafe_rows() -> Iterator[Row]:
    """SANA-FE's own counts: of spikes that it is given, and of a network whose neurons it runs itself."""
    from sanafe_network import charged_updates, sanafe_counts

    program, trace = example()
    strided, seen = convolution()
    own, fired = chain()
    placement, reason = place(own)
    assert placement is not None, reason
    cases = (
        ("784-512-10 on 4 cores, spikes given", program, trace, placed(4), True),
        ("a strided, grouped, padded convolution on 6 cores, spikes given", strided, seen, scattered(strided), True),
        (f"300-600-100 on the mapper's {len(placement.tile)} cores, its own neurons", own, fired, placement, False),
    )
    what = "its synapse hits; packets, of these from inputs; hops x, y; spikes"
    for case, network, spikes, cores, given in cases:
        counts = count(network, spikes, cores)
        traffic = counts.traffic
        assert traffic is not None
        ours = counts.total.synops_stored, traffic.messages, traffic.messages_host, traffic.hops_x, traffic.hops_y
        mine = tuple(map("{:,}".format, (*ours, counts.total.spikes_out)))
        try:
            found = sanafe_counts(network, spikes, cores, given=given)
        except ImportError as error:
            yield Row(f"SANA-FE, {case}", "not run", "", f"{'; '.join(mine)}; {error}")
            continue
        theirs = found.synapse_hits, found.packets, found.packets_of_inputs, *found.hops, found.fired
        texts = tuple(map("{:,}".format, theirs))
        yield Row(f"SANA-FE, {case}", what, "; ".join(texts), "; ".join(mine), "equal", texts == mine)
        if not given:
            charged = charged_updates(network, spikes)
            both = f"{counts.total.updates:,}; {charged:,} with those that hold a voltage"
            ok = found.updates == charged
            yield Row(f"SANA-FE, {case}", "neuron updates", f"{found.updates:,}", both, "equal in its definition", ok)


def scattered(program: LoihiProgram) -> Placement:
    """Neurons over six cores on five tiles, so that messages go both ways."""
    tiles = np.array([[0, 0], [0, 0], [1, 0], [1, 2], [2, 1], [0, 1]])
    core_of = {node.name: np.arange(node.bias_mant.size) % len(tiles) for node in program.neurons}
    return Placement(core_of, tiles, np.zeros(len(tiles), np.int64))


def chain() -> tuple[LoihiProgram, SpikeTrace]:
    """300-600-100 of neurons that keep their voltage and forget their current, a fifth of the inputs firing."""
    rng, sizes = np.random.default_rng(0), (300, 600, 100)
    nodes: list[InputNode | DenseNode | NeuronNode | ReadoutNode] = [InputNode("input", (300,), 1)]
    for number, (before, size) in enumerate(pairwise(sizes)):
        weight = (2 * rng.integers(-60, 64, (size, before))).astype(np.int16)
        nodes.append(DenseNode(f"dense{number}", (before,), weight, 8, 0))
        nodes.append(NeuronNode(f"lif{number}", (size,), 4095, 0, 900, np.zeros(size, np.int16), 0))
    nodes.append(ReadoutNode("classes", np.zeros(sizes[-1], np.int64), "spikes"))
    edges = tuple(pairwise(node.name for node in nodes))
    program = LoihiProgram(tuple(nodes), edges, STEPS, {}, overflow="hardware")  # no value of it overflows
    events = (rng.random((STEPS, 1, 300)) < 0.2).astype(np.uint8)
    inputs = make_inputs(events, program.input, default_steps=STEPS)
    return program, run_reference(program, inputs, record=frozenset("v"))


def operations(acs: float, macs: float, dense: float) -> str:
    return f"{acs:,.0f} ACs, {macs:,.0f} MACs, {dense:,.0f} dense"


def neurobench_counts(program: LoihiProgram, trace: SpikeTrace) -> tuple[float, float, float]:
    """Effective ACs, MACs and dense of its metric, over layers that are fed the trace's spikes step by step."""
    import torch
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    total = dict.fromkeys(("Effective_ACs", "Effective_MACs", "Dense"), 0.0)
    for synapse in program.synapses:
        source = program.source_of(synapse)
        sent = trace.spikes[source.name] if isinstance(source, NeuronNode) else trace.inputs[source.name]
        layer: torch.nn.Module
        if isinstance(synapse, Conv2dNode):
            channels, kernel = (synapse.in_shape[0], len(synapse.weight)), synapse.weight.shape[2:]
            shape = (synapse.stride, synapse.padding, synapse.dilation, synapse.groups)
            layer = torch.nn.Conv2d(*channels, kernel, *shape, bias=False)
        else:
            assert isinstance(synapse, DenseNode)
            layer = torch.nn.Linear(synapse.weight.shape[1], len(synapse.weight), bias=False)
        layer.weight.data = torch.tensor(synapse.weight, dtype=torch.float32)
        model = TorchModel(torch.nn.Sequential(layer))
        model.register_hooks()
        for events in sent:
            data = torch.tensor(events.reshape(1, *synapse.in_shape), dtype=torch.float32)
            found = SynapticOperations()(model, model(data), (data, None))
            model.reset_hooks()
            for name in total:
                total[name] += float(found[name])
    return total["Effective_ACs"], total["Effective_MACs"], total["Dense"]


def show(interval: Interval, unit: str = "J") -> str:
    """low .. high, or the one number."""
    known = interval.known
    if unit == "s":
        texts = [f"{known[0] * 1e-9:.3f}", f"{known[-1] * 1e-9:.3f} ms"]
    else:
        texts = [joules(known[0], 1), joules(known[-1], 1)]
    text = texts[1] if known[0] == known[-1] else " to ".join(texts)
    return text + (" or more" if interval.high is None else "")


def markdown(rows: list[Row]) -> str:
    """The table."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    return "\n".join([*lines, *("| " + " | ".join(row.cells()) + " |" for row in rows)]) + "\n"


def main() -> int:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="Markdown file for the table; default: print it.")
    args = parser.parse_args()
    rows = [*example_rows(), *frady_rows(), *neurobench_rows(), *sanafe_rows(), *pilotnet_rows()]
    text = markdown(rows)
    if args.out is None:
        print(text)
    else:
        with whole_file(args.out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return 1 if any(row.holds is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
