"""A run folder holds the recipe that was trained, or says why that is not known."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from lavatube.errors import LavatubeError
from lavatube.files import sha256_of_file, write_json, write_tensors
from lavatube.trained import TRAINED, TrainedNetwork, adopt, load_trained, save_trained

NETWORK = TrainedNetwork({"name": "x", "num_steps": 4}, {"w": np.ones(3, np.float32)}, {"seconds": 1.0})


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A run folder as versions wrote it that kept no digest of the recipe; its name needs quoting."""
    folder = tmp_path / "an 'earlier' run"
    folder.mkdir()
    write_tensors(folder / "model.safetensors", NETWORK.tensors, {"kind": TRAINED})
    config = {"kind": TRAINED, "recipe": dict(NETWORK.recipe), "metrics": dict(NETWORK.metrics)}
    write_json(folder / "config.json", {**config, "model_sha256": sha256_of_file(folder / "model.safetensors")})
    return folder


def test_a_run_without_a_digest_of_its_recipe_is_refused_with_a_remedy_that_works(earlier: Path) -> None:
    model = (earlier / "model.safetensors").read_bytes()
    with pytest.raises(LavatubeError, match="earlier version of lavatube, which kept no digest") as refused:
        load_trained(earlier)
    command = re.search(r"python -c (.*)$", str(refused.value))
    assert command is not None
    [code] = shlex.split(command[1])
    exec(code, {})
    assert load_trained(earlier).recipe == NETWORK.recipe
    assert (earlier / "model.safetensors").read_bytes() == model  # what was made from it stays valid


def test_what_was_adopted_is_held_to_its_recipe_from_then_on(earlier: Path) -> None:
    adopt(earlier)
    config = json.loads((earlier / "config.json").read_text())
    write_json(earlier / "config.json", {**config, "recipe": {**config["recipe"], "num_steps": 9}})
    with pytest.raises(LavatubeError, match="another recipe than was trained"):
        load_trained(earlier)
    with pytest.raises(LavatubeError, match="has a digest"):
        adopt(earlier)


def test_a_run_that_has_a_digest_cannot_be_adopted(tmp_path: Path) -> None:
    save_trained(NETWORK, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    write_json(tmp_path / "config.json", {**config, "recipe": {"name": "another"}})
    with pytest.raises(LavatubeError, match="has a digest"):
        adopt(tmp_path)
