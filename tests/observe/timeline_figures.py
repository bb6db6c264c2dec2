#!/usr/bin/env python3
"""timeline_figures.py made FILE: write a trace of two ranks whose critical path is known.
timeline_figures.py path JSON: are those the figures of it?
timeline_figures.py log JSON LOG: do the figures of a run add up, and is the bubble that of its
log?"""
import json
import sys


def made(path):
    """Rank 0 computes for 40 ms and sends, which takes 10 ms; rank 1 computes for 40 ms; both
    meet, in 10 ms more."""
    def span(pid, tid, begin, end, cat, name, **args):
        return {"ph": "X", "pid": pid, "tid": tid, "ts": begin * 1e3, "dur": (end - begin) * 1e3,
                "cat": cat, "name": name,
                "args": args}

    message = {"axis": "pp", "purpose": "x", "n": 1, "first": 0}
    vote = {"axis": "world", "purpose": "vote", "n": 1, "first": 0}
    events = [span(rank, 1, 0, 100, "call", "step", step=7) for rank in (0, 1)] + [
        span(0, 1, 0, 40, "action", "forward", n=0, chunk=0, micro=0),
        span(0, 10, 40, 50, "comm", "send", peer=1, **message),
        span(0, 11, 45, 100, "comm", "all_gather", **vote),
        span(0, 1, 45, 100, "wait", "all_gather", **vote),
        span(1, 10, 0, 50, "comm", "recv", peer=0, **message),
        span(1, 1, 0, 50, "wait", "recv", peer=0, **message),
        span(1, 1, 50, 90, "action", "forward", n=0, chunk=0, micro=0),
        span(1, 1, 51, 80, "kernel", "gemm"),
        span(1, 11, 90, 100, "comm", "all_gather", **vote),
        span(1, 1, 90, 100, "wait", "all_gather", **vote),
    ]
    with open(path, "w") as file:
        file.write('{"displayTimeUnit":"ms",\n'
                   '"otherData":{"program":"libpar","version":1,"ranks":2,\n"dropped":[0,0]},\n'
                   '"traceEvents":[\n' + ",\n".join(json.dumps(e, separators=(",", ":"))
                                                    for e in events) + "\n]}\n")


def near(a, b, by):
    return abs(a - b) <= by


if sys.argv[1] == "made":
    made(sys.argv[2])
    sys.exit(0)
figures = json.load(open(sys.argv[2]))
wrong = []
if sys.argv[1] == "path":
    step = figures["steps"][0]
    expected = {"forward": 0.08, "comm pp": 0.01, "comm world": 0.01}
    path = {use: s for use, s in step["critical_path_s"].items() if s > 1e-9}
    if set(path) != set(expected) or not all(near(path[use], expected[use], 1e-8)
                                             for use in expected):
        wrong.append(f"critical path {path}, not {expected}")
    # rank 0 works for 45 ms of its 100, rank 1 for 40; rank 1 walks for 100 ms and is busy for 40
    if step["slowest_rank"] != 0 or not near(step["slowest_s"], 0.045,
                                             1e-8) or not near(step["bubble"], 1.5, 1e-6):
        wrong.append(f"slowest {step['slowest_rank']} {step['slowest_s']}, bubble {step['bubble']}")
    if not near(step["waited_mean_s"]["comm pp"], 0.025,
                1e-8) or not near(step["waited_most_s"]["comm world"], 0.055, 1e-8):
        wrong.append(f"waits {step['waited_mean_s']} {step['waited_most_s']}")
    if figures["kernels"] != [{"name": "gemm", "calls": 1, "seconds": 0.029}]:
        wrong.append(f"kernels {figures['kernels']}")
else:
    logged = {r["step"]: r["measured"]["bubble"] for r in map(json.loads, open(sys.argv[3]))
              if r.get("event") == "step"}
    if [s["step"] for s in figures["steps"]] != [2, 3] or figures["cut_steps"]:
        wrong.append(f"steps {figures['steps']}")
    for s in figures["steps"]:
        if not near(sum(s["critical_path_s"].values()), s["seconds"], 1e-6 * s["seconds"]):
            wrong.append(f"step {s['step']}: the critical path has "
                         f"{sum(s['critical_path_s'].values())} of {s['seconds']} s")
    # A rank that loses its core between its two looks at the clock has another bubble in that step.
    pairs = [(s["bubble"], logged[s["step"]]) for s in figures["steps"]]
    if not any(near(bubble, of_log, 0.1 * of_log + 0.05) for bubble, of_log in pairs):
        wrong.append(f"bubbles and those of the log: {pairs}")
print("\n".join(wrong) or "ok")
sys.exit(bool(wrong))
