#!/usr/bin/env python3
"""timeline_check.py TRACE LOG tp=T pp=P dp=D chunks=C micro=M layers=L steps=A-B: is the trace what
the schedule says?

Reads the file as any reader of Chrome's format would, and knows nothing of libpar but the layout.
Prints what is wrong."""
import collections
import json
import sys

trace, log = json.load(open(sys.argv[1])), [json.loads(line) for line in open(sys.argv[2])]
want = dict(word.split("=") for word in sys.argv[3:])
first, last = (int(x) for x in want.pop("steps").split("-"))
tp, pp, dp, chunks, micro, layers = (int(want[k])
                                     for k in ("tp", "pp", "dp", "chunks", "micro", "layers"))
ranks = tp * pp * dp
steps = range(first, last + 1)
wrong = []


def check(good, text):
    if not good:
        wrong.append(text)


spans = collections.defaultdict(list)  # (pid, tid) to spans
for e in trace["traceEvents"]:
    if e["ph"] == "X":
        e["ns"] = round(e["ts"] * 1000)
        e["end"] = e["ns"] + round(e["dur"] * 1000)
        spans[e["pid"], e["tid"]].append(e)
threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in trace["traceEvents"]
           if e["ph"] == "M" and e["name"] == "thread_name"}
processes = {e["pid"]: e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M"
             and e["name"] == "process_name"}
check(sorted(processes) == list(range(ranks)), f"processes {sorted(processes)}")
check(set(spans) <= set(threads), "a thread has no name")

# Spans of a thread nest; those of communication do not even touch.
for key, list_ in spans.items():
    list_.sort(key=lambda e: (e["ns"], -e["end"]))
    open_ = []
    for e in list_:
        while open_ and open_[-1]["end"] <= e["ns"]:
            open_.pop()
        if open_:
            check(e["end"] <= open_[-1]["end"],
                  f"{key}: {e['name']} at {e['ts']} crosses {open_[-1]['name']}")
            check(threads[key] == "compute", f"{threads[key]}: spans overlap at {e['ts']}")
        e["parents"] = list(open_)
        open_.append(e)


def main_thread(rank):
    return spans[rank, 1]


def step_of(e):
    calls = [p for p in e["parents"] if p["cat"] == "call"]
    return calls[0]["args"]["step"] if calls and calls[0]["name"] == "step" else None


# One step per rank and number; in it one forward and one backward of every chunk and micro-batch,
# in all modules.
n_parts = pp * chunks
for rank in range(ranks):
    main = main_thread(rank)
    found = [e["args"]["step"] for e in main if e["cat"] == "call" and e["name"] == "step"]
    check(found == list(steps), f"rank {rank}: steps {found}")
    for step in steps:
        mine = [e for e in main if step_of(e) == step]
        every = sorted((c, m) for c in range(chunks) for m in range(micro))
        for name in ("forward", "backward"):
            begun = sorted((e["args"]["chunk"], e["args"]["micro"]) for e in mine
                           if e["cat"] == "action" and e["name"] == name and e["args"]["n"] == 0)
            check(begun == every, f"rank {rank}, step {step}: {name}s {begun}")
            modules = collections.Counter((e["args"]["chunk"], e["args"]["micro"],
                                           e["args"]["layer"]) for e in mine
                                          if e["cat"] == "module" and e["name"] == name)
            check(set(modules.values()) == {1},
                  f"rank {rank}, step {step}: a module's {name} is there twice")
            per_micro = {sum(n for (c, m, _), n in modules.items() if m == micro_)
                         for micro_ in range(micro)}
            check(len(per_micro) == 1,
                  f"rank {rank}, step {step}: micro-batches have {per_micro} modules")
        for name in ("vote", "update", "norms", "gradients"):
            n = sum(e["cat"] == "phase" and e["name"] == name for e in mine)
            check(n == 1, f"rank {rank}, step {step}: {n} times {name}")
        kernels = [e for e in mine if e["cat"] == "kernel"]
        inside = [e for e in kernels if any(p["cat"] == "module" for p in e["parents"])]
        check(len(inside) > 10 * micro,
              f"rank {rank}, step {step}: {len(inside)} kernels in modules")
total_modules = sum(e["cat"] == "module" and e["name"] == "forward" for r in range(ranks)
                    for e in main_thread(r))
check(total_modules == len(steps) * micro * (layers + 2) * tp * dp,
      f"{total_modules} forwards of modules in all")

