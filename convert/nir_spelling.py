"""How a NIR file has to be spelled so that others read what was meant; the evidence is in docs/nir.md."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping, Sequence

import nir
import numpy as np

from lavatube.contract import LOIHI
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.fixed_point import CURRENT_DECAY_OFFSET, DECAY_ONE
from lavatube.program import Shape

DENSE_MAX = 1 << 27  # weights of a node that is written out with zeros: 1 GiB
Edge = tuple[str, str]


def portable_names(order: Sequence[str], edges: Iterable[Edge], *, ends: bool = True) -> dict[str, str]:
    """{name: name in the file} of nodes in order of execution; ends: one input, which is first, one output, the last.

    HDF5 and nirtorch go by the alphabet, so no edge but a recurrent one may lead back in it; `.` becomes `_` there, and
    Python's own words change. Where that is not so, the names get their place in the order in front. The ends are
    `input` and `output`, which some readers look for.
    """
    place = {name: index for index, name in enumerate(order)}
    rises = all(a < b for a, b in edges if place[a] < place[b])
    plain = all(re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) and not keyword.iskeyword(name) for name in order)
    if rises and plain and (not ends or (order[0], order[-1]) == ("input", "output")):
        return {name: name for name in order}
    width = len(str(len(order)))
    numbered = {name: f"n{index:0{width}d}_{re.sub(r'[^0-9A-Za-z]', '_', name)}" for name, index in place.items()}
    return {**numbered, order[0]: "input", order[-1]: "output"} if ends else numbered


def cuba_lif(shape: Shape, du: int, dv: int, threshold: float, dt: float = LOIHI.dt) -> nir.CubaLIF | nir.IF:
    """Neurons of one threshold, as a float in the unit of the weights. dt: a timestep in seconds.

    A plain LIF is a CubaLIF with tau_syn = dt, w_in = 1, r = tau_mem / dt: what Norse, snnTorch and SpikingJelly read
    alike. One without leak is an IF with r = 1 / dt, which snnTorch does not read.
    raises: UnsupportedError for a stored current without leak, which would need an infinite time constant.
    """
    full, keeps = np.ones(shape), DECAY_ONE - CURRENT_DECAY_OFFSET - du
    if dv == 0 and keeps:
        what, remedy = "a stored current and no leak", "NIR would need an infinite tau_mem"
        raise UnsupportedError(what, expected="du = 4095, or dv > 0", got=f"du = {du}, dv = 0", remedy=remedy)
    if dv == 0:
        return nir.IF(r=full / dt, v_threshold=full * threshold, v_reset=full * 0)
    tau_mem, ratio = dt * DECAY_ONE / dv, DECAY_ONE / (du + CURRENT_DECAY_OFFSET)
    return nir.CubaLIF(
        tau_syn=full * (dt * ratio), tau_mem=full * tau_mem, r=full * (tau_mem / dt), v_leak=full * 0,
        v_threshold=full * threshold, v_reset=full * 0, w_in=full * ratio,
    )  # fmt: skip


def conv2d(
    in_shape: Shape, weight: np.ndarray, bias: np.ndarray, stride: tuple[int, int], padding: tuple[int, int],
    dilation: tuple[int, int] = (1, 1), *, where: str = "",
) -> nir.Conv2d:  # fmt: skip
    """weight: [O, I, h, w] float64; groups are written out (`ungrouped`), as SpikingJelly reads none.

    nir 1.0.8 infers the shape of a square kernel only: zeros and padding make one of what is not.
    raises: UnsupportedError where that would need more padding on one side than on the other.
    """
    rows, columns = weight.shape[2:]
    more, axis = abs(rows - columns), 2 if rows < columns else 3
    if more:
        step = dilation[axis - 2] * more
        if more % 2 or dilation[0] != dilation[1]:
            expected, got = "a square kernel, or one longer by an even number", f"{rows} x {columns}"
            raise UnsupportedError("nir infers another shape for this kernel", where=where, expected=expected, got=got)
        sides = [(0, 0)] * 4
        sides[axis] = (more // 2, more // 2)
        weight = np.pad(weight, sides)
        padding = (padding[0] + (axis == 2) * step // 2, padding[1] + (axis == 3) * step // 2)
    return nir.Conv2d(
        input_shape=(in_shape[1], in_shape[2]), weight=weight, stride=stride, padding=padding,
        dilation=1 if dilation == (1, 1) else dilation, groups=1, bias=bias,
    )  # fmt: skip


def ungrouped(weight: np.ndarray, groups: int, *, where: str = "") -> np.ndarray:
    """[O, I / groups, ...] as [O, I, ...] with zeros between the groups. raises: UnsupportedError if that is huge."""
    outputs, inputs = weight.shape[:2]
    if weight.size * groups > DENSE_MAX:
        expected = f"at most {DENSE_MAX} weights with the zeros between groups"
        raise UnsupportedError("a grouped convolution", where=where, expected=expected, got=f"{weight.size * groups}")
    full = np.zeros((outputs, inputs * groups, *weight.shape[2:]), weight.dtype)
    for group, rows in enumerate(np.split(np.arange(outputs), groups)):
        full[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return full


def per_channel(
    factors: np.ndarray, shape: Shape, bias: np.ndarray | None = None
) -> nir.Conv1d | nir.Conv2d | nir.Affine:
    """One factor per channel, as weights on a diagonal: nobody reads nir.Scale. factors, bias: [C] float64."""
    weight, bias = np.diag(factors), np.zeros(len(factors)) if bias is None else bias
    if len(shape) == 1:
        return nir.Affine(weight=weight, bias=bias)
    if len(shape) == 2:
        return nir.Conv1d(shape[1], weight[:, :, None], 1, 0, 1, 1, bias)
    return conv2d(shape, weight[:, :, None, None], bias, (1, 1), (0, 0))


def back_to_scale(node: nir.Conv2d | nir.Affine, shape: Shape) -> nir.Scale:
    """What `per_channel` wrote, as nir.Scale. raises: UnsupportedError for weights beside the diagonal."""
    weight = np.asarray(node.weight, np.float64)
    matrix = weight.reshape(weight.shape[:2])
    if np.any(matrix - np.diag(np.diag(matrix))) or np.any(node.bias):
        raise UnsupportedError("not one factor per channel", expected="a diagonal without a bias")
    factors = np.diag(matrix).reshape(-1, *(1,) * (len(shape) - 1))
    return nir.Scale(scale=np.broadcast_to(factors, shape).copy())


def flatten(shape: Shape) -> nir.Flatten:
    """All axes. Counted from the end, they are the same with and without a batch: Norse and snnTorch do not shift."""
    return nir.Flatten(input_type={"input": np.array(shape)}, start_dim=-len(shape), end_dim=-1)


def known_keys(row: Mapping[str, object]) -> dict[str, object]:
    """The key names of the published Brevitas-to-NIR example, for its readers, and what they leave unsaid."""
    if "zero_point" not in row:
        return {}
    return {
        "quant_weight": True,
        "quant_weight_scale": row["scale"],
        "quant_weight_zero_point": 0,
        "quant_weight_bit_width": row["bits"],
        "quant_weight_signed": row["signed"],
        "quant_weight_axis": "none",
        "quant_weight_rounding": row["rounding"],
        "quant_bias": True,
        "quant_bias_scale": row["bias_scale"],
        "quant_bias_zero_point": 0,
    }


def refuse_other_keys(stated: Mapping[str, object], wanted: Mapping[str, object], *, where: str) -> None:
    """Compare what others read of a node's quantization with the integers that a program is made of.

    stated: the node's metadata; wanted: `known_keys` of its integers. A key that is not there says nothing wrong.
    raises: LavatubeError naming the key.
    """
    for key, want in wanted.items():
        got = stated.get(key, want)
        value = got.item() if isinstance(got, (np.generic, np.ndarray)) and got.size == 1 else got
        value = value.decode(errors="replace") if isinstance(value, bytes) else value
        if not isinstance(value, (bool, int, float, str)) or value != want:
            raise LavatubeError(
                f"{key} contradicts the integers in the metadata", where=where, expected=str(want), got=str(value)[:60],
                remedy="export again, or remove the key",
            )  # fmt: skip
