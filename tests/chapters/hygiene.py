"""What a chapter's notebook must be like: the faults of one, in words."""

import re

from book.execute import alternative_text


def faults(notebook):
    """Every fault of an executed notebook; empty for a sound one."""
    found = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    if None in counts:
        found.append(f"code cell {counts.index(None) + 1} was not executed")
    elif counts != list(range(1, len(counts) + 1)):
        found.append("cells were not executed in order, once, from the first on")
    for number, cell in enumerate(code, 1):
        found += [f"code cell {number} {fault}" for fault in _faults_of(cell)]
    compared = [cell for cell in code if "nbval-ignore-output" not in _tags(cell)]
    if 2 * len(compared) <= len(code):
        found.append(f"only {len(compared)} of {len(code)} cells are compared: not compared enough")
    seconds = notebook.metadata.get("bn_core", {}).get("execution_seconds")
    if not seconds:
        found.append("the run time is not stored; use `make execute`")
    return [*found, *_exercise_faults(notebook.cells)]


def _faults_of(cell):
    for output in cell.outputs:
        if output.output_type == "error" and "raises-exception" not in _tags(cell):
            yield "stores an error"
        if output.get("name") == "stderr":
            yield "stores stderr"
    if described := alternative_text(cell):
        shown = cell.metadata.get("mystnb", {})
        if shown.get("image", {}).get("alt") != described:
            yield "has a figure whose alternative text is not its description"
        if "<Figure" in described:
            yield "has a figure without alternative text of its own"
        if not shown.get("figure", {}).get("caption"):
            yield "has a figure without a caption"


def _exercise_faults(cells):
    text = [cell.source if cell.cell_type == "markdown" else "" for cell in cells]
    exercises = re.findall(r"^:label: (\S+)$", "\n".join(_blocks(text, "exercise")), re.M)
    solved = re.findall(r"\{solution(?:-start)?\} (\S+)", "\n".join(text))
    if len(exercises) < 3:
        yield f"{len(exercises)} exercises; there must be at least 3"
    for label in exercises:
        if label not in solved:
            yield f"exercise {label} has no solution"
    starts = [i for i, source in enumerate(text) if "{solution-start}" in source]
    ends = [i for i, source in enumerate(text) if "{solution-end}" in source]
    if len(starts) != len(ends) or any(
        end < start for start, end in zip(starts, ends, strict=False)
    ):
        yield "a solution is begun and not ended"
        return
    for start, end in zip(starts, ends, strict=True):
        inside = [cell for cell in cells[start:end] if cell.cell_type == "code"]
        if not any(cell.outputs for cell in inside):
            yield f"the solution begun in cell {start + 1} has no output: it did not run"


def _blocks(text, directive):
    for source in text:
        yield from re.findall(rf"\{{{directive}(?:-start)?\}}.*?(?:```|~~~|:::|\Z)", source, re.S)


def _tags(cell):
    return cell.metadata.get("tags", [])
