"""Rules that an engine could follow instead of the definition: one table, in order of how often one meets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lavatube import fixed_point as fp
from lavatube.program import Conv2dNode, DenseNode, Synapse

Rounding = Literal["zero", "floor", "nearest"]
Weights = Callable[[Synapse], np.ndarray]


@dataclass(frozen=True)
class Rule:
    """A way to compute the step of a population or a read-out; the default is the definition of docs/program.md.

    key, says:   its name, and what an engine that follows it does.
    later:       steps by which the input comes late (negative: early).
    clip:        events are taken as their sign.
    weights:     the weights that are used instead.  without, twice: a synapse that is left out or counted twice.
    shift:       rounding of the right shift by weight_exp.  exponent: added to weight_exp.
    at_threshold, threshold: `>=` for `>`; weight units added to the threshold.
    reset:       "own": the node's. "late": after the next step. "shown": v is recorded before it is reset.
    round_u, round_v, du, dv: rounding of the decays; what is added to their constants.
                 threshold, du and dv may be arrays, [C] of C replays of one neuron.
    current, voltage: what happens to u and v beyond 24 bits.
    bias:        times that the bias is added.  onset: first step that has it.  biases: those that are used instead.
    refractory, v_initial: added steps of rest; whether the initial voltage is used.
    first, last: steps of the sample that a read-out does not add.
    wrap_sum:    the read-out's sum is kept in 32 bits.
    """

    key: str = "definition"
    says: str = "follows the program's definition"
    later: int = 0
    clip: bool = False
    weights: Weights | None = None
    without: str = ""
    twice: str = ""
    shift: Literal["floor", "zero"] = "floor"
    exponent: int = 0
    at_threshold: bool = False
    threshold: int | np.ndarray = 0
    reset: Literal["own", "zero", "subtract", "none", "late", "shown", "both"] = "own"
    round_u: Rounding = "zero"
    round_v: Rounding = "zero"
    du: int | np.ndarray = 0
    dv: int | np.ndarray = 0
    current: Literal["wrap", "saturate"] = "wrap"
    voltage: Literal["saturate", "wrap"] = "saturate"
    bias: int = 1
    biases: np.ndarray | None = None
    onset: int = 0
    bias_exponent: bool = True
    refractory: int = 0
    v_initial: bool = True
    first: int = 0
    last: int = 0
    wrap_sum: bool = False


DEFINITION = Rule()


def one_bit_less(synapse: Synapse, *, floor: bool) -> np.ndarray:
    """Weights on a grid twice as coarse, as if the format had one bit less."""
    _, _, grid = fp.weight_range(synapse.num_weight_bits, synapse.sign)
    weight = synapse.weight.astype(np.int64)
    coarse = 2 * grid
    return np.asarray(weight - weight % coarse if floor else np.sign(weight) * (np.abs(weight) // coarse * coarse))


def turned(synapse: Synapse) -> np.ndarray:
    """A kernel for a true convolution where the program means cross-correlation; a square matrix transposed."""
    weight = synapse.weight
    if isinstance(synapse, Conv2dNode):
        return weight[..., ::-1, ::-1]
    square = isinstance(synapse, DenseNode) and weight.shape[0] == weight.shape[1]
    return weight.T if square else weight


ALTERNATIVES: tuple[Rule, ...] = (
    Rule("comparator", "fires where v equals the threshold (>= instead of >)", at_threshold=True),
    Rule("threshold one higher", "compares with a threshold one weight unit higher", threshold=1),
    Rule("threshold one lower", "compares with a threshold one weight unit lower", threshold=-1),
    Rule("reset by subtraction", "subtracts the threshold at a spike instead of the program's reset", reset="subtract"),
    Rule("reset to zero", "sets v to zero at a spike instead of the program's reset", reset="zero"),
    Rule("no reset", "does not reset v at a spike", reset="none"),
    Rule("late reset", "resets v one timestep late, after the next integration", reset="late"),
    Rule("v before its reset", "records v before the reset; the spikes are the same", reset="shown"),
    Rule("reset of u", "resets the current u together with v at a spike", reset="both"),
    Rule("input one step late", "sees its input one timestep late", later=1),
    Rule("input one step early", "sees its input one timestep early", later=-1),
    Rule("decay of v rounded down", "rounds the leak of v down (floor) instead of toward zero", round_v="floor"),
    Rule("decay of u rounded down", "rounds the decay of u down (floor) instead of toward zero", round_u="floor"),
    Rule("both decays rounded down", "rounds both decays down (floor)", round_u="floor", round_v="floor"),
    Rule("decay of v rounded to nearest", "rounds the leak of v to the nearest integer", round_v="nearest"),
    Rule("decay of u rounded to nearest", "rounds the decay of u to the nearest integer", round_u="nearest"),
    Rule("dv one higher", "leaks v by dv + 1, as the chip does with du", dv=1),
    Rule("dv one lower", "leaks v by dv - 1", dv=-1),
    Rule("du without the chip's one", "decays u by du instead of du + 1", du=-1),
    Rule("du one higher", "decays u by du + 2 instead of du + 1", du=1),
    Rule("weights one bit shorter, down", "drops the lowest bit of each weight, rounding down",
         weights=lambda synapse: one_bit_less(synapse, floor=True)),
    Rule("weights one bit shorter, to zero", "drops the lowest bit of each weight, rounding toward zero",
         weights=lambda synapse: one_bit_less(synapse, floor=False)),
    Rule("weights turned", "uses kernels rotated by 180 degrees, or the transposed matrix", weights=turned),
    Rule("shift toward zero", "shifts sums by weight_exp rounding toward zero instead of down", shift="zero"),
    Rule("weight exponent one higher", "uses weight_exp + 1", exponent=1),
    Rule("weight exponent one lower", "uses weight_exp - 1", exponent=-1),
    Rule("events as bits", "takes graded events as 0 or 1 (or -1)", clip=True),
    Rule("u saturates", "saturates u at 24 bits instead of wrapping it", current="saturate"),
    Rule("v wraps", "wraps v at 24 bits instead of saturating it", voltage="wrap"),
    Rule("missing bias", "does not add the bias", bias=0),
    Rule("doubled bias", "adds the bias twice", bias=2),
    Rule("bias of the other sign", "subtracts the bias", bias=-1),
    Rule("bias one step late", "adds the bias from the second timestep on", onset=1),
    Rule("bias without exponent", "adds the bias mantissa, not shifted by its exponent", bias_exponent=False),
    Rule("one more step of rest", "rests one timestep longer after a spike", refractory=1),
    Rule("one step of rest less", "rests one timestep less after a spike", refractory=-1),
    Rule("no initial voltage", "starts at v = 0 instead of the initial voltage", v_initial=False),
)  # fmt: skip

OF_READOUTS: tuple[Rule, ...] = (
    Rule("first step not read", "does not add the first timestep to the read-out", first=1),
    Rule("last step not read", "does not add the last timestep to the read-out", last=1),
    Rule("read-out in 32 bits", "keeps the read-out's sum in 32 bits", wrap_sum=True),
)
