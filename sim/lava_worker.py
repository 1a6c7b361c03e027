"""The Lava worker: a child interpreter on Python 3.10, under a time limit, killed and cleaned up as a group."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lavatube
import lavatube.deploy
from lavatube.errors import WorkerError

SHARED_MEMORY = Path("/dev/shm")
POLL_SECONDS = 0.1
GRACE_SECONDS = 1.0  # between a traceback of a process model and the end of the run, to read all of it
REMOVED = ("VIRTUAL_ENV", "PYTHONHOME", "PYTHONWARNINGS", "PYENV_DIR", "PYTHONPATH")
Progress = Callable[[int, int, int], None]  # job, ticks done, ticks


@contextmanager
def run_folder() -> Iterator[Path]:
    """A temporary folder with a light tree of lavatube: the files of core, and the deploy stage; nothing else."""
    folder = Path(tempfile.mkdtemp(prefix="lavatube-lava-"))
    try:
        package = folder / "lavatube"
        package.mkdir()
        for path in Path(lavatube.__path__[0]).iterdir():
            if path.suffix == ".py":
                (package / path.name).symlink_to(path)
        (package / "deploy").symlink_to(lavatube.deploy.__path__[0], target_is_directory=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def worker_command() -> tuple[list[str], str]:
    """(the command before the script's arguments, how it was found).

    In order: this interpreter if it has lava; LAVATUBE_LAVA_PYTHON through uv; uv's own search for Python 3.10.
    raises: WorkerError if there is no uv.
    """
    # its place in the package, not in the run folder: uv keeps an environment for every script path
    script = str(Path(lavatube.deploy.__path__[0]) / "lava_backend" / "worker" / "lava_worker.py")
    if importlib.util.find_spec("lava") is not None and importlib.util.find_spec("lava.magma") is not None:
        return [sys.executable, script], "this interpreter has lava"
    uv = find_uv()
    chosen = os.environ.get("LAVATUBE_LAVA_PYTHON")
    python = ["--python", chosen] if chosen else []
    how = f"LAVATUBE_LAVA_PYTHON={chosen}" if chosen else "uv's search for Python 3.10"
    return [uv, "run", "--quiet", "--no-project", *python, "--script", script], how


def find_uv() -> str:
    """The uv executable: $UV, the uv package, PATH. raises: WorkerError."""
    if named := os.environ.get("UV"):
        return named
    try:
        import uv

        return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise WorkerError(
            "uv is missing, which prepares Lava's Python 3.10",
            where="lava",
            remedy="pip install uv, or install lavatube[lava] on Python 3.10",
        )
    return found


def run_jobs(
    jobs: Sequence[dict[str, Any]],
    folder: Path,
    *,
    timeout: float,
    spent: float = 0.0,
    progress: Progress | None = None,
    end: threading.Event | None = None,
) -> None:
    """Run jobs (see the worker script) in one worker whose run folder is `folder`.

    spent:  seconds of the time limit that are over.
    end:    when it is set, the worker is stopped without a word.
    raises: WorkerError, in one line, if it cannot start, a process model raises, or the time is over.
    """
    command, _ = worker_command()
    (folder / "jobs.json").write_text(json.dumps({"parent": os.getpid(), "jobs": list(jobs)}))
    environment = {name: value for name, value in os.environ.items() if name not in REMOVED}
    environment |= {"PYTHONPATH": str(folder), "PYTHONNOUSERSITE": "1", "PYENV_VERSION": "3.10"}
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        try:
            child = subprocess.Popen(
                [*command, str(folder / "jobs.json")],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise WorkerError("cannot start the worker", where="lava", got=f"{command[0]}: {error.strerror}") from error
    try:
        _watch(child, folder, timeout, spent, progress, end or threading.Event())
    finally:
        end_group(child)


def _watch(
    child: subprocess.Popen[bytes],
    folder: Path,
    timeout: float,
    spent: float,
    progress: Progress | None,
    end: threading.Event,
) -> None:
    started, failed_at = time.monotonic() - spent, None
    while not end.is_set():
        code = child.poll()
        _report(folder / "stdout", progress)
        errors = (folder / "stderr").read_text(errors="replace")
        if code is not None:
            if code == 0 and (folder / "stdout").read_text().endswith("done\n"):
                return
            raise _failure(errors, f"exit code {code}")
        if failed_at is None and "Traceback (most recent call last)" in errors:
            failed_at = time.monotonic()  # Lava itself would now wait for ever
        if failed_at is not None and time.monotonic() - failed_at > GRACE_SECONDS:
            raise _failure(errors, "the run stopped")
        if time.monotonic() - started > timeout:
            raise WorkerError(
                "the worker took too long and was stopped", where="lava", expected=f"at most {timeout:g} s",
                remedy="give a longer --timeout or fewer samples",
            )  # fmt: skip
        time.sleep(POLL_SECONDS)


def _failure(errors: str, state: str) -> WorkerError:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    if any("No interpreter found" in line or "no interpreter found" in line.lower() for line in lines):
        return WorkerError(
            "no Python 3.10 for Lava", where="lava",
            remedy="install Python 3.10 (uv python install 3.10), or name one in LAVATUBE_LAVA_PYTHON",
        )  # fmt: skip
    raised = next(
        (line for line in lines if re.match(r"^[A-Za-z_.]*(Error|Exception|Interrupt)\b(?! in thread)", line)), ""
    )
    places = re.findall(
        r'File "[^"]*/([^"/]+/[^"/]+\.py)", line (\d+), in (run_(?:spk|lrn|pre_mgmt|post_mgmt))', errors
    )
    place = f" in {places[0][2]} of {places[0][0]}:{places[0][1]}" if places else ""
    what = f"an exception inside a Lava process{place}" if places else "the Lava worker failed"
    return WorkerError(what, where="lava", got=raised or (lines[-1] if lines else state))


def _report(path: Path, progress: Progress | None) -> None:
    if progress is None:
        return
    lines = [line.split() for line in path.read_text(errors="replace").splitlines() if line.startswith("progress ")]
    if lines and len(lines[-1]) == 4:
        progress(*(int(word) for word in lines[-1][1:]))


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the worker's process group and unlink its shared memory, and nobody else's.

    Python's resource tracker unlinks what its processes leave when they are gone, so it is the last to be killed.
    """
    _signal_group(child.pid, signal.SIGSTOP)  # no new process and no new segment while we look
    members = _group(child.pid)
    segments = {name for pid in members for name in _segments(pid)}
    trackers = [pid for pid in members if _is_tracker(pid)]
    for pid in set(members) - set(trackers):
        _signal(pid, signal.SIGKILL)
    _signal_group(child.pid, signal.SIGCONT)
    deadline = time.monotonic() + GRACE_SECONDS * 3
    while any(_is_tracker(pid) for pid in trackers) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS / 5)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()
    for name in segments:
        (SHARED_MEMORY / name).unlink(missing_ok=True)


def _signal_group(leader: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_tracker(pid: int) -> bool:
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _group(leader: int) -> list[int]:
    """Processes of a group, by /proc; none where there is no /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if int(fields[2]) == leader:
            found.append(int(path.parent.name))
    return found


def _segments(pid: int) -> set[str]:
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return set()
    return set(re.findall(r"/dev/shm/(psm_\w+)", maps))
