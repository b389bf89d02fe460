"""The short table that ends the script's output."""

from collections import Counter

HIDDEN = ("passed", "seconds", "torch", "rounds", "exit_code", "finished", "running")


def say(text):
    print(text, flush=True)


def timed_lines(rows, peak):
    """Rows of one case. `peak`: of large products in bfloat16, in Tflop/s."""
    ours = [row["ms"] for row in rows if row["contender"].split()[0] == "Lazy" and "ms" in row]
    for row in rows:
        line = f"{row['case']:16}{row['what']:20}{row['format']:10}{row['contender'] + ' *' * row.get('mark', False):18}"
        if "failure" in row:
            yield line + "  " + row["failure"][:60]
            continue
        if row["ms"] != row["ms"]:  # NaN: rehearsed, not timed
            yield line + f"{'ran':>9}"
            continue
        ratio = f"{row['ms'] / ours[-1]:.2f}" if ours else "-"
        share = row.get("live_tiles", row.get("live_values"))
        live = f"{share:.2f}" if share is not None else ""
        line += f"{row['ms']:9.3f}{(row['most_ms'] - row['least_ms']) / row['ms']:8.0%}{ratio:>8}{live:>8}"
        if "tokens_per_second" in row:
            line += f"  {row['tokens_per_second']:,.0f} tokens/s"
            line += f", {row['tflops'] / peak:.0%} of the matrix peak" if peak else ""
        yield line + (f"  {row['note']}" if "note" in row else "")


def table(result):
    """What matters, in few lines."""
    machine, steps = result["machine"], result["steps"]
    say(f"\n{machine.get('name', machine.get('card'))}, driver {machine.get('driver_version', '-')}, commit {result['commit']}")
    for name, step in steps.items():
        facts = {k: v for k, v in step.items() if not isinstance(v, (dict, list)) and k not in HIDDEN and v != ""}
        shown = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items())
        say(f"{name:11}{'passed' if step['passed'] else 'FAILED':8}{step['seconds']:6.0f} s  {shown}")
    for number_format, run in steps.get("toy", {}).items():
        if not isinstance(run, dict):
            continue
        if "failure" in run:
            say(f"toy, {number_format}: {run['failure'].splitlines()[-1] if run['failure'] else 'cut short'}")
        else:
            seconds = "rehearsed" if run["seconds"] is None else f"{run['seconds']:.1f} s"
            say(f"toy, {number_format}: loss {run['loss']:.4f} of {run['wanted']:.4f} wanted, {run['steps']} steps, {seconds}")
    timing = steps.get("timing", {})
    for name, why in timing.get("left_out", {}).items():
        say(f"left out: {name}: {why}")
    groups = {}
    for row in timing.get("rows", []) + steps.get("training", {}).get("rows", []):
        groups.setdefault((row["case"], row["what"], row["format"]), []).append(row)
    if groups:
        say(f"\n{'case':16}{'what':20}{'format':10}{'contender':18}{'ms':>9}{'spread':>8}{'ratio':>8}{'live':>8}")
    for rows in groups.values():
        for line in timed_lines(rows, steps.get("ceilings", {}).get("cublas_bf16_tflops")):
            say(line)
    marks = Counter(row["contender"] for row in timing.get("rows", []) if row.get("mark"))
    if marks:
        say("* the mark, whom ours has to beat: " + ", ".join(f"{name} in {n}" for name, n in marks.items()) + "; ratio: time over ours")
    for name in ("training", "timing"):
        for fault in steps.get(name, {}).get("faults", []):
            say(f"FAULT: {fault}")
