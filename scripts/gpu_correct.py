"""gpu-check's correctness: kernels, the cuda backend against the cpu one, oracles, layouts, own
attention, cuDNNs."""

import json
import os
import pathlib
import re
import subprocess
import sys

from gpu_run import Check, Failed, Skipped

# bf16, fp16: a loss is a mean of terms each off by some units of the type; runs part as training
# goes on
BOUNDS = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 5e-3}
LAYOUTS = (("tp2", 2, "--tp 2"), ("pp2", 2, "--pp 2"), ("dp2", 2, "--dp 2"),
           ("2x2x2", 8, "--tp 2 --pp 2 --dp 2"))


class Place:
    """The build, the folder for files, and how programs of the build are started."""

    def __init__(self, build, folder, tiny, oracles):
        self.build, self.folder, self.tiny, self.oracles = pathlib.Path(build), pathlib.Path(
            folder), tiny, oracles
        self.train = self.build / "launcher/train_llm"
        self.module = self.build / ("tests/cuda" if tiny else ".") / "libpar_cuda.so"
        self.env = dict(os.environ, PAR_MODULE_PATH=str(self.module.parent))
        started = subprocess.run([self.train, "--help"], env=self.env,
                                 capture_output=True, text=True)
        if started.returncode:
            sys.exit(f"gpu-check: {self.train} does not start: {started.stderr.strip()[-300:]}")
        self.help = started.stdout
        steps = "--tokens 16 --steps 2" if tiny else "--tokens 64 --steps 20"
        self.small = f"--layers 4 {steps} --vocab 512 --batch 8 --seed 7".split() + self.quiet(512)

    def quiet(self, vocabulary):
        return ("--eval-every 0 --sample-tokens 0 --run none "
                f"--data {self.folder}/{vocabulary}.bin").split()

    def mpirun(self, ranks):
        flags = pathlib.Path(__file__).with_name("mpi.sh")
        return (
            ["bash", "-c", f'. "{flags}" && exec mpirun $mpirun_flags -n {ranks} "$@"', "mpirun"]
            if ranks > 1 else []
        )

    def knows(self, word):
        return word.encode() in self.module.read_bytes()


def losses(run, place, name, args, env=None, ranks=1):
    """A training's losses, exactly; and what it printed."""
    log = place.folder / f"{name}.jsonl"
    log.unlink(missing_ok=True)
    text = run.command(place.mpirun(ranks) + [place.train, *args, "--log", log],
                       dict(place.env, **(env or {})))
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return [r["loss"] for r in records if r["event"] == "step"], text


def close_to(a, b, bound):
    if not a or len(a) != len(b):
        raise Failed(f"{len(a)} and {len(b)} losses")
    worst = max(abs(x - y) / abs(x) for x, y in zip(a, b))
    if not worst <= bound:
        raise Failed(f"largest relative difference of a loss {worst:.3g}, bound {bound:g}")
    return {"losses": len(a), "largest_difference": worst, "bound": bound}


def kernel_case(run, place, case):
    text = run.command(
        [place.build / "tests/test-kernels_cuda", case],
        dict(place.env, PAR_TEST_GPU="" if place.tiny else "1")
    )
    if f"ok {case}" not in text:
        raise Skipped(text.strip().splitlines()[0][:200])


def times(run, place):
    """The GPU's clock: events in the order in which they happened."""
    run.command([place.build / "tests/test-cuda_times"],
                dict(place.env, PAR_TEST_GPU="" if place.tiny else "1"))


def against_cpu(run, place, model, precision, own):
    """20 losses on the CPU and on the GPU, and once more there for the same bits."""
    if own and not place.knows("PAR_ATTENTION"):
        raise Skipped("this build has no PAR_ATTENTION=own")
    args = ["--model", model, *place.small, "--precision", precision]
    env = {"PAR_ATTENTION": "own"} if own else {}
    name = f"{model}-{precision}-{'own' if own else 'any'}"
    cpu, _ = losses(run, place, "cpu-" + name, args + ["--device", "cpu", "--threads", "2"])
    gpu, _ = losses(run, place, "gpu-" + name, args + ["--device", "cuda"], env)
    again, _ = losses(run, place, "again-" + name, args + ["--device", "cuda"], env)
    if gpu != again:
        raise Failed("the second run has other bits than the first")
    return close_to(cpu, gpu, BOUNDS[precision])


