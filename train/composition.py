"""Which methods go together, as data: pairs with the reason. A pair that no row names is of independent points.

The neuron is no method, but has its rows too. source: the papers of the methods; `tests/train/test_composition.py`
trains and exports every allowed pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from lavatube.train.extension_points import ESTIMATORS
from lavatube.train.recipe_model import Strict, kind_of

Chosen = tuple[str, Strict]  # extension point and method, or "neuron" and its settings


@dataclass(frozen=True)
class Rule:
    """Two selectors, in either order: "POINT/KIND", "POINT/*" for every kind, "POINT/KIND SETTING=VALUE ...".

    Of neurons: "neuron", "neuron SETTING=VALUE ...".
    """

    first: str
    second: str
    allowed: bool
    reason: str


@dataclass(frozen=True)
class Need:
    """A method that does nothing, or not what it is for, unless one of the others is chosen too."""

    first: str
    others: tuple[str, ...]
    reason: str


NEEDS: tuple[Need, ...] = (
    Need(
        "gradient/local_tandem", ("objective/tandem",),
        "only a term on the rates of populations trains the layers before the read-out; add tandem to the objective",
    ),
)  # fmt: skip

WAITING = [kind_of(row) for row in ESTIMATORS if not row.online]
VARYING = [kind_of(row) for row in ESTIMATORS if not row.constant]
AVERAGES = "a recurrent network cannot be trained on time averages; use gradient bptt, or online"
RULES: tuple[Rule, ...] = (
    Rule("objective/*", "objective/*", True, "one forward feeds every term; heads are outside the network"),
    Rule("sparsity/*", "objective/*", True, "channels are masked in place until finalize: taps keep their shapes"),
    Rule("sparsity/*", "gradient/*", True, "masks are parametrizations: every rule trains through them"),
    Rule("weight/*", "objective/*", True, "terms see the network's outputs, whatever its weights are made of"),
    Rule("weight/*", "gradient/*", True, "latent weights are parametrizations: every rule trains through them"),
    Rule("weight/*", "sparsity/*", True, "the mask comes last: binary weights become -a, 0 and a; channels go whole"),
    Rule(
        "weight/sub_bit", "sparsity/esl", False,
        "its codebook has whole kernels, and one with pruned weights is not in it; use sca",
    ),
    Rule(
        "weight/sub_bit", "network/recurrent", False, "its codewords are kernels of convolutions; use weight binary",
    ),
    Rule(
        "gradient/dsr", "surrogate/dspike", False,
        "dsr takes its gradient from a clamp, so dspike would adapt for nothing; leave the surrogate out",
    ),
    Rule(
        "gradient/qcfs", "surrogate/dspike", False,
        "training never spikes, so dspike would adapt for nothing; leave the surrogate out",
    ),
    *(
        Rule(
            f"gradient/{rule} thresholds=trained", f"network/{network}", False,
            "thresholds that train need a layer's weights behind every population; set thresholds: fixed",
        )
        for rule in ("dsr", "qcfs")
        for network in ("resnet", "sew_resnet", "preact_resnet", "bireal_resnet")
    ),
    Rule("neuron output=graded", "objective/*", True, "terms see what is emitted: values in the place of spikes"),
    *(
        Rule(
            f"gradient/{rule}", "neuron output=graded", False,
            "it models a mean of spikes that are all alike; use output: binary, or bptt, rate, online or local_tandem",
        )
        for rule in ("dsr", "qcfs")
    ),
    Rule("gradient/dsr", "neuron output=signed", False, "its clamp has no side below 0; use output: binary, or qcfs"),
    *(
        Rule(
            f"gradient/{rule}", "neuron reset=zero", False,
            "a reset to zero forgets what the mean input has too much; set neuron.reset: subtract",
        )
        for rule in ("dsr", "qcfs")
    ),
    Rule("gradient/dsr", "network/recurrent", False, AVERAGES),
    Rule("gradient/qcfs", "network/recurrent", False, AVERAGES),
    *(
        Rule(
            "objective/self_ensemble", f"gradient/{rule}", False,
            "its members are the timesteps of the read-out, of which only bptt keeps the gradients",
        )
        for rule in ("rate", "online", "dsr", "qcfs")
    ),
    *(
        Rule(
            "objective/mpfd", f"gradient/{rule}", False,
            "it learns from voltages, of which only bptt and local_tandem (form: offline) keep the gradients",
        )
        for rule in ("rate", "online", "dsr", "qcfs", "local_tandem form=online")
    ),
    Rule(
        "objective/self_ensemble", "gradient/local_tandem form=online", False,
        "its members are timesteps, and form online shows one at a time; use form: offline, or bptt",
    ),
    *(
        Rule(
            f"objective/{term}", "gradient/local_tandem", False,
            "it learns from stages, and only rates of populations carry a gradient here; leave it out, or use bptt",
        )
        for term in ("self_distillation", "shortcut", "kdsnn", "lasnn", "bkdsnn")
    ),
    Rule(
        "sparsity/sca", "network/bireal_resnet", False,
        "shortcuts around every convolution tie all channels; use a chain, vgg or resnet",
    ),
    *(
        Rule(
            f"gradient/{rule}", f"normalization/{waits}", False,
            f"{waits} needs all timesteps at once, and this rule has one; use tse, causal, per_step or running",
        )
        for rule in ("online", "rate form=single_step", "local_tandem form=online")
        for waits in WAITING
    ),
    Rule("gradient/rate", "network/recurrent", False, AVERAGES),
    *(
        Rule(
            f"gradient/{rule}", f"normalization/{varying}", False,
            "a clamp of means needs one mean and variance for all timesteps; use pooled or running",
        )
        for rule in ("dsr", "qcfs")
        for varying in VARYING
    ),
    Rule(
        "objective/lasnn", "network/recurrent", False,
        "attention is over places, and its layers have none; use kdsnn with feature_weight: 0",
    ),
    Rule(
        "sparsity/sca", "network/recurrent", False,
        "feedback ties every channel to itself, so none can go alone; use esl",
    ),
    Rule(
        "sparsity/sca", "network/sew_resnet", False,
        "sums of spikes tie the channels of its blocks; use a chain, vgg or resnet",
    ),
    Rule(
        "sparsity/sca", "network/preact_resnet", False,
        "currents that pass from block to block tie their channels; use a chain, vgg or resnet",
    ),
)  # fmt: skip


def matches(selector: str, chosen: Chosen) -> bool:
    """Whether a selector of the table means this choice."""
    (place, *settings), (point, method) = selector.split(), chosen
    wanted = dict(setting.split("=") for setting in settings)
    kind = getattr(method, "kind", None)
    return place in ((point,) if kind is None else (f"{point}/*", f"{point}/{kind}")) and all(
        str(getattr(method, name)) == value for name, value in wanted.items()
    )


def rules_of(a: Chosen, b: Chosen) -> list[Rule]:
    """What the table says of a pair, refusals first."""
    found = [
        rule
        for rule in RULES
        if (matches(rule.first, a) and matches(rule.second, b)) or (matches(rule.first, b) and matches(rule.second, a))
    ]
    return sorted(found, key=lambda rule: rule.allowed)


def refusal(methods: Sequence[Chosen]) -> str:
    """The first pair that does not go together, or what is missing, and why, in words; "" if all is well."""
    for a, b in combinations(methods, 2):
        for rule in rules_of(a, b)[:1]:
            if not rule.allowed:
                first, second = (_words(each, rule) for each in (a, b))
                return f"{first} does not go with {second}: {rule.reason}"
    for need in NEEDS:
        for method in methods:
            if matches(need.first, method) and not any(
                matches(other, each) for other in need.others for each in methods
            ):
                return f"{_words(method)} does not go alone: {need.reason}"
    return ""


def _words(chosen: Chosen, rule: Rule | None = None) -> str:
    """A choice by its name; the neuron, which has none, by the settings that a rule is about."""
    point, method = chosen
    if (kind := getattr(method, "kind", None)) is not None:
        return f"{point} {kind}"
    selectors = () if rule is None else (rule.first, rule.second)
    settings = next((each.split()[1:] for each in selectors if matches(each, chosen)), [])
    return f"a {point} with " + " and ".join(setting.replace("=", " ") for setting in settings)
