"""The Markdown of a tree, cut into prose and code."""
import re
import subprocess
from pathlib import Path


def kept(root):
    """The files of a tree that git does not ignore: those a clone has, or will have. Without git, all but what is built."""
    git = subprocess.run(["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                         capture_output=True, text=True)
    if git.returncode != 0:
        built = re.compile(r"(build|data$|runs$|\.git$)")
        return sorted(p for p in root.rglob("*") if p.is_file() and not built.match(p.relative_to(root).parts[0]))
    return sorted({root / name for name in git.stdout.split("\0") if name and (root / name).exists()})


def files(root):
    return [path for path in kept(root) if path.suffix == ".md"]


def split(text):
    """Yields (line number, "prose", "code" or "output", line). Code is fenced, or indented behind an empty line; a fence
    called text holds what a program printed."""
    fence, fenced, indented, previous = None, "code", False, ""
    for number, line in enumerate(text.split("\n"), 1):
        mark = re.match(r" {0,3}(```+|~~~+) *(\w*)", line)
        if fence:
            if mark and mark[1].startswith(fence):
                fence = None
            else:
                yield number, fenced, line
        elif mark:
            fence, fenced = mark[1], "output" if mark[2] == "text" else "code"
        else:
            indented = line.startswith("    ") and (indented or not previous.strip())
            yield number, "code" if indented else "prose", line
        previous = line


def without_code(line):
    return re.sub(r"(`+).+?\1", "", line)


def anchors(path: Path):
    """The anchors GitHub gives a file's headings, and those that stand in it as HTML."""
    found = set(re.findall(r'<a (?:id|name)="([^"]+)"', path.read_text()))
    for _, kind, line in split(path.read_text()):
        if kind == "prose" and (heading := re.match(r"#{1,6} +(.*?)[ #]*$", line)):
            text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
            repeat = next(f"{anchor}{n}" for n in ["", *(f"-{i}" for i in range(1, 1000))] if f"{anchor}{n}" not in found)
            found.add(repeat)
    return found
