#!/usr/bin/env python3
"""What Doxygen reads in place of FILE: filter.py FILE. Line n stays line n, so that warnings point at the file.

Markdown is written for a reader of the repository. Here its links find the generated pages, its equations Doxygen's
own spelling, and a snippet stands where the comment <!-- snippet: FILE NAME --> is. C++ is written with plain comments:
here the first of a header describes the file, and one behind a member describes that member.
"""
import os
import re
import shutil
import sys

PAGES = "build/docs/html"
SOURCES = (".hpp", ".h", ".cpp", ".cu")


def slug(heading):
    """The anchor GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def label(path, anchor=""):
    """The label of a heading among all pages; without an anchor, of the page."""
    return re.sub(r"\W", "_", path.removesuffix(".md") + ("__" + anchor if anchor else ""))


def outside_code(line, change):
    """The line with everything changed but what stands between backticks, unless they stand in a link's text."""
    parts = re.split(r"(?<!\[)(`[^`]*`)(?!\])", line)
    return "".join(part if part.startswith("`") else change(part) for part in parts)


def target_of(link, folder):
    """Where a relative link leads in the generated pages, or None for nowhere."""
    path, _, anchor = link.partition("#")
    path = os.path.normpath(os.path.join(folder, path))
    if os.path.isdir(path):
        path = os.path.join(path, "README.md")
    if path.endswith(".md") and os.path.isfile(path):
        return "@ref " + label(path, anchor)
    if path.endswith(SOURCES) and path.split("/")[0] in ("reference", "cuda", "apps"):
        return "@ref " + path
    if os.path.isfile(path):
        copy = os.path.join(PAGES, "files", path)
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copyfile(path, copy)
        return "files/" + path
    return None


def markdown(lines, file):
    folder = os.path.dirname(file)

    def link(match):
        bang, text, to = match.groups()
        if re.match(r"\w+:", to):
            return match[0]
        if to.startswith("#"):
            return f"[{text}](@ref {label(file, to[1:])})"
        found = target_of(to, folder)
        if bang:
            return f'<img src="{found}" alt="{text}">'
        return f"[{text}]({found})" if found else text

    fence = None
    first = True
    for line in lines:
        opening = re.match(r"\s*(```+)(\w*)", line)
        if fence is None and opening:
            fence = opening[2]
            yield "\\f[" if fence == "math" else line
        elif fence is not None:
            closing = opening and not opening[2]
            yield "\\f]" if closing and fence == "math" else line
            if closing:
                fence = None
        elif re.match(r"#+ ", line):
            if file == "README.md" and first:
                line = "# The front door"  # or it would have the project's name, as all pages together
            heading = line.lstrip("#").strip()
            yield f"{line} {{#{label(file) if first else label(file, slug(heading))}}}"
            first = False
        elif snippet := re.match(r"<!-- snippet: (\S+) (.+) -->", line):
            yield f"\\snippet {snippet[1]} {snippet[2]}"
        else:
            line = re.sub(r"\$`(.+?)`\$", r"\\f$\1\\f$", line)
            yield outside_code(line, lambda part: re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", link, part))


def source(lines, file):
    end = 1  # of the file's own comment: behind #pragma once, or at the top
    while end < len(lines) and lines[end].startswith("//"):
        end += 1
    if lines[0].startswith("//"):  # the empty line behind it makes room for \file
        lines[: end + 1] = [""] + lines[:end]
        end += 1
    if lines[0] in ("", "#pragma once") and end > 1:
        lines[0] = "/// \\file " + file
    else:
        end = 0
    for number, line in enumerate(lines):
        if number == 0 or number >= end:
            yield re.sub(r"([;,]) +// ", r"\1 ///< ", line) if file.endswith((".hpp", ".h")) else line
        elif line.startswith("//   "):
            yield "///    " + line[2:]  # a formula
        else:
            yield "///" + outside_code(line[2:], lambda part: re.sub(r"([<>@\\])", r"\\\1", part))


if __name__ == "__main__":
    file = os.path.relpath(sys.argv[1])
    with open(file, encoding="utf-8") as text:
        lines = text.read().split("\n")
    print("\n".join((markdown if file.endswith(".md") else source)(lines, file)), end="")
