"""How gpu-check runs things: commands with limits, checks side by side or one at a time, and what
they leave.

A check is a function that returns its figures, and raises Failed or Skipped. Its commands end at
its own limit or at the end of the whole, whichever comes first, with all that they started.
"""

import concurrent.futures
import json
import os
import signal
import subprocess
import threading
import time


class Failed(Exception):
    """A check that did not hold; the text says what."""


class Skipped(Exception):
    """A check that cannot run here; the text says why."""


class Check:
    def __init__(self, kind, name, limit, call, *args):
        self.kind, self.name, self.limit, self.call, self.args = kind, name, limit, call, args


class Runner:
    """Runs checks until a deadline; keeps all results, which are written anew after each."""

    def __init__(self, seconds, out, head, text_limit=6000):
        self.deadline = time.monotonic() + seconds
        self.out, self.head, self.text_limit = out, head, text_limit
        self.results, self.lock, self.local = [], threading.Lock(), threading.local()
        self.text = open(out + ".txt", "w")

    def left(self):
        return self.deadline - time.monotonic()

    def say(self, text):
        with self.lock:
            print(text, flush=True)
            print(text, file=self.text, flush=True)

    def command(self, args, env=None, watch=None, fails=False):
        """Standard output and error of a command that succeeds, or fails. watch(line, seconds
        since the start): for each line."""
        args = [str(a) for a in args]
        begin, lines = time.monotonic(), []
        left = min(self.local.end, self.deadline) - begin
        if left <= 0:
            raise Failed("no time left before: " + " ".join(args))
        process = subprocess.Popen(
            args,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        late = threading.Event()

        def stop():
            late.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(left, stop)
        timer.start()
        for line in process.stdout:
            lines.append(line)
            if watch:
                watch(line, time.monotonic() - begin)
        status = process.wait()
        timer.cancel()
        text = "".join(lines)
        self.local.text.append("$ " + " ".join(args) + "\n" + text[-self.text_limit :])
        if late.is_set():
            raise Failed(f"stopped at its limit, after {left:.0f} s: " + " ".join(args))
        if (status != 0) != fails:
            raise Failed(f"status {status}: " + " | ".join(text.strip().splitlines()[-3:])[-400:])
        return text

    def one(self, check, until=None):
        """Run one check, at most until a moment, and keep its result; nothing that it does ends
        the others."""
        begin, until = time.monotonic(), until or self.deadline
        self.local.end, self.local.text = min(begin + check.limit, until), []
        figures, note, ok = {}, "", True
        try:
            if until - begin < 3:
                raise Skipped("no time left")
            figures = check.call(self, *check.args) or {}
        except Skipped as e:
            ok, note = None, str(e)
        except Exception as e:  # whatever it is, the others go on
            ok, note = False, f"{type(e).__name__}: {e}" if not isinstance(e, Failed) else str(e)
        result = {
            "name": check.name,
            "kind": check.kind,
            "ok": ok,
            "seconds": round(time.monotonic() - begin, 2),
            "figures": figures,
            "note": note,
        }
        with self.lock:
            self.results.append(result)
            print(f"== {check.name}\n" + "\n".join(self.local.text), file=self.text, flush=True)
            with open(self.out + ".json.part", "w") as f:
                json.dump(dict(self.head, checks=self.results), f, indent=1)
            os.replace(self.out + ".json.part", self.out + ".json")
        word = {True: "passed", False: "FAILED", None: "skipped"}[ok]
        short = ", ".join(f"{k} {number(v)}" for k, v in figures.items()
                          if isinstance(v, (int, float, str)))
        if ok is not True or check.kind != "kernels":
            self.say(f"-- {check.name}: {word} ({result['seconds']:.1f} s) {note or short}")
        return result

    def side_by_side(self, checks, jobs, until=None):
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(lambda c: self.one(c, until), checks))

    def in_order(self, checks, until=None):
        return [self.one(c, until) for c in checks]


def number(v):
    if isinstance(v, float):
        return f"{v:.4g}" if abs(v) < 1e4 else f"{v:.0f}"
    return str(v)
