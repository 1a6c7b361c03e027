"""The connected processes that Lava's own users get: their processes at both ends, stepped by themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from random_programs import random_case

import lavatube.deploy
from lavatube.program_file import save_program
from lavatube.sim import lava_worker
from lavatube.sim.reference import run_reference

SCRIPT = """
import sys
from pathlib import Path

import numpy as np
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source

from lavatube.deploy.lava_backend import build
from lavatube.program_file import load_program


def main():
    folder = Path(sys.argv[1]).parent
    program = load_program(folder / "program.safetensors")
    inputs = {node.name: np.load(folder / f"{node.name}.npy") for node in program.inputs}
    steps = len(next(iter(inputs.values())))
    network = build(program, num_steps=steps)
    ticks = steps + max(network.latency.values())
    for name, events in inputs.items():
        silent = np.zeros((ticks - steps, events[0].size), np.int32)
        rows = np.concatenate([events.reshape(steps, -1).astype(np.int32), silent])
        Source(data=np.ascontiguousarray(rows.T)).s_out.connect(network.inputs[name].a_in)
    sinks = {name: Sink(shape=end.a_out.shape, buffer=ticks) for name, end in network.outputs.items()}
    for name, sink in sinks.items():
        network.outputs[name].a_out.connect(sink.a_in)
    network.run(ticks)
    for name, sink in sinks.items():
        first = network.latency[name]
        np.save(folder / f"{name}.sums.npy", sink.data.get().astype(np.int64)[:, first : first + steps].sum(1))
    network.stop()
    print("done")


if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [21, 41])  # three inputs with a cycle; two, one of them into a convolution
def test_processes_of_others_feed_and_hear_every_input_and_read_out(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, inputs = random_case(seed, 1)
    worker = Path(lavatube.deploy.__path__[0]) / "lava_backend" / "worker" / "lava_worker.py"
    header = worker.read_text().split("# ///\n")[0].split("# /// script")[1]
    script = tmp_path / "alone" / "script.py"
    script.parent.mkdir()
    script.write_text(f"# /// script{header}# ///\n{SCRIPT}")
    command, _ = lava_worker.worker_command()
    monkeypatch.setattr(lava_worker, "worker_command", lambda: ([*command[:-1], str(script)], "test"))
    with lava_worker.run_folder() as folder:
        save_program(program, folder / "program.safetensors")
        for name, events in inputs.by_name.items():
            np.save(folder / f"{name}.npy", events[:, 0])
        lava_worker.run_jobs([], folder, timeout=120)
        sums = {path.name.split(".")[0]: np.load(path) for path in folder.glob("*.sums.npy")}
    reference = run_reference(program, inputs)
    assert set(sums) == {node.name for node in program.readouts if node.reads != "voltage"}
    assert len(program.inputs) > 1
    assert len(sums) > 1
    for node in program.readouts:
        if node.name in sums:
            expected = reference.readouts[node.name][0] - inputs.num_steps * node.bias
            np.testing.assert_array_equal(sums[node.name], expected, err_msg=node.name)
