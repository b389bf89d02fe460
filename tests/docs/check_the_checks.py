#!/usr/bin/env python3
"""check_the_checks.py LAZY: a small repository with every mistake once. Each must be found, at its line, and nothing else."""
import subprocess
import sys
import tempfile
from pathlib import Path

import check_commands
import check_links

PAGE = """# A page
[good](other.md#two-words) and [itself](#a-page), [outside](https://example.org), `[code](nowhere.md)`
[missing](nowhere.md)
[anchor](other.md#three-words)
![picture](nowhere.svg)
[built](build/made.md)
[up](../..)
[line](Makefile#L99)

    make train STEPS=3 # fine
    make trian
    make train STEPPS=3
    build/lazy --version
    build/lazy train --data tales --steps 500 --out runs/mine
    build/lazy compare --data tales --contenders lazy,sofmax --out runs/both
    build/lazy generate --model runs/toy --temprature 2
    build/lazy bench --rounds many
    tests/fuzz/run 3

```text
make no noise
```

`lazy train` has `lazy train --steps`, not `lazy train --stepps`; `lazy trian` is none. `cmake -DLAZY_GOOD=ON`, `cmake -DLAZY_BAD=ON`.
"""
MAKEFILE = """ifdef STEPPS
$(error No variable is called STEPPS)
endif
menu:
\t@echo '  make train  is there'
train:
\t@echo must not run >&2; false
"""
WRONG = {"links": [3, 4, 5, 6, 7, 8], "commands": [11, 12, 15, 16, 17, 18, 24, 24, 24]}


def lines(complaints):
    print("\n".join(complaints))
    return [int(line.split(":")[1]) for line in complaints]


with tempfile.TemporaryDirectory() as folder:
    root = Path(folder).resolve()
    for name, text in {"page.md": PAGE, "other.md": "## Two `words`\n", "Makefile": MAKEFILE, "build/made.md": "", ".gitignore": "build\n",
                       "CMakeLists.txt": "option(LAZY_GOOD)\n"}.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "--quiet", root], check=True)
    found = {"links": lines(list(check_links.complaints(root))),
             "commands": lines(list(check_commands.complaints(root, Path(sys.argv[1]).resolve())))}
if found != WRONG:
    sys.exit(f"found at lines {found}, the mistakes are at {WRONG}")
