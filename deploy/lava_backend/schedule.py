"""How the samples of a run share Lava's time: side by side as blocks of neurons, and one after another in windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lavatube.deploy.lava_backend.choose import choose_processes, connections
from lavatube.deploy.lava_backend.timing import timing
from lavatube.program import LoihiProgram

LANES_MAX = 64
CONNECTIONS_MAX = 4_000_000  # stored by stock processes for all lanes: a step costs about a nanosecond each


@dataclass(frozen=True)
class Schedule:
    """One run: sample `window * lanes + lane`, from `start` on, is in that lane and window.

    steps: timesteps of a sample; window: with the silence after it. What is left over of lanes and windows is silent
    samples. pace: see `Timing`.
    """

    start: int
    stop: int
    lanes: int
    windows: int
    steps: int
    window: int
    pace: int = 1

    @property
    def length(self) -> int:
        """Ticks without the way through the network."""
        return self.windows * self.window * self.pace

    def rows(self, events: np.ndarray) -> np.ndarray:
        """What the source emits of the events [T, B, ...] of all samples: [ticks, lanes, ...]."""
        steps, _, *shape = events.shape
        chosen = np.zeros((self.window, self.lanes * self.windows, *shape), np.int32)
        chosen[:steps, : self.stop - self.start] = events[:, self.start : self.stop]
        chosen = (
            chosen.reshape(self.window, self.windows, self.lanes, *shape).swapaxes(0, 1).reshape(-1, self.lanes, *shape)
        )
        rows = np.zeros((self.length, *chosen.shape[1:]), np.int32)
        rows[:: self.pace] = chosen
        return rows

    def samples(self, rows: np.ndarray) -> np.ndarray:
        """The way back: rows [ticks, lanes, ...] of one node to [T, samples of this run, ...]."""
        rows = rows[:: self.pace]
        whole = rows.reshape(self.windows, self.window, *rows.shape[1:]).swapaxes(0, 1)[: self.steps]
        return whole.reshape(self.steps, -1, *rows.shape[2:])[:, : self.stop - self.start]


def padded(steps: int) -> int:
    """The smallest power of two from `steps` on: the reset intervals that Loihi 2 has."""
    return 1 << (steps - 1).bit_length()


def schedules(
    program: LoihiProgram,
    steps: int,
    batch: int,
    *,
    conv: str = "auto",
    stock_only: bool = False,
    pad_windows: bool = False,
) -> list[Schedule]:
    """The runs for a batch: one, of as many windows as it takes; or, with delays or cycles, several of one window.

    pad_windows: silence after each sample, so that windows are `padded`; they are the reset interval of populations.
    raises: UnsupportedError as `choose_processes`.
    """
    window = padded(steps) if pad_windows else steps
    when, chosen = timing(program), choose_processes(program, conv, stock_only=stock_only, num_steps=window)
    stock = [synapse for synapse in program.synapses if chosen[synapse.name].stock]
    stored = sum(connections(synapse) * (1 + when.wait[synapse.name]) for synapse in stock)
    alone = any(choice.process == "Conv" for choice in chosen.values())  # it knows no samples side by side
    lanes = 1 if alone else max(1, min(LANES_MAX, CONNECTIONS_MAX // max(stored, 1), batch))
    if when.streams:
        return [Schedule(0, batch, lanes, -(-batch // lanes), steps, window)]
    starts = range(0, batch, lanes)
    return [Schedule(start, min(start + lanes, batch), lanes, 1, steps, steps, when.pace) for start in starts]
