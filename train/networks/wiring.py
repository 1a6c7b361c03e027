"""What drives what in a network, found by one symbolic forward: populations and read-out, each with its synapses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import nn

from lavatube.errors import UnsupportedError
from lavatube.train.layout import INPUT
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.networks.pooling import SpikePool
from lavatube.train.networks.spiking_layer import SpikingLayer
from lavatube.train.neuron import NeuronSpec
from lavatube.train.norms.time_stat import TimeStatNorm
from lavatube.train.passes.base import Linear, Neurons, Pass
from lavatube.train.seq import Seq


@dataclass(frozen=True)
class Connection:
    """A synapse. source: name of the population whose spikes it carries, or "input"; pool: what they pass first.

    layer: what computes its current: a layer (with its norm), the weights of a feedback, or None: the spike itself.
    """

    name: str
    source: str
    layer: SpikingLayer | nn.Linear | None
    pool: SpikePool | None = None


@dataclass(frozen=True)
class Drive:
    """A population, or the read-out (spec None), and the connections whose currents it adds up."""

    name: str
    spec: NeuronSpec | None
    connections: tuple[Connection, ...]


@dataclass(frozen=True)
class Wire(Seq):
    """In place of a Seq: the spikes of a population, pooled perhaps, or a sum of currents."""

    steps: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    events: str = ""
    pool: SpikePool | None = None
    currents: tuple[Connection, ...] = ()

    def full_precision(self) -> Seq:
        return self

    def as_currents(self) -> tuple[Connection, ...]:
        """Spikes that are added to a current count as a current of 1."""
        return (Connection("", self.events, None, self.pool),) if self.events else self.currents


class Wiring(Pass):
    """Records connections instead of computing. raises: UnsupportedError, naming the module, for what is no synapse."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names, self.drives = names, list[Drive]()

    def begin(self, steps: torch.Tensor) -> Seq:
        return Wire(events=INPUT)

    def linear(self, module: Linear, x: Seq) -> Seq:
        owner = getattr(module, "__self__", module)
        assert isinstance(x, Wire)
        if isinstance(owner, SpikePool) and x.events and x.pool is None:
            return Wire(events=x.events, pool=owner)
        if not isinstance(owner, SpikingLayer) or not x.events or (x.pool is not None and owner.pool is not None):
            what = f"{type(owner).__name__} between layers" if not isinstance(owner, SpikingLayer) else "no spikes"
            raise UnsupportedError(f"{what} cannot be a synapse", where=self.names.get(id(owner), "network"))
        return Wire(currents=(Connection(self.names[id(owner)], x.events, owner, x.pool or owner.pool),))

    def norm(self, norm: TimeStatNorm, x: Seq) -> Seq:
        assert isinstance(x, Wire)
        layers = [each.layer for each in x.currents]
        if len(layers) != 1 or not isinstance(layers[0], SpikingLayer) or layers[0].norm is not norm:
            raise UnsupportedError("a normalisation of a sum cannot be folded", where=norm.name)
        return x

    def neurons(self, population: Neurons, x: Seq) -> Seq:
        assert isinstance(x, Wire)
        return self._drive(population, x.as_currents())

    def recurrent(self, feedback: nn.Module, population: Neurons, x: Seq) -> Seq:
        assert isinstance(x, Wire)
        assert isinstance(feedback, nn.Linear)
        again = Connection(self.names[id(feedback)], _node_name(population.name), feedback)
        return self._drive(population, (*x.as_currents(), again))

    def add(self, a: Seq, b: Seq) -> Seq:
        assert isinstance(a, Wire)
        assert isinstance(b, Wire)
        if a.events and b.events:
            raise UnsupportedError("a sum of spikes is no spike", where=f"{a.events} + {b.events}")
        return Wire(currents=(*a.as_currents(), *b.as_currents()))

    def tap(self, name: str, x: Seq) -> None:
        pass

    def _drive(self, population: Neurons, connections: tuple[Connection, ...]) -> Wire:
        name = _node_name(population.name)
        named = tuple(each if each.name else replace(each, name=f"{name}_identity") for each in connections)
        self.drives.append(Drive(name, population.spec, named))
        return Wire(events=name)


def wiring(network: SpikingNetwork) -> list[Drive]:
    """Populations in order of execution, and the read-out, which is named as its one layer.

    raises: UnsupportedError naming what in the network is not made of synapses and populations.
    """
    run = Wiring({id(module): _node_name(name) for name, module in network.named_modules()})
    readout = network.body(run.begin(torch.empty(0)), run)
    assert isinstance(readout, Wire)
    if len(readout.currents) != 1:
        raise UnsupportedError("a read-out of several synapses", where="network", got=str(len(readout.currents)))
    return [*run.drives, Drive(readout.currents[0].name, None, readout.currents)]


def _node_name(name: str) -> str:
    """A module's name as that of a node: PyTorch and NIR have no dots in theirs."""
    return name.replace(".", "_")
