"""Which .net files are refused: what has no exact place in a program, what contradicts itself, what strangers send."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from net_blocks import NEURON, K, W, conv, dense, net_file

from lavatube.cli.app import invoke
from lavatube.deploy.net_file.read import lower_net
from lavatube.errors import LavatubeError, UnsupportedError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.net"


def changed(block, **change):
    return {name: value for name, value in {**block, **change}.items() if value is not None}


REFUSED = [
    *(([changed(dense(W), type=kind)], f"block type '{kind}'") for kind in ("pool", "convT", "unpool", "concat")),
    ([{"type": "dense_comp", "shape": [1]}], "resonate-and-fire"),
    ([changed(dense(W), weight=None) | {"weight/real": W, "weight/imag": W}], "complex weights"),
    *(([dense(W, **{"neuron/type": kind})], f"neuron type '{kind}'") for kind in ("SDNN", "ALIF", "RF_PHASE")),
    ([dense(W, **{"neuron/gradedSpike": True})], "neuron/gradedSpike"),
    ([dense(W, **{"neuron/weight_exp": 2})], "neuron/weight_exp"),
    ([dense(W, **{"neuron/wgtExp": 1})], "neuron/wgtExp"),
    ([dense(W, **{"neuron/threshold_step": 1})], "unknown field of a neuron"),
    ([dense(W, **{"neuron/vDecay": [1, 2]})], "differs between neurons"),
    ([dense(W, momentum=1)], "unknown field of a dense block"),
    ([changed(dense(W), type="dense_rec", weight_rec=[[2]], delay=[1])], "delays in a recurrent block"),
    ([{"type": "input", "shape": [1, 3, 3]}, conv(K, [2, 2, 2], delay=[1, 2])], "delays in a conv block"),
    ([{"type": "input", "shape": [1, 1, 3]}, dense(W)], "put a flatten block before it"),
    ([{"type": "input", "shape": [3], **NEURON}, dense(W)], "input neurons that keep current"),
    ([{"type": "dense", "shape": [1], "weight": W}, dense([[2]])], "a dense block after a block without neurons"),
]
WRONG = [
    ([dense(W + 0.5)], "not integers"),
    ([dense(W * np.nan)], "not integers"),
    ([dense(W * 1e12)], "too large"),
    ([dense(W, shape=[0])], "shape"),
    ([dense(W, shape=[2])], "weight"),
    ([dense(W, shape=[1 << 30])], "at most"),
    ([dense(W, inFeatures=4)], "inFeatures"),
    ([dense(W), dense(W)], "weight columns"),
    ([dense(W, bias=[1, 2])], "bias"),
    ([dense(W, delay=[1, 2])], "delay"),
    ([dense(W, delay=-1.0)], "delay"),
    ([dense(W, **{"neuron/vThMant": -1})], "vThMant"),
    ([dense(W, **{"neuron/iDecay": 4097})], "iDecay"),
    ([changed(dense(W), **{"neuron/vDecay": None})], "vDecay"),
    ([conv(K, [2, 2, 2])], "give (C, H, W) as input_shape"),
    ([{"type": "input", "shape": [1, 3, 3]}, conv(K, [2, 3, 3])], "shape, expected (2, 2, 2), got (2, 3, 3)"),
    ([{"type": "input", "shape": [2, 3, 3]}, conv(K, [2, 2, 2])], "weight input channels"),
    ([{"type": "input", "shape": [1, 3, 3]}, conv(K, [2, 2, 2], stride=[0, 1])], "stride"),
    ([{"type": "input", "shape": [1, 3, 3]}, conv(K, [2, 2, 2], kernelSize=[3, 3])], "kernelSize"),
    ([{"type": "input", "shape": [1, 3, 3]}, conv(K, [2, 2, 2], bias=[1, 2, 3])], "bias"),
    ([dense(W), {"type": "average", "shape": [3]}], "average"),
    ([{"type": "input", "shape": [3]}, {"type": "flatten", "shape": [4]}], "shape, expected 3 values"),
    ([{"type": "input", "shape": [3]}], "a network without neurons"),
    ([{"shape": [3]}], "not a block"),
    ([], "layers"),
]


@pytest.mark.parametrize(("blocks", "words"), [*REFUSED, *WRONG], ids=[words for _, words in [*REFUSED, *WRONG]])
def test_what_has_no_exact_place_is_refused_in_one_line(path, capsys, blocks, words):
    net_file(path, *blocks)
    with pytest.raises(LavatubeError) as caught:
        lower_net(path)
    assert words in str(caught.value)
    assert isinstance(caught.value, UnsupportedError) == any(blocks is each for each, _ in REFUSED)
    assert invoke(["lower", str(path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (path.parent / "program.safetensors").exists()


def test_files_of_strangers_are_refused(path, tmp_path):
    def refused(words):
        with pytest.raises(LavatubeError, match=words) as caught:
            lower_net(path)
        assert "\n" not in str(caught.value)

    refused("no such file, expected a .net file")
    path.write_text("hello")
    refused("damaged or foreign file")
    with h5py.File(path, "w") as file:
        file["x"] = 1
    refused("not a .net file")
    with h5py.File(path, "w") as file:
        file["layer/0/type"] = h5py.SoftLink("/x")
    refused("links other than hard links")
    with h5py.File(path, "w") as file:
        file["layer/0/weight"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
    refused("links other than hard links")
    with h5py.File(path, "w") as file:
        file["layer/0/type"] = np.array(["dense"], h5py.string_dtype())
        file["layer/0/shape"] = np.array(["x"], h5py.string_dtype())
    refused("dtype, expected integers")
    with h5py.File(path, "w") as file:
        file["layer/0/type"], file["layer/2/type"] = "dense", "dense"
    refused("layers, expected groups 0, 1")
    net_file(path, dense(W))
    raw = path.read_bytes()
    for cut in (len(raw) // 3, len(raw) - 7):
        path.write_bytes(raw[:cut])
        refused("damaged or foreign file")
    net_file(path, dense(W), Ts=0, tSample=4)
    refused("simulation")
    net_file(path, dense(W), Ts=1)
    refused("how many timesteps")
