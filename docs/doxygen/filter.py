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


def equations(text):
    """Dollars to Doxygen's commands, but for equations that have them already."""
    parts = re.split(r"(\\f\$.*?\\f\$)", text, flags=re.S)
    return "".join(part if n % 2 else re.sub(r"(?<![\w$])\$(?=\S)([^$]+?)(?<=\S)\$(?![\w$])", r"\\f$\1\\f$",
                                             re.sub(r"\$\$(.+?)\$\$", r"\\f[\1\\f]", part, flags=re.S))
                   for n, part in enumerate(parts))


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
        bang, text, to, stop, space = match.groups()
        behind = stop + ("\n" * text.count("\n") or space)  # Doxygen wants a link on one line
        text = text.replace("\n", " ")
        if re.match(r"\w+:", to):
            return match[0]
        if to.startswith("#"):
            return f"[{text}](@ref {label(file, to[1:])})" + behind
        found = target_of(to, folder)
        if bang:
            return f'<img src="{found}" alt="{text}">' + behind
        return (f"[{text}]({found})" if found else text) + behind

    def prose(lines):
        """Equations may go on in the next line, so a paragraph is read as a whole."""
        text = re.sub(r"\$`(.+?)`\$", r"\\f$\1\\f$", "\n".join(lines))
        text = outside_code(text, equations)
        yield from outside_code(text, lambda part: re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)([.,;:)]*)( *)", link, part)).split("\n")

    fence, indented, paragraph, title = None, False, [], True
    for line in [*lines, None]:
        mark = re.match(r"\s*(```+)(\w*)", line or "")
        heading = re.match(r"#+ +(.*)", line or "") if fence is None else None
        snippet = re.match(r"<!-- snippet: (\S+) (.+) -->", line or "")
        indented = (line or "").startswith("    ") and (indented or not paragraph or not paragraph[-1].strip())
        if line is not None and fence is None and not (mark or heading or snippet or indented):
            paragraph.append(line)
            continue
        if paragraph:
            yield from prose(paragraph)
            paragraph = []
        if line is None:
            return
        if fence is None and mark:
            fence = mark[2]
            yield "\\f[" if fence == "math" else line
        elif fence is not None:
            closing = mark and not mark[2]
            yield "\\f]" if closing and fence == "math" else line
            fence = None if closing else fence
        elif heading:
            if file == "README.md" and title:
                line = "# The front door"  # or it would have the project's name, as all pages together
            line = re.sub(r"^(#+ \d+)\.", r"\1:", line)  # a number with a dot would begin a list
            yield f"{line} {{#{label(file) if title else label(file, slug(heading[1]))}}}"
            title = False
        else:
            yield f"\\snippet {snippet[1]} {snippet[2]}" if snippet else line


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