# Operations: the same on all ranks of a comm; messages in pairs; arrows from each send and to all
# but a collective's last.
messages, groups = collections.Counter(), collections.defaultdict(list)
for (rank, tid), list_ in spans.items():
    for e in list_:
        if e["cat"] != "comm":
            continue
        a = e["args"]
        if e["name"] in ("send", "recv"):
            pair = (rank, a["peer"]) if e["name"] == "send" else (a["peer"], rank)
            messages[a["axis"], pair, a["n"], e["name"]] += 1
        else:
            groups[a["axis"], a["first"], a["n"]].append((e["name"], a["purpose"], rank))
check(set(messages.values()) <= {1}, "a message's number is there twice")
for axis, pair, n, _ in messages:
    for name in ("send", "recv"):
        check(messages[axis, pair, n, name] == 1, f"message {n} of {axis} {pair} has no {name}")
n_messages = sum(name == "send" for *_, name in messages)
check(n_messages == len(steps) * 2 * (n_parts - 1) * micro * tp * dp
      or pp == 1, f"{n_messages} messages")
sizes = {"tp": tp, "pp": pp, "dp": dp, "tied": 2, "world": ranks}
for key, group in groups.items():
    check(len({x[:2] for x in group}) == 1, f"collective {key} is {group}")
    check(len(group) == sizes.get(key[0], len(group)), f"collective {key} has {len(group)} ranks")
arrows = collections.defaultdict(dict)
for e in trace["traceEvents"]:
    if e["ph"] in "sf":
        check(e["ph"] not in arrows[e["id"]], f"arrow {e['id']} has two ends")
        arrows[e["id"]][e["ph"]] = e
n_arrows = collections.Counter()
for id_, ends in arrows.items():
    if not {"s", "f"} <= set(ends):
        check(False, f"arrow {id_} has one end")
        continue
    check(ends["s"]["ts"] < ends["f"]["ts"], f"arrow {id_} goes back in time")
    for e in ends.values():
        ns = round(e["ts"] * 1000)
        holds = [x for x in spans[e["pid"], e["tid"]] if x["ns"] <= ns < x["end"]]
        check(len(holds) == 1 and holds[0]["cat"] == "comm",
              f"arrow {id_} ends in {len(holds)} spans")
    n_arrows[ends["s"]["name"]] += 1
check(n_arrows["message"] == n_messages, f"{n_arrows['message']} arrows of {n_messages} messages")
expected = sum(len(group) - 1 for group in groups.values())
check(n_arrows["came last"] == expected,
      f"{n_arrows['came last']} arrows of collectives, not {expected}")

# What the trainer itself measured on rank 0. A rank that loses its core between its two looks at
# the clock has another time in that step; so one of the steps must agree.
off = collections.defaultdict(list)  # per time: steps of which the spans say something else
times = {r["step"]: r["measured"] for r in log if r.get("event") == "step"}
for step in steps:
    mine = [e for e in main_thread(0) if step_of(e) == step]
    call = [e for e in main_thread(0) if e["cat"] == "call" and e["name"] == "step"
            and e["args"]["step"] == step][0]
    took, parts = {name: 0.0 for name in ("forward", "backward")}, {}
    for e in mine:
        if e["cat"] == "action" and e["name"] == "forward":
            took["forward"] += e["dur"]
        if e["cat"] == "action" and e["name"] == "backward":  # one that is cut counts as a whole
            begin, _ = parts.get((e["args"]["chunk"], e["args"]["micro"]), (e["ns"], 0))
            parts[e["args"]["chunk"], e["args"]["micro"]] = begin, e["end"]
        # what stands in front of the first module is not forward's or backward's
        at = e["parents"][-1] if e["parents"] else call
        if at["cat"] == "action" and at["name"] in took and (e["cat"] == "wait"
            or e["name"] == "data"):
            took[at["name"]] -= e["dur"]
    took["backward"] += sum(end - begin for begin, end in parts.values()) / 1000
    for name, logged in (("seconds", call["dur"]), ("forward_s", took["forward"]),
                         ("backward_s", took["backward"])):
        logged_us = 1e6 * times[step][name]
        if abs(logged_us - logged) > 0.03 * logged_us + 500:
            off[name].append(f"step {step}: {name} {logged_us:.0f} us, spans {logged:.0f}")
for texts in off.values():
    check(len(texts) < len(steps), ", ".join(texts))
print("\n".join(wrong[:20]) or "ok")
sys.exit(bool(wrong))