def with_and_without_graph(run, place, model, precision):
    if "--no-graph" not in place.help:
        raise Skipped("this build has no --no-graph")
    args = ["--model", model, *place.small, "--precision", precision, "--device", "cuda"]
    name = f"{model}-{precision}"
    graph, _ = losses(run, place, "graph-" + name, args)
    calls, _ = losses(run, place, "calls-" + name, args + ["--no-graph"])
    if graph != calls:
        raise Failed("a captured step has other bits than its calls")


def oracle(run, place, name, precision):
    folder = pathlib.Path(place.oracles) / name
    if not folder.is_dir():
        raise Skipped(f"no reference results at {folder}")
    text = run.command([place.build / "tests/oracle", folder, "--device", "cuda", "--precision",
                        precision], place.env)
    return {"last": text.strip().splitlines()[-1][:150]}


def layout(run, place, link, name, ranks, args):
    one, _ = losses(run, place, f"one-{link}-{name}", ["--model", "llama-nano", *place.small,
        "--device", "cuda"])
    many, _ = losses(
        run,
        place,
        f"many-{link}-{name}",
        [
            "--model",
            "llama-nano",
            *args.split(),
            *place.small,
            "--device",
            "cuda",
            "--allow-shared-gpu",
            "--comm",
            link,
        ],
        ranks=ranks,
    )
    return close_to(one, many, 1e-5)


def system_cudnn():
    """The cuDNN in the loader's own folders."""
    text = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True).stdout
    match = re.search(r"libcudnn\.so\.9 .*=> (\S+)", text)
    return pathlib.Path(match.group(1)) if match else None


def short_training(run, place, which, tokens):
    """What the start of a training says computes attention, with the cuDNN that is found
    first, or the system's."""
    env = {}
    if which == "system":
        library = system_cudnn()
        if not library:
            raise Skipped("the system's folders have no libcudnn.so.9")
        links = place.folder / "system-cudnn"
        links.mkdir(exist_ok=True)
        for file in library.parent.glob("libcudnn*.so*"):
            if not (links / file.name).exists():
                (links / file.name).symlink_to(file)
        env["LD_LIBRARY_PATH"] = f"{links}:{place.env.get('LD_LIBRARY_PATH', '')}"
    model = ["--model", "llama-nano"] if place.tiny else ["--model", "gpt2-124m", "--layers", "2",
        "--dropout", "0"]
    values, text = losses(
        run,
        place,
        f"cudnn-{which}-{tokens}",
        model
        + f"--tokens {tokens} --vocab 512 --batch 4 --steps 3".split()
        + place.quiet(512)
        + ["--precision", "bf16", "--device", "cuda"],
        env,
    )
    said = [line.strip() for line in text.splitlines()
            if re.search("attention|cudnn|slower|warning", line, re.I)]
    return {"last_loss": values[-1], "said": " / ".join(said)[:600] or "nothing about attention"}


def checks(place):
    """What tells most, first."""
    cases = subprocess.run(
        [place.build / "tests/test-kernels_cuda", "--list"], env=place.env,
        capture_output=True, text=True
    )
    nanos = ("gpt2-nano", "llama-nano")
    out = [Check("kernels", name, 60, kernel_case, place, name) for name in cases.stdout.split()]
    for own in (False, True):
        for model in nanos:
            for precision in BOUNDS:
                name = f"{'own attention' if own else 'cuda against cpu'} {model} {precision}"
                out.append(Check("correctness", name, 60, against_cpu, place, model,
                                 precision, own))
    for which, tokens in (("first", 256), ("system", 256), ("system", 200)):
        if not place.tiny or which == "first":
            name = f"cudnn {'found first' if which == 'first' else 'of the system'} T {tokens}"
            out.append(Check("correctness", name, 60, short_training, place, which,
                             16 if place.tiny else tokens))
    for model, precision in (("gpt2-nano", "fp32"), ("llama-nano", "bf16")):
        out.append(
            Check("correctness", f"graph {model} {precision}", 40, with_and_without_graph, place,
                  model, precision)
        )
    for name in ("gpt2-tiny", "llama-gqa", "llama-tied"):
        for precision in BOUNDS:
            out.append(Check("correctness", f"oracle {name} {precision}", 60, oracle, place,
                             name, precision))
    out.append(Check("correctness", "times", 30, times, place))
    for link in ("nccl", "staged"):
        for name, ranks, args in LAYOUTS:
            out.append(Check("correctness", f"layout {link} {name}", 90, layout, place, link,
                             name, ranks, args))
    return out
