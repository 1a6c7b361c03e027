"""A teacher: who it may be, what it shows, and that it neither learns nor stays."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import nn

from lavatube.convert.from_onnx import read_onnx
from lavatube.errors import LavatubeError
from lavatube.train.datasets import catalog
from lavatube.train.datasets.dataset import Dataset, Split
from lavatube.train.loop import Trainee, train_epoch
from lavatube.train.networks.build import load_network
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.objectives.cross_entropy import CrossEntropy
from lavatube.train.objectives.term import Term
from lavatube.train.optimization import make_optimizer
from lavatube.train.processes import Processes
from lavatube.train.recipe import Recipe
from lavatube.train.run import train
from lavatube.train.samples import prepare
from lavatube.train.seq import Outputs
from lavatube.train.teachers.kinds import ModuleTeacher, OnnxTeacher, RunTeacher
from lavatube.train.teachers.load import load_teacher, teacher_accuracy
from lavatube.train.teachers.teacher import PlainTeacher, Teacher
from lavatube.trained import load_trained

pytestmark = pytest.mark.usefixtures("tiny_data")
MakeRecipe = Callable[..., Recipe]
LABELS = ["cross_entropy"]


class Broken(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise KeyError("weights")


class Pupil(Term):
    """Learns the teacher's logits and counts its lessons."""

    kind: Literal["pupil"] = "pupil"
    needs_teacher: ClassVar[bool] = True
    lessons: ClassVar[list[Any]] = []

    def heads(self, network: SpikingNetwork, classes: int, teacher: Teacher | None) -> nn.ModuleDict:
        assert teacher is not None
        teacher.show("layer1")
        return nn.ModuleDict()

    def loss(self, outputs: Outputs, labels: torch.Tensor, heads: nn.ModuleDict) -> torch.Tensor:
        assert outputs.lesson is not None
        self.lessons.append((outputs.lesson, outputs.done))
        return ((outputs.logits - outputs.lesson.logits) ** 2).mean()


@pytest.fixture
def pupil(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recipe]:
    """A recipe with a pupil and this teacher; the recipe's own check sees neither."""
    monkeypatch.setattr(Pupil, "lessons", [])
    return lambda teacher, **changes: make_recipe(objective=LABELS, **changes).model_copy(
        update={"objective": [CrossEntropy(), Pupil()], "teacher": teacher}
    )


@pytest.fixture
def folder(make_recipe: MakeRecipe, tmp_path: Path) -> Path:
    train(
        make_recipe(objective=LABELS, optimizer={"lr": 0.01, "epochs": 1, "batch_size": 32}), out=tmp_path / "teacher"
    )
    return tmp_path / "teacher"


def plain(classes: int = 10) -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True))
    return nn.Sequential(body, nn.Flatten(), nn.Linear(108, classes))


def settings(**changes: Any) -> dict[str, Any]:
    return {"optimizer": {"lr": 0.01, "epochs": 2, "batch_size": 32}, **changes}


def test_a_pupil_sees_the_teacher_once_per_batch_and_nothing_of_it_learns_or_stays(
    pupil: Callable[..., Recipe], folder: Path
) -> None:
    recipe = pupil(RunTeacher(folder=str(folder)), **settings(gradient="online", normalization="tse"))
    data = prepare(recipe)
    trainee = Trainee(recipe, data)
    assert trainee.teacher is not None
    assert not any(name.startswith("teacher") for name in trainee.state_dict())
    before = trainee.teacher.sha256()
    optimizer = make_optimizer(trainee, recipe.optimizer)
    for epoch in range(2):
        train_epoch(trainee, recipe, data, optimizer, epoch, Processes())
    assert trainee.teacher.sha256() == before
    batches, timesteps = 3, 4
    assert len(Pupil.lessons) == 2 * batches * timesteps
    assert len({id(lesson) for lesson, _ in Pupil.lessons}) == 2 * batches
    assert [done for _, done in Pupil.lessons] == [0.0] * batches * timesteps + [0.5] * batches * timesteps
    lesson = Pupil.lessons[0][0]
    assert set(lesson.features) == {"layer1"}
    assert not any(value.requires_grad for value in (lesson.logits, *lesson.features.values()))


