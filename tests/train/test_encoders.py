"""Encoders: integers within their width, the same events from the same seed, and the formula each one states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lavatube.train.encoders import Binary, Delta, Direct, Encoder, Latency, Rate
from lavatube.train.extension_points import ENCODERS

ROWS: list[type[Encoder]] = list(ENCODERS)  # type: ignore[arg-type]
images = hnp.arrays(np.uint8, (3, 2, 4, 4)).map(torch.from_numpy)
sequences = hnp.arrays(np.uint8, (3, 6, 2)).map(torch.from_numpy)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
@given(data=st.data())
def test_events_are_integers_within_their_width_and_follow_from_the_seed(
    row: type[Encoder], data: st.DataObject
) -> None:
    for is_sequence, samples in ((False, data.draw(images)), (True, data.draw(sequences))):
        encoder = row()
        if not (encoder.for_sequences if is_sequence else encoder.for_static):
            continue
        events = encoder(samples, 6, seeded(), is_sequence=is_sequence)
        sample_shape = tuple(samples.shape[2:] if is_sequence else samples.shape[1:])
        assert events.dtype == torch.uint8
        assert events.shape[1:] == (3, *encoder.out_shape(sample_shape))
        assert len(events) == 6 or (len(events) == 1 and not is_sequence)
        assert int(events.max()) < 1 << encoder.message_bits
        assert torch.equal(encoder(samples, 6, seeded(), is_sequence=is_sequence), events)
        assert encoder.needs == (frozenset() if encoder.message_bits == 1 else {"graded input"})


@given(images)
def test_direct_shows_the_value_and_binary_whether_there_is_one(samples: torch.Tensor) -> None:
    assert torch.equal(Direct()(samples, 4, seeded(), is_sequence=False)[0], samples)
    assert torch.equal(Binary()(samples, 4, seeded(), is_sequence=False)[0] == 1, samples > 0)


def test_rates_are_value_over_255_and_never_spike_at_0_or_miss_at_255() -> None:
    samples = torch.arange(256, dtype=torch.uint8).reshape(1, 256)
    events = Rate()(samples, 4000, seeded(), is_sequence=False)
    rate = events.float().mean(0)[0]
    assert rate[0] == 0
    assert rate[255] == 1
    assert (rate - torch.arange(256) / 255).abs().max() < 0.04
    assert not torch.equal(events[0], events[1])


@given(images, st.integers(1, 9))
def test_latency_is_one_spike_as_early_as_the_value_is_large(samples: torch.Tensor, num_steps: int) -> None:
    events = Latency()(samples, num_steps, seeded(), is_sequence=False)
    assert torch.equal(events.sum(0) == 1, samples > 0)
    when = events.argmax(0)[samples > 0].double()
    exact = (1 - samples[samples > 0].double() / 255) * (num_steps - 1)
    assert ((when - exact).abs() <= 0.5).all()


@given(sequences, st.integers(1, 255))
def test_delta_events_rebuild_the_reference_and_fire_only_when_it_is_off_by_a_threshold(
    samples: torch.Tensor, threshold: int
) -> None:
    events = Delta(threshold=threshold)(samples, 6, seeded(), is_sequence=True).to(torch.int64)
    on, off = events.chunk(2, 2)
    assert not (on & off).any()
    reference = samples[:, 0].to(torch.int64)
    for t in range(6):
        error = samples[:, t].to(torch.int64) - reference
        assert torch.equal(on[t] == 1, error >= threshold)
        assert torch.equal(off[t] == 1, -error >= threshold)
        reference = reference + threshold * (on[t] - off[t])
