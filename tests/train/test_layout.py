"""A quantized layout from a file is refused by field and rule, whatever was changed in it."""

from __future__ import annotations

import copy

import pytest

from lavatube.errors import LavatubeError
from lavatube.train.layout import check_layout

LAYOUT = {
    "num_steps": 8,
    "input": {"shape": [1, 8, 8], "message_bits": 8},
    "layers": [
        {
            "name": "layer1", "out_shape": [4, 4, 4], "neuron": {"du": 4095, "dv": 2048, "vth": 9000, "bias_exp": 7},
            "synapses": [
                {
                    "name": "layer1", "source": "input", "kind": "conv2d", "in_shape": [1, 8, 8], "kernel": [3, 3],
                    "stride": [2, 2], "padding": [1, 1], "bits": 8, "headroom": 0, "scale": 2.0**-7,
                },
                {
                    "name": "again", "source": "layer1", "kind": "scale", "in_shape": [4, 4, 4], "bits": 8,
                    "headroom": 1, "scale": 2.0**-6,
                },
            ],
        },
        {
            "name": "layer2", "out_shape": [10], "neuron": None, "logit_scale": 0.5,
            "synapses": [
                {
                    "name": "layer2", "source": "layer1", "kind": "dense", "in_shape": [4, 4, 4], "pool": [2, 2],
                    "bits": 8, "headroom": 0, "scale": 2.0**-7,
                },
            ],
        },
    ],
}  # fmt: skip


def places(value, path=()):
    """Every path into nested dicts and lists."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*path, key)
        yield from places(value[key], (*path, key))


def test_a_right_layout_passes():
    assert check_layout(LAYOUT)["layers"][1]["name"] == "layer2"


@pytest.mark.parametrize(("bits", "least"), [(8, -7), (4, -3), (2, -1)])
def test_a_headroom_goes_down_to_the_chips_lowest_weight_exponent(bits, least):
    layout = copy.deepcopy(LAYOUT)
    (synapse,) = layout["layers"][1]["synapses"]
    synapse |= {"bits": bits, "headroom": least}
    assert bits - 9 + check_layout(layout)["layers"][1]["synapses"][0]["headroom"] == -8
    synapse["headroom"] = least - 1
    with pytest.raises(LavatubeError, match=f"headroom {least - 1} of {bits} bits|greater than or equal to -7"):
        check_layout(layout)


@pytest.mark.parametrize("path", list(places(LAYOUT)), ids=lambda path: ".".join(map(str, path)))
@pytest.mark.parametrize("value", ["x", -1, {}, 1e30])
def test_any_changed_field_is_refused(path, value):
    layout = copy.deepcopy(LAYOUT)
    inner = layout
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    if (path[-1], value) in [("logit_scale", 1e30), ("name", "x")] and path[:3] != ("layers", 0, "name"):
        return  # odd, not wrong
    if (path[1:2], path[-1], value) == ((1,), "headroom", -1):
        return  # odd, not wrong
    with pytest.raises(LavatubeError, match="layout field"):
        check_layout(layout)