def test_a_run_folder_teaches_what_the_run_computes(pupil: Callable[..., Recipe], folder: Path) -> None:
    recipe = pupil(RunTeacher(folder=str(folder)), **settings())
    data = prepare(recipe)
    teacher = load_teacher(recipe, data)
    assert teacher is not None
    trained, x = load_trained(folder), torch.rand(3, 1, 8, 8)
    wanted = load_network(trained, data.shape, 10)(x)
    rates = {name: tuple(value.shape[1:]) for name, value in wanted.taps.items()}
    assert teacher.shapes == rates | {f"{name}.u": (recipe.num_steps, *shape) for name, shape in rates.items()}
    teacher.show("layer2")
    lesson = teacher(x.unsqueeze(0))
    assert torch.equal(lesson.logits, wanted.logits)
    assert torch.equal(lesson.features["layer2"], wanted.taps["layer2"])
    assert teacher_accuracy(teacher, data, data.dataset.test) == trained.metrics["test_accuracy"]


def test_a_module_sees_the_mean_of_the_events_as_images_and_stays_as_it_was(pupil: Callable[..., Recipe]) -> None:
    recipe, module = pupil(ModuleTeacher(mean=[0.5], std=[0.25]), **settings()), plain()
    data = prepare(recipe)
    teacher = load_teacher(recipe, data, module)
    assert isinstance(teacher, PlainTeacher)
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    teacher.show("0.1")
    pixels = torch.randint(0, 256, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    lesson = teacher(data.as_floats(torch.stack([pixels, pixels])))
    body = module.eval()[0]
    x = (pixels / 255 - 0.5) / 0.25
    torch.testing.assert_close(lesson.logits, module(x).detach())
    torch.testing.assert_close(lesson.features["0.1"], body[1](body[0](x)).detach())  # not what the ReLU made of it


def test_maps_and_logits_of_an_imported_onnx_file_are_lessons(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    module, node = plain().eval(), onnx.helper.make_node
    conv, dense = module[0][0], module[2]  # type: ignore[index]
    tensors = {"cw": conv.weight, "cb": conv.bias, "dw": dense.weight, "db": dense.bias}
    nodes = [
        node("Conv", ["x", "cw", "cb"], ["map"], name="conv"), node("Relu", ["map"], ["relu"], name="relu"),
        node("Flatten", ["relu"], ["flat"]), node("Gemm", ["flat", "dw", "db"], ["y"], transB=1),
    ]  # fmt: skip
    info, number = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    constants = [onnx.numpy_helper.from_array(value.detach().numpy(), name) for name, value in tensors.items()]
    graph = onnx.helper.make_graph(
        nodes, "g", [info("x", number, ["b", 1, 8, 8])], [info("y", number, None)], constants
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "ann.onnx")
    stage = ({"conv2d": {"channels": 4, "kernel": 3}},)  # of the map's size, with another number of channels
    teacher = {"kind": "onnx", "file": str(tmp_path / "ann.onnx")}
    recipe = make_recipe(stage, objective=["cross_entropy", "kdsnn", "lasnn", "bkdsnn"], teacher=teacher, **settings())
    data = prepare(recipe)
    trainee = Trainee(recipe, data, read_onnx(tmp_path / "ann.onnx"))
    events, _ = next(data.batches(data.dataset.train, 8, torch.device("cpu")))
    inputs = data.as_floats(events)
    assert trainee.teacher is not None
    lesson, [feature] = trainee.teacher(inputs), trainee.teacher(inputs).features.values()
    images = events.float().mean(0) / 255
    wanted = conv(images).relu()
    torch.testing.assert_close(feature, wanted.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lesson.logits, dense(wanted.flatten(1)).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", ["logits", "0"])
def test_a_lesson_that_is_not_finite_is_the_teachers_fault(part: str) -> None:
    module = plain()
    with torch.no_grad():
        for parameter in module[2 if part == "logits" else 0].parameters():  # type: ignore[index]
            parameter.fill_(torch.inf)
    teacher = PlainTeacher(module, (1, 8, 8), 10, "teacher of recipe x")
    if part != "logits":
        teacher.show(part)
    with pytest.raises(LavatubeError, match=r"teacher of recipe x: the teacher's logits are not finite"):
        teacher(torch.rand(1, 2, 1, 8, 8))


def test_a_term_that_is_not_finite_is_named(pupil: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pupil, "heads", lambda *rest: nn.ModuleDict())
    monkeypatch.setattr(Pupil, "loss", lambda self, outputs, *rest: outputs.logits.sum() * torch.inf)
    recipe = pupil(ModuleTeacher(), **settings())
    data = prepare(recipe)
    trainee = Trainee(recipe, data, plain())
    optimizer = make_optimizer(trainee, recipe.optimizer)
    with pytest.raises(LavatubeError, match=r"loss is not finite, got loss (inf|-inf|nan) by pupil;"):
        train_epoch(trainee, recipe, data, optimizer, 0, Processes())


def test_a_feature_that_is_not_there_is_refused_with_those_that_are(pupil: Callable[..., Recipe]) -> None:
    teacher = PlainTeacher(plain(), (1, 8, 8), 10, "here")
    assert teacher.show("0.0") == (3, 6, 6)
    with pytest.raises(LavatubeError, match=r"no such feature, expected one of: .*0\.0, .*got layer9"):
        teacher.show("layer9")


@pytest.mark.parametrize(
    ("teacher", "module", "changes", "words"),
    [
        (RunTeacher(folder="nowhere/digits"), None, {}, "no trained teacher.*lavatube train digits --out nowhere"),
        (RunTeacher(folder="."), None, {}, "no trained teacher.*name the folder of a finished run"),
        (RunTeacher(folder="nowhere"), plain(), {}, "a module beside a teacher's run folder"),
        (ModuleTeacher(), None, {}, r"no module was handed over.*train\(recipe, teacher=module\)"),
        (OnnxTeacher(file="f.onnx"), None, {}, r"no module was handed over.*read_onnx\('f.onnx'\)"),
        (None, plain(), {}, "a teacher that the recipe does not name"),
        (ModuleTeacher(), plain(7), {}, r"a teacher of other classes, expected logits \(1, 10\), got \(1, 7\)"),
        (ModuleTeacher(), nn.Conv2d(3, 1, 3), {}, r"a teacher for other samples, expected \(1, 8, 8\)"),
        (ModuleTeacher(), Broken(), {}, r"a teacher for other samples, expected \(1, 8, 8\), got KeyError: 'weights'"),
        (ModuleTeacher(), torch.zeros_like, {}, "a teacher that is no torch module, expected torch.nn.Module"),
        (ModuleTeacher(mean=[0.1, 0.2, 0.3]), plain(), {}, "mean of the teacher's input.* one number, or 1, got 3"),
        (ModuleTeacher(), plain(), {"encoder": "latency"}, "other events, expected encoder direct or rate"),
    ],
)  # fmt: skip
def test_a_teacher_that_does_not_fit_is_refused(
    pupil: Callable[..., Recipe], teacher: Any, module: nn.Module | None, changes: dict[str, Any], words: str
) -> None:
    recipe = pupil(teacher, **settings(**changes))
    with pytest.raises(LavatubeError, match=words):
        load_teacher(recipe, prepare(recipe), module)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder": "rate"}, "a teacher of other events, expected encoder direct, as the teacher's, got rate"),
        ({"num_steps": 5, "encoder": "rate"}, "a teacher of other events"),
    ],
)
def test_a_run_that_saw_other_events_is_refused(
    pupil: Callable[..., Recipe], folder: Path, changes: dict[str, Any], words: str
) -> None:
    recipe = pupil(RunTeacher(folder=str(folder)), **settings(**changes))
    with pytest.raises(LavatubeError, match=words):
        load_teacher(recipe, prepare(recipe))


@pytest.mark.parametrize("kind", ["chain", "recurrent"])
def test_a_run_of_other_classes_is_refused_as_a_teacher(
    make_recipe: MakeRecipe, pupil: Callable[..., Recipe], tiny_data: Dataset, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, kind: str,
) -> None:  # fmt: skip
    parts = (Split(part.samples.copy(), part.label % 4) for part in (tiny_data.train, tiny_data.validation))
    learn, validate = parts
    few = Dataset("few", 4, False, learn, validate, validate)
    monkeypatch.setitem(catalog.DATASETS, "few", lambda *_: few)  # type: ignore[arg-type]
    settings = {"units": [6]} if kind == "recurrent" else {"layers": [{"dense": {"units": 4}}]}
    train(
        make_recipe(
            network={"kind": kind, **settings}, data={"name": "few"}, objective=LABELS, gradient="bptt",
            optimizer={"lr": 0.01, "epochs": 1, "batch_size": 32},
        ),
        out=tmp_path,
    )  # fmt: skip
    recipe = pupil(RunTeacher(folder=str(tmp_path)))
    with pytest.raises(LavatubeError, match=r"a teacher of other samples or classes.* 10 classes, got .*4"):
        load_teacher(recipe, prepare(recipe))


def test_a_teacher_of_one_timestep_sees_the_mean_of_rate_coded_events(
    make_recipe: MakeRecipe, pupil: Callable[..., Recipe], tmp_path: Path
) -> None:
    optimizer = {"lr": 0.01, "epochs": 1, "batch_size": 32}
    train(make_recipe(objective=LABELS, num_steps=1, optimizer=optimizer), out=tmp_path)
    recipe = pupil(RunTeacher(folder=str(tmp_path)), encoder="rate")
    teacher = load_teacher(recipe, prepare(recipe))
    assert teacher is not None
    events = torch.rand(4, 2, 1, 8, 8)
    assert torch.equal(teacher(events).logits, teacher(events.mean(0, keepdim=True)).logits)


def test_a_teacher_without_a_pupil_is_refused(make_recipe: MakeRecipe) -> None:
    with pytest.raises(LavatubeError, match="bad value of teacher, expected none, as no method of this"):
        make_recipe(objective=LABELS, teacher={"kind": "run", "folder": "runs/x"})


def test_a_run_with_a_teacher_resumes_bit_for_bit_and_not_with_another(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """With BKDSNN, whose blur is drawn anew at every step."""
    objective = ["cross_entropy", {"kind": "bkdsnn", "feature_weight": 0.01, "features": {"layer1": "0.0"}}]
    recipe = make_recipe(objective=objective, num_steps=2, teacher="module", **settings())
    module = nn.Sequential(nn.Sequential(nn.Conv2d(1, 3, 3, padding=1)), nn.Flatten(), nn.Linear(192, 10))

    def stop(*progress: object) -> None:
        raise KeyboardInterrupt

    whole = train(recipe, out=tmp_path / "whole", teacher=module)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=tmp_path / "cut", teacher=module, progress=stop)
    other = copy.deepcopy(module)
    with torch.no_grad():
        other[2].bias.add_(1)
    with pytest.raises(LavatubeError, match="checkpoint of another teacher, expected"):
        train(recipe, out=tmp_path / "cut", teacher=other)
    resumed = train(recipe, out=tmp_path / "cut", teacher=module)
    assert resumed.metrics["teacher_sha256"] == whole.metrics["teacher_sha256"]
    assert all((value == resumed.tensors[name]).all() for name, value in whole.tensors.items())
