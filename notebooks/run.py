"""Runs notebooks, each in a fresh kernel, within two minutes: `run.py [NAME...]`. Results go to build/notebooks; sources stay without outputs."""

import importlib.util
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "build" / "notebooks"
SECONDS = 120


def run(path: Path) -> str:
    notebook = nbformat.read(path, as_version=4)
    for module in notebook.metadata.get("needs", []):
        if importlib.util.find_spec(module) is None:
            return f"skipped, {module} is not installed (make python TORCH=yes)"
    start = time.monotonic()
    try:
        NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(HERE)}}).execute()
    except (CellExecutionError, CellTimeoutError) as error:
        return f"FAILED\n{error}"
    finally:
        nbformat.write(notebook, RESULTS / path.name)
    seconds = time.monotonic() - start
    return f"FAILED: took {seconds:.0f} s, at most {SECONDS}" if seconds > SECONDS else f"passed, {seconds:.0f} s"


def main() -> int:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads sleep: other programs may run beside them
    RESULTS.mkdir(parents=True, exist_ok=True)
    paths = [HERE / f"{name}.ipynb" for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb"))
    outcomes = []
    for path in paths:
        outcomes.append(run(path))
        print(f"{path.stem}: {outcomes[-1]}", flush=True)
    counts = {word: sum(o.startswith(word) for o in outcomes) for word in ("passed", "skipped", "FAILED")}
    print(", ".join(f"{n} {word.lower()}" for word, n in counts.items()), "of", len(outcomes))
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
