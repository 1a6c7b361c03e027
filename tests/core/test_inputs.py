"""X.npz in all its forms, and one clear line for each way to be wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lavatube.errors import LavatubeError
from lavatube.inputs import load_inputs, make_inputs
from lavatube.program import InputNode

NODE = InputNode("input", (1, 2, 2), 4)
TWO = (InputNode("eye", (1, 2, 2), 4), InputNode("ear", (3,), 1))
EYE, EAR = np.zeros((5, 2, 1, 2, 2), int), np.zeros((5, 2, 3), int)


def test_a_static_input_is_presented_every_step():
    batch = make_inputs(np.arange(8).reshape(2, 1, 2, 2), NODE, default_steps=3)
    assert batch.events.shape == (3, 2, 1, 2, 2)
    assert (batch.events == batch.events[0]).all()
    assert batch.length.tolist() == [3, 3]


def test_steps_cuts_a_timed_input_and_repeats_a_static_one():
    assert make_inputs(np.zeros((5, 1, 1, 2, 2), int), NODE, default_steps=9, steps=2).num_steps == 2
    assert make_inputs(np.zeros((1, 1, 2, 2), int), NODE, default_steps=9, steps=2).num_steps == 2
    with pytest.raises(LavatubeError, match="more steps asked than the input has, expected at most 5, got 6"):
        make_inputs(np.zeros((5, 1, 1, 2, 2), int), NODE, default_steps=9, steps=6)


def test_sparse_events_become_the_same_dense_input(tmp_path):
    np.savez(tmp_path / "x.npz", t=[0, 2, 2], index=[1, 3, 3], sample=[0, 1, 1], label=[4, 5])
    batch = load_inputs(tmp_path / "x.npz", NODE, default_steps=3)
    assert batch.events.shape == (3, 2, 1, 2, 2)
    assert batch.events[0, 0, 0, 0, 1] == 1
    assert batch.events[2, 1, 0, 1, 1] == 2
    assert batch.events.sum() == 3


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((2, 1, 2, 3)), r"input shape, expected \[T, B, 1, 2, 2\] or \[B, 1, 2, 2\], got \(2, 1, 2, 3\)"),
        (np.full((1, 1, 2, 2), np.nan), "NaN"),
        (np.full((1, 1, 2, 2), 0.5), "fractions"),
        (np.full((1, 1, 2, 2), 16), r"outside the input encoding, expected integers 0..15 \(4 bits\), got 16..16"),
        (np.full((1, 1, 2, 2), -1), "outside"),
        (np.zeros((0, 1, 2, 2)), "empty"),
        (np.zeros((0, 3, 1, 2, 2)), "empty"),
        (np.array([["a"]]), "dtype"),
    ],
)
def test_a_wrong_input_is_refused(value, words):
    with pytest.raises(LavatubeError, match=words):
        make_inputs(value, NODE, default_steps=3)


def test_wrong_lengths_labels_and_steps_are_refused():
    value = np.zeros((2, 1, 2, 2), int)
    with pytest.raises(LavatubeError, match="length"):
        make_inputs(value, NODE, default_steps=3, length=np.array([1]))
    with pytest.raises(LavatubeError, match="length"):
        make_inputs(value, NODE, default_steps=3, length=np.array([1, 4]))
    with pytest.raises(LavatubeError, match="label"):
        make_inputs(value, NODE, default_steps=3, label=np.array([1.5, 2]))
    with pytest.raises(LavatubeError, match="steps, expected at least 1, got 0"):
        make_inputs(value, NODE, default_steps=3, steps=0)


def test_a_wrong_length_is_told_by_its_values_and_a_list_is_not_taken_for_an_array():
    value = np.zeros((4, 3, 1, 2, 2), int)
    with pytest.raises(LavatubeError, match=r"length, expected \[3\] integers 0..4, got 1..9"):
        make_inputs(value, NODE, default_steps=3, length=np.array([9, 1, 1]))
    with pytest.raises(LavatubeError, match="expected a NumPy array of integers, got list"):
        make_inputs({"input": [[1]]}, NODE, default_steps=3)


@pytest.mark.parametrize(
    ("nodes", "extra", "words"),
    [
        (NODE, {"lenght": [1]}, "keys that would not be used, expected input, length, label, got lenght"),
        (NODE, {"t": [0], "index": [0], "sample": [0]}, "got index, sample, t"),
        (NODE, {"input/input": [0]}, "got input/input"),
        (TWO, {"t/ear": [0], "index/ear": [0], "sample/ear": [0]}, "got index/ear, sample/ear, t/ear"),
        (TWO, {"lable": [0, 1]}, "got lable"),
    ],
)
def test_a_key_that_would_not_be_used_and_a_second_form_of_an_input_are_refused(tmp_path, nodes, extra, words):
    arrays = {"input": EYE} if nodes is NODE else {"input/eye": EYE, "input/ear": EAR}
    load_inputs(saved(tmp_path, arrays), nodes, default_steps=5)
    with pytest.raises(LavatubeError, match=words):
        load_inputs(saved(tmp_path, {**arrays, **extra}), nodes, default_steps=5)


def saved(folder, arrays):
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


def test_a_truncated_a_foreign_and_a_pickled_file_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", input=np.zeros((2, 1, 2, 2)))
    raw = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(raw[: len(raw) // 2])
    (tmp_path / "text.npz").write_text("not a zip")
    np.savez(tmp_path / "pickle.npz", input=np.array([{}], dtype=object))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for name in ("cut", "text", "pickle", "other", "missing"):
        with pytest.raises(LavatubeError, match=f"{name}.npz"):
            load_inputs(tmp_path / f"{name}.npz", NODE, default_steps=3)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_damaged_npz_loads_or_raises_our_error(tmp_path, changes):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, input=np.arange(64).reshape(4, 4, 1, 2, 2) % 16, label=np.arange(4))
    raw = bytearray(path.read_bytes())
    for place, byte in changes:
        raw[int(place * len(raw))] = byte
    path.write_bytes(raw)
    try:
        load_inputs(path, NODE, default_steps=3)
    except LavatubeError as error:
        assert "\n" not in str(error)  # noqa: PT017 (either outcome is right)


def test_a_static_input_lasts_as_long_as_the_timed_one_beside_it(tmp_path):
    arrays = {"ear": np.ones((5, 2, 3), int), "eye": np.arange(8).reshape(2, 1, 2, 2)}
    batch = make_inputs(arrays, TWO, default_steps=9)
    assert [batch.by_name[name].shape for name in ("eye", "ear")] == [(5, 2, 1, 2, 2), (5, 2, 3)]
    assert list(batch.by_name) == ["eye", "ear"]  # in order of the program
    assert make_inputs(arrays, TWO, default_steps=9, steps=4).num_steps == 4
    np.savez(tmp_path / "x.npz", **{f"input/{name}": value for name, value in arrays.items()})
    loaded = load_inputs(tmp_path / "x.npz", TWO, default_steps=9)
    assert all((loaded.by_name[name] == batch.by_name[name]).all() for name in batch.by_name)


def test_sparse_events_of_one_input_fit_the_dense_ones_of_another(tmp_path):
    eye = np.zeros((5, 4, 1, 2, 2), int)
    sparse = {"t/ear": [0, 4], "index/ear": [2, 0], "sample/ear": [1, 2]}
    np.savez(tmp_path / "x.npz", **{"input/eye": eye}, **sparse)
    batch = load_inputs(tmp_path / "x.npz", TWO, default_steps=9)
    assert batch.by_name["ear"].shape == (5, 4, 3)
    assert np.argwhere(batch.by_name["ear"]).tolist() == [[0, 1, 2], [4, 2, 0]]
    np.savez(tmp_path / "x.npz", **{"input/eye": eye[0]}, **sparse)
    assert load_inputs(tmp_path / "x.npz", TWO, default_steps=9).by_name["ear"].shape == (9, 4, 3)
    np.savez(tmp_path / "x.npz", **{"input/eye": eye[:4]}, **sparse)
    with pytest.raises(LavatubeError, match=r"sparse event t/ear, expected 0..3, got 0..4"):
        load_inputs(tmp_path / "x.npz", TWO, default_steps=9)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"eye": EYE}, "input ear is missing, expected eye, ear, got eye"),
        ({"eye": EYE, "ear": EAR, "nose": EAR}, "an input that the program does not have, expected eye, ear, got nose"),
        ({"eye": EYE[:4], "ear": EAR}, "inputs of different numbers of timesteps, expected the same, got eye 4, ear 5"),
        (
            {"eye": EYE[:, :1], "ear": EAR},
            "inputs of different numbers of samples, expected the same, got eye 1, ear 2",
        ),
        ({"eye": EYE[0, :1], "ear": EAR}, "inputs of different numbers of samples"),
        ({"eye": EYE, "ear": EAR + 2}, r"input ear: input values are outside.*expected integers 0..1 \(1 bits\)"),
        ({"eye": EYE, "ear": EYE}, r"input ear: input shape, expected \[T, B, 3\]"),
    ],
)
def test_inputs_that_do_not_fit_the_program_or_each_other_are_refused(tmp_path, arrays, words):
    with pytest.raises(LavatubeError, match=words):
        make_inputs(arrays, TWO, default_steps=3)
    np.savez(tmp_path / "x.npz", **{f"input/{name}": value for name, value in arrays.items()})
    with pytest.raises(LavatubeError, match=words):
        load_inputs(tmp_path / "x.npz", TWO, default_steps=3)


def test_one_array_does_not_do_for_several_inputs_nor_another_name_for_one(tmp_path):
    with pytest.raises(LavatubeError, match="one array for several inputs, expected one for each of eye, ear"):
        make_inputs(EYE, TWO, default_steps=3)
    with pytest.raises(LavatubeError, match="expected input, got eye"):
        make_inputs({"eye": EYE}, NODE, default_steps=3)
    np.savez(tmp_path / "x.npz", input=EYE)
    with pytest.raises(
        LavatubeError, match="one `input` for a program with several, expected `input/eye`, `input/ear`"
    ):
        load_inputs(tmp_path / "x.npz", TWO, default_steps=3)
