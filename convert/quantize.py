"""Trained network -> QuantizedNetwork: fold, choose registers, fine-tune with the integer timestep as forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from lavatube.bounds import bound_layer
from lavatube.convert.fold import fold
from lavatube.convert.lossy import rounded_registers, rounding, snapped
from lavatube.convert.registers import ChosenLayer, choose_registers
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.files import require_writable, sha256_of_file
from lavatube.fixed_point import INT32_MAX
from lavatube.integer_layer import IntegerSynapse, synapse_node
from lavatube.program import Synapse
from lavatube.targets import OFFERS, refuse_needs
from lavatube.train.datasets.dataset import Split
from lavatube.train.device import torch_device
from lavatube.train.layout import INPUT
from lavatube.train.loop import evaluate
from lavatube.train.networks.build import load_network
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.neuron import NeuronSpec
from lavatube.train.quantized import QuantizedModule
from lavatube.train.recipe import Recipe, parse_recipe
from lavatube.train.samples import EncodedData, epoch_generator, prepare
from lavatube.train.through_integers import logits_through_time
from lavatube.trained import QuantizedNetwork, load_trained, save_quantized
from lavatube.weight_code import weight_code

FINE_TUNING_LR = 1e-3  # of Adam, on master weights whose largest integer is about 1
FIRST_EPOCH = 1_000_000  # randomness of fine-tuning: epochs that training never reaches


def quantize(
    source: Path | str,
    *,
    out: Path | str | None = None,
    weight_bits: int = 8,
    headroom: float = 0.85,
    epochs: int = 8,
    teach: str = "labels",
    data: str | None = None,
    target: str = "loihi2",
    device: str = "cpu",
    data_dir: Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> QuantizedNetwork:
    """Quantize a run folder; write quantized.safetensors to `out`, by default the same folder.

    weight_bits: 2..8, signed. headroom: share of the registers' proven range that is used before fine-tuning.
    epochs:      of fine-tuning; of those after which no register can overflow, the best by validation accuracy is kept
                 (0: rounding only).
    teach:       what fine-tuning learns: "labels", through all layers; or "float": each layer, for itself, the float
                 network's rates, the read-out its logits (local tandem learning, a calibration without labels; the best
                 epoch is the one that comes nearest on the validation samples).
    target:      "loihi1" keeps to weights of whole units of their population: of that chip it is not known whether it
                 rounds sums, as Lava does, or single weights, as Brian2Loihi says.
    raises:      LavatubeError for a folder that is not a finished run, or a finished `out` without overwrite;
                 UnsupportedError for a network that does not deploy, or registers that rounding made overflow.
    """
    if Path(source).is_file():
        raise UnsupportedError(
            "a run folder is fine-tuned here, not a file",
            where=str(source),
            expected="a run folder made by `lavatube train`",
            remedy="`lavatube quantize FILE.nir --contract NAME`, in Python `lavatube.quantize_float`",
        )
    folder = Path(out) if out is not None else Path(source)
    path = folder / "quantized.safetensors"
    if path.exists() and not overwrite:
        raise LavatubeError("already quantized", where=str(path), remedy="choose another folder, or give --overwrite")
    if epochs < 0:
        raise LavatubeError("epochs", where="quantize", expected="0 or more", got=str(epochs))
    if target not in OFFERS:
        raise LavatubeError("unknown target", where="quantize", expected=" or ".join(OFFERS), got=target)
    if teach not in ("labels", "float"):
        raise LavatubeError("teach", where="quantize", expected="labels or float", got=teach)
    require_writable(folder)
    trained = load_trained(Path(source))
    recipe = parse_recipe(dict(trained.recipe), where=str(source))
    if data is not None:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"name": data})})
    dataset = prepare(recipe, data_dir)
    network = load_network(trained, dataset.shape, dataset.classes)
    folded = fold(network, dataset.input_scale)
    refuse_needs(recipe.needs, target, of="network")
    choose = partial(
        choose_registers, folded, message_bits=dataset.message_bits, weight_bits=weight_bits,
        num_steps=recipe.num_steps, fractions="sums with fractions" in OFFERS[target],
    )  # fmt: skip
    chosen = choose(headroom=headroom)
    module = _module(chosen, recipe, dataset).to(torch_device(device))
    rounded = accuracy(module, dataset, dataset.dataset.validation)
    if found := overflow(module):
        smaller = (round(headroom * 0.8**power, 2) for power in range(1, 13))
        fits = (each for each in smaller if each > 0 and not overflow(_module(choose(headroom=each), recipe, dataset)))
        remedy = "--headroom " + f"{best:g}" if (best := next(fits, 0)) else "more --weight-bits"
        raise UnsupportedError(found, where="quantize", remedy=f"quantize with {remedy}")
    teacher = network.to(torch_device(device)) if teach == "float" else None
    best = _fine_tune(module, recipe, dataset, epochs, progress, teacher, rounded) if epochs else rounded
    quantized = QuantizedNetwork(
        recipe=recipe.model_dump(mode="json"),
        layout=module.layout,
        tensors={name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()},
        lossy=(*snapped(recipe), *rounded_registers(folded, module), *rounding(chosen, module, tuned=epochs > 0)),
        metrics={
            "float_test_accuracy": evaluate(network, dataset, dataset.dataset.test).accuracy,
            "rounded_validation_accuracy": rounded,
            "validation_accuracy": best,
            "test_accuracy": accuracy(module, dataset, dataset.dataset.test),
            "test_samples": len(dataset.dataset.test.label),
            "weight_bits": weight_bits,
            "bits_per_weight": bits_per_weight(module),
            "model_sha256": sha256_of_file(Path(source) / "model.safetensors"),
            "epochs": epochs,
            "teach": teach,
        },
    )
    save_quantized(quantized, path)
    return quantized


@torch.no_grad()
def accuracy(module: QuantizedModule, data: EncodedData, split: Split, batch_size: int = 500) -> float:
    """Accuracy in % of the integer network: read-out summed over the timesteps, the lowest class wins ties."""
    device = next(module.parameters()).device
    correct = 0
    for events, labels in data.batches(split, batch_size, device):
        readout = module.run(data.as_integers(events))[-1].activation.sum(0)
        correct += int((readout.argmax(-1) == labels).sum())
    return 100.0 * correct / len(split.label)


def _module(chosen: Sequence[ChosenLayer], recipe: Recipe, data: EncodedData) -> QuantizedModule:
    layout = {
        "num_steps": recipe.num_steps,
        "input": {"shape": list(data.shape), "message_bits": data.message_bits},
        "layers": [dict(layer.layout) for layer in chosen],
    }
    module = QuantizedModule(layout)
    for layer, values in zip(module.in_order(), chosen, strict=True):
        for synapse, weight in zip(layer.inbound(), values.weights, strict=True):
            synapse.set_master(weight)
        layer.bias.data.copy_(torch.tensor(values.bias))
    return module


def _fine_tune(
    module: QuantizedModule,
    recipe: Recipe,
    data: EncodedData,
    epochs: int,
    progress: Callable[[int, int, str], None] | None,
    teacher: SpikingNetwork | None,
    rounded: float,
) -> float:
    """Adam on the master weights, by their rates or, if recurrent, through time; keeps the best epoch in the module.

    Best on the validation split, whose accuracy in % it returns. teacher: the float network whose rates each layer
    learns; None: all layers learn the labels. rounded: the accuracy before.
    """
    recurrent = module.is_recurrent  # so there is no rate path
    optimizer = torch.optim.Adam(_groups(module))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    hold_zeros(module)
    logit_scale = module.layout["layers"][-1]["logit_scale"]
    device = next(module.parameters()).device
    spec, _ = recipe.neuron.firing_at_threshold()

    @torch.no_grad()
    def score() -> float:
        validation = data.dataset.validation
        if teacher is None:
            return accuracy(module, data, validation)
        parts = [
            float(distance(module, teacher, data, events, spec)) * len(labels)
            for events, labels in data.batches(validation, 500, device)
        ]
        return -sum(parts) / len(validation.label)

    best, what = (rounded, "accuracy") if teacher is None else (score(), "distance to the float network")
    for epoch in range(epochs):
        generator = epoch_generator(recipe.seed, FIRST_EPOCH + epoch)
        for events, labels in data.training_batches(recipe.data, recipe.optimizer.batch_size, generator, device):
            if teacher is None:
                inputs = data.as_integers(events)
                logits = (logits_through_time if recurrent else QuantizedModule.rate_logits)(module, inputs, spec)
                loss = F.cross_entropy(logits * logit_scale, labels)
            else:
                loss = distance(module, teacher, data, events, spec)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
        found, problem = score(), overflow(module)
        if found >= best and not problem:
            best, kept = found, {name: value.clone() for name, value in module.state_dict().items()}
        if progress is not None:
            note = f", not kept: {problem}" if problem else ""
            shown = f"{found:.1f} %" if teacher is None else f"{-found:.3g}"
            progress(epoch + 1, epochs, f"epoch {epoch + 1}/{epochs}, integer validation {what} {shown}{note}")
    module.load_state_dict(kept)
    return best if teacher is None else accuracy(module, data, data.dataset.validation)


def hold_zeros(module: QuantizedModule) -> None:
    """From now on a weight of exactly 0 stays it: training never reaches 0 by itself, so it is a pruned synapse.

    Adam without weight decay does not move what never had a gradient.
    """
    for layer in module.in_order():
        for synapse in layer.inbound():
            for weight in synapse.parameters():
                pruned = weight.detach() == 0
                weight.register_hook(lambda gradient, pruned=pruned: gradient.masked_fill(pruned, 0))  # type: ignore[no-untyped-call]


def distance(
    module: QuantizedModule, teacher: SpikingNetwork, data: EncodedData, events: torch.Tensor, spec: NeuronSpec
) -> torch.Tensor:
    """Sum over layers of the mean squared distance to the float network's rates and logits, in its units.

    events: a batch of `data`. spec: of the neurons of both, as in `QuantizedModule.rates`, whose gradients are local.
    """
    rates = module.rates(data.as_integers(events), spec, local=True)
    with torch.no_grad():
        lesson = teacher(data.as_floats(events))
    wanted = {name.replace(".", "_"): rate for name, rate in lesson.rates.items()}
    *populations, readout = module.in_order()
    ours = {layer.name: rates[layer.name] * layer.event(spec) for layer in populations}
    losses = [F.mse_loss(ours[name], rate) for name, rate in wanted.items()]
    logits = rates[readout.name] * readout.layout["logit_scale"]
    return torch.stack([*losses, F.mse_loss(logits, lesson.logits)]).sum()


def _groups(module: QuantizedModule) -> list[dict[str, Any]]:
    """Parameter groups with a learning rate in proportion to the largest weight that the integers can hold.

    Of a recurrent network: to the largest that there is. Where weights fill a tenth of their integers, the first epochs
    would otherwise undo what was trained (measured on spoken-digits: docs/training.md).
    """
    groups: list[dict[str, Any]] = []
    for layer in module.in_order():
        for synapse in layer.inbound():
            holds = synapse.layout["scale"] * 2 ** (synapse.layout["bits"] - 1)
            largest = float(synapse.master.abs().max()) if module.is_recurrent else holds
            groups.append({"params": list(synapse.parameters()), "lr": FINE_TUNING_LR * largest})
        largest = float(layer.bias.detach().abs().max()) if module.is_recurrent else 1.0
        groups.append({"params": [layer.bias], "lr": FINE_TUNING_LR * largest})
    return groups


def bits_per_weight(module: QuantizedModule) -> dict[str, float]:
    """By synapse, what its integers need where they are stored well; the chip stores what its program says."""
    synapses = [synapse for layer in module.integer_layers() for synapse in layer.synapses]
    codes = {synapse.node_name: weight_code(synapse.weight, synapse.num_weight_bits) for synapse in synapses}
    return {name: round(code.per_weight, 4) for name, code in codes.items()}


def overflow(module: QuantizedModule, num_steps: int | None = None) -> str:
    """What could overflow for some input within the encoding, in words; "" if nothing can.

    num_steps: without leak, a voltage has a bound for so many timesteps only; None: those of the layout.
    """
    num_steps = num_steps or int(module.layout["num_steps"])
    layers = module.integer_layers()
    targets = {layer.name: layer.neuron.node(layer.name, layer.out_shape) for layer in layers if layer.neuron}
    ranges = {INPUT: (0, module.max_input), **{name: node.event_range for name, node in targets.items()}}
    for layer in layers:
        if layer.neuron is None:
            largest = max(map(abs, layer.bias.tolist()))
            if largest > INT32_MAX:
                return f"{layer.name}: the read-out's bias is {largest}, at most {INT32_MAX} can be added"
            continue
        inbound: list[tuple[Synapse, tuple[int, int]]] = [
            (program_synapse(synapse), ranges[synapse.source]) for synapse in layer.synapses
        ]
        target = targets[layer.name]
        if found := bound_layer(target, inbound, num_steps).violations():
            return f"{layer.name}: {'; '.join(found)}"
    return ""


def program_synapse(synapse: IntegerSynapse) -> Synapse:
    """The node that a synapse will be in the program."""
    return synapse_node(
        synapse.name, synapse.kind, synapse.in_shape, synapse.weight, synapse.num_weight_bits, synapse.headroom,
        (synapse.stride, synapse.padding), synapse.pool,
    )  # fmt: skip
