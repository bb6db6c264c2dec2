"""gpu-check's speed: trainings, PyTorch's beside them, where a step's time goes, kernels, own
attention and cuDNN's."""

import json
import os
import pathlib
import shutil
import statistics
import subprocess

from gpu_run import Check, Skipped

# name, model, blocks, T, V, batch, steps, seconds at most
SHAPES = (
    ("gpt2-124m, batch 32", "gpt2-124m", 12, 1024, 50304, 32, 30, 40),
    ("gpt2-1.5b, 12 blocks, batch 16", "gpt2-1.5b", 12, 1024, 50304, 16, 20, 60),
    ("llama3-8b, 8 blocks, T 8192", "llama3-8b", 8, 8192, 128256, 1, 15, 90),
    ("gpt2-124m, batch 64", "gpt2-124m", 12, 1024, 50304, 64, 20, 40),
    ("gpt2-1.5b, 48 blocks, batch 8", "gpt2-1.5b", 48, 1024, 50304, 8, 12, 90),
)
TINY = (("gpt2-nano", "gpt2-nano", 2, 32, 512, 2, 8, 40),)
WARMUP = 5
REPO = pathlib.Path(__file__).resolve().parent.parent


def make_tokens(path, vocabulary, n):
    """llm.c's token files (docs/data.md), tokens of a fixed generator."""
    import array
    import random

    random.seed(1)
    wide = vocabulary > 65536
    with open(path, "wb") as f:
        array.array("i", [20240801 if wide else 20240520, 7 if wide else 1, n] + [0]
                    * 253).tofile(f)
        array.array("I" if wide else "H", (random.randrange(vocabulary)
                                           for _ in range(n))).tofile(f)


