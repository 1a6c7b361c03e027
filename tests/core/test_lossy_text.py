"""Records read as lines: once for all places of which the same is to be said, with what is unknown said to be."""

from __future__ import annotations

from lavatube.lossy_text import record_lines


def test_places_of_one_record_share_a_line_and_stages_do_not():
    unset = {"stage": "read", "what": "v_reset = 0", "why": "no such field"}
    rounded = {"stage": "quantize", "layer": "b", "what": "weights rounded", "relative_error_mean": 0.123456789}
    records = [{**unset, "node": "a"}, rounded, {**unset, "node": "c"}, {**rounded, "stage": "lower"}]
    assert record_lines(records) == [
        "read: a, c: v_reset = 0: no such field",
        "quantize: b: weights rounded (relative error mean 0.123457)",
        "lower: b: weights rounded (relative error mean 0.123457)",
    ]


def test_what_has_no_place_or_no_number_is_said_so():
    assert record_lines([{"stage": "read", "node": "", "what": "num_steps = 128"}]) == ["read: num_steps = 128"]
    record = {
        "stage": "lower",
        "layer": "n",
        "what": "one spike",
        "computes": {"reset": "zero", "lag": 0},
        "error": None,
    }
    assert record_lines([record]) == ["lower: n: one spike (computes reset=zero, lag=0; error unknown)"]
    assert record_lines([]) == []
