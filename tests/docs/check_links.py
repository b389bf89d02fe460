#!/usr/bin/env python3
"""check_links.py ROOT: every relative link and picture of every Markdown file leads to a file or folder that git keeps,
and its #anchor to a heading there (of a source file: #L12, a line). One line for each that does not; exit 1. Needs no
network: links to other sites are not looked at."""
import re
import sys
from pathlib import Path

import markdown

LINKS = [r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)", r"^ {0,3}\[[^\]]+\]: +(\S+)", r"<(?:img|a)\b[^>]*?(?:src|href)=\"([^\"]+)\""]


def complaint(root, kept, file, link):
    """What is wrong with a link, or None."""
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return None
    path, _, anchor = link.partition("#")
    target = (file.parent / path).resolve() if path else file
    if not target.is_relative_to(root):
        return "leads out of the repository"
    if not target.exists():
        return "there is no such file"
    if target not in kept and not any(target in path.parents for path in kept):
        return "git ignores that file: a fresh clone has none"
    if not anchor:
        return None
    if target.suffix == ".md":
        return None if anchor in markdown.anchors(target) else "no heading there has that anchor"
    line = re.fullmatch(r"L(\d+)(?:-L(\d+))?", anchor)
    if not line or not target.is_file():
        return "only pages and lines have anchors"
    return None if int(line[2] or line[1]) <= len(target.read_text().splitlines()) else "the file has fewer lines"


def complaints(root):
    kept = set(markdown.kept(root))
    for file in markdown.files(root):
        for number, kind, line in markdown.split(file.read_text()):
            for pattern in LINKS if kind == "prose" else []:
                for link in re.findall(pattern, markdown.without_code(line)):
                    if wrong := complaint(root, kept, file, link):
                        yield f"{file.relative_to(root)}:{number}: {link}: {wrong}"


if __name__ == "__main__":
    found = list(complaints(Path(sys.argv[1]).resolve()))
    print("\n".join(found) or "every link leads somewhere")
    sys.exit(bool(found))
