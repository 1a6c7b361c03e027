"""Which methods go together, as data: pairs with the reason. A pair that no row names is of independent points.

source: specs of the methods; `tests/train/test_methods.py` trains, finalizes and exports every pair that is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from lavatube.train.plugin import Plugin

Chosen = tuple[str, Plugin]  # extension point, method


@dataclass(frozen=True)
class Rule:
    """Two selectors, in either order: "POINT/KIND", "POINT/*" for every kind, "POINT/KIND SETTING=VALUE ..."."""

    first: str
    second: str
    allowed: bool
    reason: str


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
    Rule("gradient/dsr", "network/recurrent", False, AVERAGES),
    Rule("gradient/qcfs", "network/recurrent", False, AVERAGES),
    *(
        Rule(
            "objective/self_ensemble", f"gradient/{rule}", False,
            "its members are the timesteps of the read-out, of which only bptt keeps the gradients",
        )
        for rule in ("rate", "online", "dsr", "qcfs")
    ),
    Rule(
        "sparsity/sca", "network/bireal_resnet", False,
        "shortcuts around every convolution tie all channels; use a chain, vgg or resnet",
    ),
    Rule(
        "gradient/online", "normalization/pooled", False,
        "pooled needs all timesteps at once, online has one; use tse, causal, per_step or running",
    ),
    Rule(
        "gradient/rate form=single_step", "normalization/pooled", False,
        "pooled needs all timesteps at once, form single_step has one; use tse, causal, per_step or running",
    ),
    Rule("gradient/rate", "network/recurrent", False, AVERAGES),
    *(
        Rule(
            f"gradient/{rule}", f"normalization/{estimator}", False,
            "a clamp of means needs one mean and variance for all timesteps; use pooled or running",
        )
        for rule in ("dsr", "qcfs")
        for estimator in ("causal", "per_step", "tse")
    ),
    Rule(
        "gradient/local_tandem form=online", "normalization/pooled", False,
        "pooled needs all timesteps at once, form online has one; use tse, causal, per_step or running",
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
    return place in (f"{point}/*", f"{point}/{method.kind}") and all(
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
    """The first pair that does not go together, and why, in words; "" if all do."""
    for a, b in combinations(methods, 2):
        for rule in rules_of(a, b)[:1]:
            if not rule.allowed:
                return f"{a[0]} {a[1].kind} does not go with {b[0]} {b[1].kind}: {rule.reason}"
    return ""