class Memory:
    """The most of the GPU's memory in use, of all processes, asked ten times per second."""

    def __enter__(self):
        try:
            self.process = subprocess.Popen(
                ("nvidia-smi -i 0 --query-gpu=memory.used --format=csv,noheader,nounits"
                 " -lms 100").split(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except FileNotFoundError:
            self.process = None
        return self

    def __exit__(self, *_):
        self.gib = None
        if self.process:
            self.process.terminate()
            used = [float(x) for x in self.process.communicate()[0].split()
                    if x.replace(".", "").isdigit()]
            self.gib = max(used) / 1024 if used else None


def flops_per_token(start):
    """6 per weight of a product, and 12 L H D T of attention, the causal half not taken off (PaLM,
    appendix B)."""
    C, D = start["channels"], start["head_size"]
    width = (start["heads"] + 2 * start["kv_heads"]) * D
    matrices = 3 if start["model"].startswith("llama") else 2
    block = C * width + start["heads"] * D * C + matrices * C * start["mlp"]
    return (
        6 * (start["layers"] * block + C * start["vocab"]) + 12 * start["layers"] * start["heads"]
        * D * start["tokens"]
    )


def figures(seconds, tokens, flops, peak, gib, first_step):
    """A step is the median of those after the warm-up; spread: upper over lower quartile."""
    q = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [seconds[0]] * 3
    out = {"tokens_per_s": tokens / q[1], "step_ms": 1e3 * q[1], "spread": q[2] / q[0],
           "first_step_s": first_step}
    if peak:
        out["mfu"] = flops * tokens / q[1] / peak
    if gib:
        out["gpu_gib"] = gib
    return out


def train(run, place, peak, shape, more=(), env=None):
    name, model, layers, T, V, B, steps, _ = shape
    log = place.folder / "speed.jsonl"
    log.unlink(missing_ok=True)
    first = []
    args = (
        f"--model {model} --layers {layers} --tokens {T} --vocab {V} --batch {B}"
        f" --micro-batch {B} --dropout 0"
    ).split()
    args += ["--steps", steps, "--precision", "bf16", "--device", "cuda", "--log", log, *more]

    def watch(line, seconds):
        if line.startswith("step ") and not first:
            first.append(seconds)

    with Memory() as memory:
        run.command([place.train, *args, *place.quiet(V)], dict(place.env, **(env or {})), watch)
    records = [json.loads(line) for line in log.read_text().splitlines()]
    start = records[0]
    seconds = [r["measured"]["seconds"] for r in records if r["event"]
               == "step"][min(WARMUP, steps - 2) :]
    return figures(seconds, B * T, flops_per_token(start), peak, memory.gib, first[0]
                   if first else None)


def clean(cache):
    """PyTorch sees none of the libraries that are found first for libpar."""
    env = {k: os.environ[k] for k in ("PATH", "HOME", "TMPDIR", "CUDA_VISIBLE_DEVICES")
           if k in os.environ}
    return dict(
        env, TORCHINDUCTOR_CACHE_DIR=str(cache), TORCHINDUCTOR_FX_GRAPH_CACHE="1",
        TORCHINDUCTOR_AUTOGRAD_CACHE="1"
    )


def says(python, program):
    """What a line of Python prints in PyTorch's environment; nothing if it fails."""
    if not shutil.which(python):
        return ""
    return subprocess.run([python, "-c", program], env=clean("/tmp"), capture_output=True,
                          text=True).stdout.strip()


def torch(run, python, cache, peak, shape, *more):
    name, model, layers, T, V, B, steps, _ = shape
    if not says(python, "import torch; print(1)"):
        raise Skipped(f"{python} has no PyTorch")
    model = "tiny" if model.endswith("nano") else model
    args = (
        f"--model {model} --layers {layers} --tokens {T} --batch {B} --steps {steps}"
        f" --warmup {WARMUP}"
    ).split()
    with Memory() as memory:
        text = run.command([python, REPO / "benchmarks/torch_step.py", *args, *more], clean(cache))
    r = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
    if "--compile-only" in more:
        return {"first_step_s": r["first_step_s"]}
    out = figures(r["seconds"], B * T, r["flops_per_token"], peak, memory.gib, r["first_step_s"])
    return dict(out, peak_allocated_gib=r["peak_memory_bytes"] / 2**30, version=r["version"])


def kernels(run, place, model, T, B, word, env, more=""):
    """Every operation at a model's shapes, with its share of the copy bandwidth."""
    program, report = place.build / "benchmarks/kernels", place.folder / "kernels.json"
    small = ("--seconds 0 --cache 0 --copy 1" if place.tiny
             else "--seconds 0.04 --cache 256 --copy 1024")
    args = (
        f"--device cuda --model {model} --tokens {T} --batch {B} --dtype bf16 --peak 989"
        f" {small} {more}"
    ).split()
    has_json = "--json" in subprocess.run([program, "--help"], capture_output=True,
                                          text=True).stdout
    text = run.command(
        [program, *args, *(["--filter", word] if word else []),
         *(["--json", report] if has_json else [])],
        dict(place.env, **env),
    )
    lines = [line for line in text.splitlines() if "/cuda/" in line or "not supported" in line]
    run.say(
        "\n".join(line[:150] for line in text.splitlines() if line in lines
                  or line.startswith(("copy", "operation")))
    )
    return {"operations": json.loads(report.read_text())} if has_json else {"lines": lines}


def attention(run, place, model, T):
    """Own attention's time over cuDNN's, forward and backward."""
    if not place.knows("PAR_ATTENTION"):
        raise Skipped("this build has no PAR_ATTENTION=own")
    took = {}
    for way, env in (("cudnn", {}), ("own", {"PAR_ATTENTION": "own"})):
        program = place.build / "benchmarks/kernels"
        small = ("--seconds 0 --cache 0 --copy 1" if place.tiny
                 else "--seconds 0.04 --cache 256 --copy 256")
        args = (
            f"--device cuda --model {model} --tokens {T}"
            f" --batch {2 if place.tiny else max(1, 16384 // T)} --dtype bf16 {small}"
        )
        args += " --filter attention"
        text = run.command([program, *args.split()], dict(place.env, **env))
        for line in text.splitlines():
            for op in ("attention backward", "attention"):
                if line.startswith(op + "  ") and "not supported" not in line:
                    took[way, op] = float(line[28:].split()[0]), line.split()[-1]
    out = {}
    for op in ("attention", "attention backward"):
        cudnn, own = took["cudnn", op], took["own", op]
        key = op.replace(" ", "_")
        out |= {
            key + "_cudnn_us": cudnn[0],
            key + "_own_us": own[0],
            key + "_own_speed": cudnn[0] / own[0],
            key + "_kernels": f"{cudnn[1]} {own[1]}",
        }
    return out


def profile(run, place, python, shape):
    """Kernel times by name and the gaps between kernels: benchmarks/gpu_profile.c, injected into a
    short training."""
    library = place.build / "benchmarks/libgpu_profile.so"
    if place.tiny:
        raise Skipped("a stand-in has no CUPTI")
    if not library.exists():
        raise Skipped("the build has no benchmarks/libgpu_profile.so: CUPTI's headers were not"
                      " found")
    folder = cupti(python)
    if not folder:
        raise Skipped("no libcupti.so.13 here")
    links = place.folder / "cupti"  # alone: other libraries beside it are not for libpar
    links.mkdir(exist_ok=True)
    (links / "libcupti.so.13").symlink_to(folder + "/libcupti.so.13")
    env = {"CUDA_INJECTION64_PATH": str(library), "GPU_PROFILE": str(place.folder / "profile.txt")}
    env["GPU_PROFILE_SKIP"] = str(WARMUP)
    env["LD_LIBRARY_PATH"] = f"{links}:{place.env.get('LD_LIBRARY_PATH', '')}"
    short = shape[:6] + (12, shape[7])
    result = train(run, place, None, short, env=env)
    table = (place.folder / "profile.txt").read_text()
    run.say(table)
    return {"table": table.splitlines(), "tokens_per_s": result["tokens_per_s"]}


def cupti(python):
    where = "import nvidia.cu13, os; print(os.path.join(list(nvidia.cu13.__path__)[0], 'lib'))"
    found = says(python, where)
    folders = [found] * bool(found) + [
        "/usr/local/cuda/extras/CUPTI/lib64",
        "/usr/local/cuda/lib64",
        "/usr/local/cuda/lib",
    ]
    return next((f for f in folders if os.path.exists(f + "/libcupti.so.13")), None)


# Shapes by their number; a lane beside another must fit the GPU's memory with it, and with the
# checks of correctness.
COMPILE_LANES = ((4,), (1, 0, 2, 3))


def compiles(place, python, cache):
    """PyTorch's compiled code into its cache, lanes beside each other and beside what else runs."""

    def check(s):
        return Check("pytorch", "compile " + s[0], 150, torch, python, cache, None, s,
                     "--compile-only")

    if place.tiny:
        return [[check(s) for s in TINY]]
    return [[check(SHAPES[i]) for i in lane] for lane in COMPILE_LANES]


def checks(place, python, cache, peak):
    """What matters most, first; libpar's training and PyTorch's beside each other."""
    shapes, pairs, own = TINY if place.tiny else SHAPES, [], []
    for s in shapes:
        pairs.append(Check("speed", s[0], s[7], train, place, peak, s))
        pairs.append(Check("pytorch", "pytorch " + s[0], s[7] + 60, torch, python, cache, peak, s))
    for model, T in (
        (("gpt2-nano", 32),)
        if place.tiny
        else (("gpt2-124m", 1024), ("gpt2-124m", 8192), ("llama3-8b", 8192), ("gpt2-124m", 2048),
              ("gpt2-124m", 4096))
    ):
        own.append(Check("speed", f"attention {model} T {T}", 20, attention, place, model, T))
    _, model, _, T, V, B, _, _ = shapes[0]
    out = pairs[:2] + [Check("speed", "profile " + shapes[0][0], 40, profile, place, python,
                             shapes[0])] + own[:3]
    out.append(Check("speed", "kernels " + model, 40, kernels, place, model, T, B, "", {},
                     f"--vocab {V}"))
    out += pairs[2:]
    if not place.tiny:
        out.append(Check("speed", "profile " + shapes[2][0], 60, profile, place, python, shapes[2]))
        out.append(Check("speed", "kernels llama3-8b", 40, kernels, place, "llama3-8b",
                         8192, 1, "", {}))
        for i in (0, 2):
            more = (python, cache, peak, shapes[i], "--attention", "cudnn")
            out.append(Check("pytorch", "pytorch cudnn attention " + shapes[i][0], 120,
                             torch, *more))
        more = (python, cache, peak, shapes[0], "--mode", "max-autotune")
        out.append(Check("pytorch", "pytorch max-autotune " + shapes[0][0], 150, torch, *more))
    return out + own[3:]


def ratios(results):
    """libpar's rate over PyTorch's, for each shape that has both."""
    by_name = {r["name"]: r["figures"] for r in results if r["ok"]}
    keys = (("tokens_per_s", 1, ".0f"), ("mfu", 100, ".1f"), ("gpu_gib", 1, ".1f"),
            ("first_step_s", 1, ".1f"))
    heads = [h for name in ("tokens/s", "MFU %", "GiB", "start s") for h in (name, "PyTorch")]
    lines = [f"{'shape':34} {'ratio':>6} " + " ".join(f"{h:>8}" for h in heads)]
    for name, f in by_name.items():
        if "tokens_per_s" not in f or name.startswith(("pytorch", "profile")):
            continue
        for way in ("", "cudnn attention ", "max-autotune "):
            p = by_name.get("pytorch " + way + name, {})
            if way and not p:
                continue
            ratio = f"{f['tokens_per_s'] / p['tokens_per_s']:.3f}" if p else "-"
            cells = [format(x[k] * by, form) if x.get(k) else "-" for k, by, form in keys
                     for x in (f, p)]
            label = "  PyTorch with " + way if way else name
            lines.append(f"{label:34} {ratio:>6} " + " ".join(f"{c:>8}" for c in cells))
    return lines
