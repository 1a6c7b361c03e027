"""What `benchmarks/methods.py` compares: one small network, and for each arm what a recipe changes of it."""

from __future__ import annotations

from typing import Any

SMALL = [
    {"conv2d": {"channels": 16, "kernel": 3, "stride": 1, "padding": 1}},
    {"conv2d": {"channels": 32, "kernel": 3, "stride": 2, "padding": 1}},
    {"dense": {"units": 10}},
]
THREE = [
    {"conv2d": {"channels": 24, "kernel": 5, "stride": 2, "padding": 2}},
    {"conv2d": {"channels": 48, "kernel": 3, "stride": 1, "padding": 1}},
    {"conv2d": {"channels": 64, "kernel": 3, "stride": 2, "padding": 1}},
    {"dense": {"units": 10}},
]
WIDE = [{"dense": {"units": 256}}, {"dense": {"units": 256}}, {"dense": {"units": 10}}]
DEEP = [
    {"conv2d": {"channels": 12, "kernel": 3, "stride": 2, "padding": 1}},
    *[{"conv2d": {"channels": 12, "kernel": 3, "stride": 1, "padding": 1}}] * 15,
    {"dense": {"units": 10}},
]
LEAKY = {"decay": 0.5, "reset": "zero", "surrogate": {"kind": "sigmoid", "slope": 4.0}}
VANISHING = {"decay": 0.5, "surrogate": {"kind": "rectangular", "width": 3.0}}
INTEGRATE = {"decay": 1, "reset": "subtract"}
RECTIFIER = {
    "decay": 1, "output": "graded", "v_threshold": 1e-6, "surrogate": {"kind": "rectangular", "width": 1e-6},
}  # fmt: skip
RATE = {"kind": "rate", "form": "multi_step"}
SINGLE = {"kind": "rate", "form": "single_step"}
SELF = {"kind": "self_distillation", "form": "all", "alpha": 1.0, "beta": 0.3, "temperature": 3.0}
TAUGHT = {"teacher": True}  # by the arm `teacher` of the same data and seed
BINARY = {"kind": "binary", "per": "channel", "scale": "mean"}
GRADED = {"decay": 0.5, "output": "graded", "graded_max": 4.0, "payload_bits": 6, "surrogate": "rectangular"}
LEARNT = {"kind": "binary", "per": "layer", "scale": "learnt"}
COMPOSED = {"layers": THREE, "gradient": RATE, "extra": [SELF, {"kind": "bias_limit", "limit": 0.5}]}
ESL = {"kind": "esl", "density": 0.1, "update_every": 20}

# each: changes of a recipe, and `extra`, terms beside cross entropy
ARMS: dict[str, dict[str, Any]] = {
    "BPTT": {},
    "rate": {"gradient": RATE},
    "rate + self-distillation": {"gradient": RATE, "extra": [SELF]},
    "rate, single-step, per_step": {"gradient": SINGLE, "normalization": "per_step"},
    "rate, single-step, tse": {"gradient": SINGLE, "normalization": "tse"},
    "rate, single-step, tse + self-distillation": {"gradient": SINGLE, "normalization": "tse", "extra": [SELF]},
    "Dspike": {"neuron": {**LEAKY, "surrogate": "dspike"}},
    "DSR": {"neuron": {**INTEGRATE, "fire_at": 0.5}, "gradient": {"kind": "dsr", "thresholds": "trained"}},
    "local tandem": {
        "gradient": {"kind": "local_tandem", "form": "offline"}, "extra": [{"kind": "tandem", "weight": 10}],
        "neuron": {"decay": 0.9, "surrogate": {"kind": "rectangular", "width": 0.8}}, **TAUGHT,
    },
    "conversion": {
        "gradient": {"kind": "qcfs", "levels": 4},
        "neuron": {**INTEGRATE, "v_initial": 0.5, "output": "signed", "v_threshold_low": 0, "memory_gate": True},
    },
    "16 layers": {"layers": DEEP, "neuron": VANISHING},
    "16 layers + shortcut": {
        "layers": DEEP, "neuron": VANISHING, "extra": [{"kind": "shortcut", "schedule": "linear", "pooling": "none"}],
    },
    "teacher": {"neuron": RECTIFIER, "num_steps": 1},
    "KDSNN": {"extra": [{"kind": "kdsnn"}], **TAUGHT},
    "LaSNN": {"extra": [{"kind": "lasnn"}], **TAUGHT},
    "BKDSNN": {"extra": [{"kind": "bkdsnn"}], **TAUGHT},
    "binary": {"weight": BINARY},
    "SEI-BWSNN": {"weight": BINARY, "extra": [{"kind": "self_ensemble"}]},
    "sub-bit": {"weight": {"kind": "sub_bit", "index_bits": 5, "quantizer": "os"}},
    "ReverB": {"neuron": GRADED, "weight": LEARNT},
    "three dense layers": {"layers": WIDE},
    "three dense layers + ESL": {"layers": WIDE, "sparsity": ESL},
    "three dense layers + ESL + teacher": {
        "layers": WIDE, "sparsity": ESL, "extra": [{"kind": "kdsnn", "feature_weight": 0.0}], **TAUGHT,
    },
    "SCA": {"sparsity": {"kind": "sca", "keep": 0.5, "update_every": 20}},
    # three convolutions by the rate rule with self-distillation; binary: every layer, the read-out too
    "composed: binary": {**COMPOSED, "weight": {**BINARY, "layers": "all"}},
    "composed: ReverB": {**COMPOSED, "weight": {**LEARNT, "layers": "all"}, "neuron": GRADED},
    "composed: T = 2": {**COMPOSED, "num_steps": 2},
    "composed: T = 2, graded": {**COMPOSED, "num_steps": 2, "neuron": GRADED},
}  # fmt: skip

# the arm that each is compared with, where that is not BPTT; None: with none
BESIDE: dict[str, str | None] = {
    "rate + self-distillation": "rate",
    "rate, single-step, tse": "rate, single-step, per_step",
    "rate, single-step, tse + self-distillation": "rate, single-step, tse",
    "16 layers": None,
    "16 layers + shortcut": "16 layers",
    "teacher": None,
    "SEI-BWSNN": "binary",
    "three dense layers": None,
    "three dense layers + ESL": "three dense layers",
    "three dense layers + ESL + teacher": "three dense layers + ESL",
    "composed: binary": None,
    "composed: ReverB": None,
    "composed: T = 2": None,
    "composed: T = 2, graded": None,
}


def recipe(arm: str, data: str, seed: int, *, epochs: int, lr: float, teacher: str) -> dict[str, Any]:
    """A recipe of an arm. teacher: the run folder that teaches, where one does."""
    chosen = dict(ARMS[arm])
    layers, extra, taught = chosen.pop("layers", SMALL), chosen.pop("extra", []), chosen.pop("teacher", False)
    value = {
        "name": "methods", "seed": seed, "num_steps": 4, "data": {"name": data},
        "network": {"kind": "chain", "layers": layers}, "normalization": "pooled", "neuron": LEAKY, "gradient": "bptt",
        "objective": ["cross_entropy", *extra],
        "optimizer": {"name": "adam", "lr": lr, "epochs": epochs, "batch_size": 128, "schedule": "cosine"},
    }  # fmt: skip
    return {**value, **chosen, **({"teacher": {"kind": "run", "folder": teacher}} if taught else {})}
