#!/usr/bin/env python3
"""check_commands.py ROOT LAZY: every command that a Markdown file quotes works. LAZY is the built tool.

    make VERB X=..     the menu has the verb, the variables are known and make can plan it (make -n); never run: verbs install
    build/lazy ..      run for real on small sizes: one step, one seed, a model of one layer, in a scratch folder where
                       runs/toy and the files IN, in.safetensors are. Not bench, which takes minutes: it is asked for results
                       in a folder that does not exist, and refuses when it would begin
    lazy X --flag      a mention, not a whole command: X and its flags are those of `lazy X --help`
    tests/.., .ci/..   the script is there and may be run
    -DLAZY_X=..        CMake knows the option
Commands stand in code blocks (but for those called text), one a line, and between backticks. One line for each that does not work; exit 1."""
import json
import math
import os
import re
import shlex
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import markdown

SMALL = {"--steps": "1", "--layers": "1", "--channels": "8", "--heads": "1", "--kv-heads": "1", "--inner": "8", "--context": "16",
         "--window": "8", "--batch": "1"}
TRAINS = ("train", "compare")


def quoted(root):
    """Yields (where, words) for each command."""
    for file in markdown.files(root):
        for number, kind, line in markdown.split(file.read_text()):
            inline = re.findall(r"(?<!`)`([^`]+)`(?!`)", line) if kind == "prose" else []
            for text in [line] if kind == "code" else inline:
                try:
                    words = shlex.split(text.strip().removeprefix("$ "), comments=True)
                except ValueError:  # a quote that is not closed: not a command
                    continue
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words:
                    yield f"{file.relative_to(root)}:{number}: {text.strip()}", words


def with_values(words, values):
    """The words with the flags of `values` set to these, whether they were there or not."""
    for flag, value in values.items():
        at = words.index(flag) if flag in words else len(words)
        words = [*words[:at], flag, value, *words[at + 2:]]
    return words


def clean_environment():
    environment = {name: value for name, value in os.environ.items() if not re.fullmatch(r"M(AKE)?FLAGS|MAKELEVEL", name)}
    return environment | {"OMP_NUM_THREADS": "1"}


def last_line(process):
    return (process.stderr.strip() or process.stdout.strip() or f"exit {process.returncode}").split("\n")[-1]


def run(words, folder):
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          env=clean_environment())


class Checker:
    def __init__(self, root, lazy, scratch):
        self.root, self.lazy, self.scratch = root, str(lazy), scratch
        menu = run(["make"], root).stdout
        self.verbs = set(re.findall(r"^  make ([a-z-]+) ", menu, re.M))
        self.options = set(re.findall(r"\b(LAZY_[A-Z_]+)", "".join(p.read_text() for p in self.cmake_files())))
        self.helps = {}
        self.prepare()

    def cmake_files(self):
        return [self.root / "CMakeLists.txt", *self.root.glob("[!b]*/CMakeLists.txt")]

    def prepare(self):
        """What the commands of a newcomer would find: a trained model and a file of tensors."""
        header, data = {}, b""
        for name, shape in {"q": [1, 3, 1, 2], "k": [1, 3, 1, 2], "v": [1, 3, 1, 2], "bias": [1, 2], "tau": [1]}.items():
            size = 4 * math.prod(shape)
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + size]}
            data += struct.pack("<f", -0.5) * (size // 4)
        text = json.dumps(header).encode()
        for name in ("IN", "in.safetensors"):
            (self.scratch / name).write_bytes(struct.pack("<Q", len(text)) + text + data)
        if wrong := self.command(["train", "--data", "tales", "--out", "runs/toy"]):
            raise RuntimeError("the small model cannot be trained: " + wrong)

    def command(self, words):
        if words[:1] == ["bench"]:
            nowhere = with_values(words, {"--out": "nowhere/bench"})
            said = last_line(run([self.lazy, *nowhere], self.scratch))
            return None if "there is no folder nowhere" in said else said
        if words[:1] and words[0] in TRAINS and "--resume" not in words:
            words = with_values(words, SMALL | ({"--seeds": "1"} if words[0] == "compare" else {}))
        if words[:1] == ["generate"] and "--tokens" not in words:
            words = [*words, "--tokens", "2"]
        done = run([self.lazy, *words], self.scratch)
        return None if done.returncode == 0 else last_line(done)

    def help_of(self, *command):
        if command not in self.helps:
            self.helps[command] = run([self.lazy, *command, "--help"], self.scratch).stdout
        return self.helps[command]

    def mention(self, words):
        command = [w for w in words[:1] if not w.startswith("-")]
        if command and not re.search(rf"^  {re.escape(command[0])} ", self.help_of(), re.M):
            return f"lazy --help has no command {command[0]}"
        for flag in (w.split("=")[0] for w in words if w.startswith("--")):
            if not re.search(re.escape(flag) + r"\b", self.help_of(*command)):
                return f"{' '.join(['lazy', *command])} --help has no {flag}"
        return None

    def make(self, words):
        for word in words:
            if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-") and word not in self.verbs:
                return f"make has no verb {word}"
        if not words:
            return None
        done = run(["make", "--dry-run", *words], self.root)
        return None if done.returncode == 0 else last_line(done)

    def complaint(self, words):
        """What is wrong with a command, or None."""
        program = words[0]
        if program == "make":
            return self.make(words[1:])
        if program == "build/lazy":
            return self.command(words[1:])
        if program == "lazy":
            return self.mention(words[1:])
        if re.match(r"(tests|\.ci|apps)/\S*(run|build|\.sh)$", program):
            return None if os.access(self.root / program, os.X_OK) or program.endswith(".sh") and (self.root / program).exists() \
                else "there is no such script"
        for option in re.findall(r"-D(LAZY_\w+)=", " ".join(words)):
            if option not in self.options:
                return f"CMake has no option {option}"
        return None


def complaints(root, lazy):
    with tempfile.TemporaryDirectory() as scratch:
        checker = Checker(root, lazy, Path(scratch))
        answers = {}
        for where, words in quoted(root):
            key = tuple(words)
            if key not in answers:
                answers[key] = checker.complaint(words)
            if answers[key]:
                yield f"{where}: {answers[key]}"


if __name__ == "__main__":
    found = list(complaints(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()))
    print("\n".join(found) or "every command works")
    sys.exit(bool(found))
