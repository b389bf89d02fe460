"""Other programs, run for a while: what they said, and nothing of them is left."""

import os
import signal
import subprocess

running = set()


def kill(process, how):
    try:
        os.killpg(process.pid, how)
    except ProcessLookupError:
        pass


def run(command, seconds, cwd=None, **environment):
    """(exit code, output); 124 if it took too long, 127 if it is not there. What it started ends with it."""
    try:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=cwd,
            env={**os.environ, **environment},
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as missing:
        return 127, str(missing)
    running.add(process)
    code, output = None, ""
    for patience, then in ((max(seconds, 1), signal.SIGTERM), (3, signal.SIGKILL), (3, signal.SIGKILL)):
        try:
            output, _ = process.communicate(timeout=patience)
            code = process.returncode if code is None else code
            break
        except subprocess.TimeoutExpired:
            code = 124
            kill(process, then)  # first so that those with children in groups of their own (ninja) may end them
    if code == 124:
        kill(process, signal.SIGKILL)
        output += f"\n(stopped after {seconds:.0f} s)"
    running.discard(process)
    return code, output


def end_together():
    """What runs ends when this program is told to."""

    def end(number, _):
        for process in list(running):
            kill(process, signal.SIGKILL)
        os._exit(128 + number)  # whatever is under way, and whoever would catch an exception

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
