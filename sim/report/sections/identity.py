"""What this is: hashes, versions, seeds, the contract and the recipe."""

from __future__ import annotations

from dataclasses import asdict

from lavatube.files import sha256_of_file
from lavatube.sim.report.artifacts import Artifacts
from lavatube.sim.report.parts import Folded, Missing, Part, Section, Table, Words
from lavatube.trace import versions

FILES = ("model.safetensors", "quantized.safetensors", "model.nir", "program.safetensors", "input.npz")
MAKERS = {
    "config.json": "lavatube train RECIPE --out {folder}",
    "quantized.safetensors": "lavatube quantize {folder}",
    "model.nir": "lavatube export {folder}",
    "program.safetensors": "lavatube lower {folder}/model.nir --out {folder}/program.safetensors",
}


def identity(found: Artifacts) -> Section:
    folder, parts = found.folder, list[Part](Words(trouble, "bad") for trouble in found.troubles)
    rows: list[tuple[str, object]] = [("folder", folder.name or str(folder))]
    if found.program is not None:
        rows += [
            ("program", found.sha256),
            ("lowered from", f"{found.program.source['kind']} {found.program.source['sha256']}"),
            ("target", found.program.target),
            ("overflow", found.program.overflow),
            ("timesteps", found.program.num_steps),
        ]
    if found.config is not None:
        recipe = found.config.get("recipe") or {}
        rows += [("recipe", recipe.get("name", "")), ("seed", recipe.get("seed", ""))]
    for name, version in _versions(found).items():
        rows.append((f"made with {name}", version))
    rows.append(("this page", f"lavatube {versions()['lavatube']}"))
    parts.append(Table("What this page is about", ("what", "value"), rows, left=2))
    files = [(name, sha256_of_file(folder / name)) for name in FILES if (folder / name).is_file()]
    if files:
        parts.append(
            Folded("SHA-256 of the files", [Table("SHA-256 of the files", ("file", "SHA-256"), files, left=2)])
        )
    if found.program is not None:
        contract = [(key, value) for key, value in asdict(found.program.contract).items()]
        parts.append(
            Folded(
                "Execution contract", [Table("When things happen in a timestep", ("term", "value"), contract, left=2)]
            )
        )
    if found.config is not None:
        settings = list(_flat(found.config.get("recipe") or {}))
        parts.append(Folded("Recipe", [Table("All settings of the training", ("key", "value"), settings, left=2)]))
    for name, command in MAKERS.items():
        if not (folder / name).is_file():
            parts.append(Missing(name, command.format(folder=folder)))
    return Section("identity", "Identity", parts)


def _versions(found: Artifacts) -> dict[str, str]:
    """Versions of what made the parity and the training, each tool once."""
    said: dict[str, str] = {}
    for engine in (found.parity or {}).get("engines", ()):
        for name, version in ((engine.get("meta") or {}).get("versions") or {}).items():
            key = f"{name} ({engine.get('engine')})" if said.get(name, version) != version else name
            said[str(key)] = str(version)
    torch = ((found.config or {}).get("metrics") or {}).get("torch")
    return said | ({"torch": str(torch)} if torch else {})


def _flat(value: object, name: str = "") -> list[tuple[str, object]]:
    """A nested recipe as rows of dotted keys."""
    if isinstance(value, dict):
        return [row for key, inner in value.items() for row in _flat(inner, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list):
        return [row for number, inner in enumerate(value) for row in _flat(inner, f"{name}[{number}]")]
    return [(name, value)]
