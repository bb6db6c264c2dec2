"""gpu-check's correctness: kernels, the cuda backend against the cpu one, oracles, layouts, own
attention, cuDNNs, checkpoints, texts, a rank that is killed."""

import json
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import threading

from gpu_run import Check, Failed, Skipped

# bf16, fp16: a loss is a mean of terms each off by some units of the type; runs part as training
# goes on
BOUNDS = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 5e-3}
LAYOUTS = (("tp2", 2, "--tp 2"), ("pp2", 2, "--pp 2"), ("dp2", 2, "--dp 2"),
           ("2x2x2", 8, "--tp 2 --pp 2 --dp 2"))
# tokens of 16 ids, one of which ends a document; many blocks of logits of 1 MiB
DOCUMENTS = "--documents apart --document-end 3 --data {folder}/16.bin"
BLOCKS = "--vocab 8192 --logits-memory 1"
# name, model, precision, options, own attention
VARIANTS = (
    ("documents apart, fp32", "llama-nano", "fp32", DOCUMENTS, False),
    ("documents apart, D 64, bf16", "llama-nano", "bf16", DOCUMENTS + " --head-size 64", False),
    ("documents apart, D 256, dropout, fp16", "gpt2-nano", "fp16",
     DOCUMENTS + " --heads 1 --head-size 256 --dropout 0.1", False),
    ("own attention D 256, bf16", "llama-nano", "bf16",
     "--heads 2 --kv-heads 1 --head-size 256", True),
    ("dropout, D 64, bf16", "gpt2-nano", "bf16", "--dropout 0.1 --head-size 64", False),
    ("head in blocks, fp32", "gpt2-nano", "fp32", BLOCKS, False),
    ("head in blocks, bf16", "llama-nano", "bf16", BLOCKS, False),
    ("head in blocks, fp16", "gpt2-nano", "fp16", BLOCKS, False),
)
# Of the wide model each half of a block is a bucket: name, link, options. The last one is beside
# one rank with fp32 gradients: bf16 keeps 2^-9 of each.
WIDE = (("cuts nccl zero 1", "nccl", "--zero 1", 1e-5), ("cuts nccl zero 0", "nccl", "", 1e-5),
        ("cuts staged zero 1", "staged", "--zero 1", 1e-5),
        ("gradients as bf16, staged", "staged", "--reduce-dtype bf16", 2e-2))


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
        steps = ("--layers 2 --tokens 16 --steps 2" if tiny
                 else "--layers 4 --tokens 64 --steps 20")
        self.small = f"{steps} --vocab 512 --batch 8 --seed 7".split() + self.quiet(512)
        self.kept, self.locks, self.lock = {}, {}, threading.Lock()

    def once(self, key, call):
        """What the first call with a key returned: what several checks compare with."""
        with self.lock:
            lock = self.locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self.kept:
                self.kept[key] = call()
            return self.kept[key]

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


def kept_losses(run, place, args):
    """The same of one rank; run once for all checks that want it."""
    key = " ".join(str(a) for a in args)
    name = f"kept-{abs(hash(key))}"
    return place.once(key, lambda: losses(run, place, name, args)[0])


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


def against_cpu(run, place, model, precision, own, name=None, options=""):
    """20 losses on the CPU and on the GPU, and once more there for the same bits."""
    if own and not place.knows("PAR_ATTENTION"):
        raise Skipped("this build has no PAR_ATTENTION=own")
    args = ["--model", model, *place.small, "--precision", precision]
    args += options.format(folder=place.folder).split()
    env = {"PAR_ATTENTION": "own"} if own else {}
    name = re.sub(r"\W+", "-", name or f"{model}-{precision}-{'own' if own else 'any'}")
    cpu = kept_losses(run, place, args + ["--device", "cpu", "--threads", "2"])
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


def layout(run, place, link, name, ranks, args, alike=(), bound=1e-5):
    """Ranks that share the GPU against one; alike: options of both. Over NCCL steps are graphs."""
    both = ["--model", "llama-nano", *place.small, "--device", "cuda", *alike]
    one = kept_losses(run, place, both)
    many, text = losses(run, place, f"many-{link}-{name}",
                        both + args.split() + ["--allow-shared-gpu", "--comm", link], ranks=ranks)
    if link == "nccl" and ("steps: as graphs" not in text or "steps: call by call" in text):
        raise Failed("its steps are no graphs")
    return close_to(one, many, bound)


def wide(place):
    return f"--model gpt2-nano --heads 8 --channels {128 if place.tiny else 512}" \
        " --layers 3 --micro-batch 2".split()


def suite(run, place, name, at_least=1):
    """A suite of the build, on the GPU; on the stand-ins where there is none."""
    text = run.command([place.build / "tests" / name],
                       dict(place.env, PAR_TEST_GPU="" if place.tiny else "1"))
    passed = len(re.findall("^ok ", text, re.M))
    if passed < at_least:
        raise Failed(f"{passed} cases passed: " + text.strip()[-200:])
    return {"cases": passed}


def strict(run, place):
    """--strict-kernels refuses what a warning tells of, and nothing else."""
    args = ["--model", "llama-nano" if place.tiny else "gpt2-124m", "--layers", "2", "--dropout",
            "0", "--vocab", "512", "--batch", "2", "--steps", "1", "--device", "cuda",
            *place.quiet(512)]
    said = {}
    for name, more in (("best", "--precision bf16 --tokens 64"),
                       ("staged", "--precision bf16 --tokens 64 --dp 2 --allow-shared-gpu")):
        ranks = 2 if name == "staged" else 1
        command = place.mpirun(ranks) + [place.train, *args, *more.split()]
        slower = re.findall("^warning: (.*)", run.command(command, place.env), re.M)
        text = run.command(command + ["--strict-kernels"], place.env, fails=bool(slower))
        if slower and "--strict-kernels: " + slower[0][:30] not in text:
            raise Failed("the refusal does not say: " + slower[0][:200])
        said[name] = " / ".join(slower)[:300] or "nothing slower"
    if "link dp" not in said["staged"]:
        raise Failed("a shared GPU's staged link is no warning: " + said["staged"])
    return said


def saved(run, place, device, folder, options):
    """A training that saves; Skipped where the build has no checkpoints."""
    if not (place.build / "launcher/par").exists():
        raise Skipped("the build has no launcher/par")
    command = [place.train, *options, "--device", device, "--save", folder]
    try:
        return run.command(command, place.env)
    except Failed as e:
        raise Skipped(str(e)) if "has no HDF5" in str(e) else e


def initial_weights(run, place):
    """Drawn for the GPU, they have the CPU's bits: a first step at rate 0 changes none."""
    options = ["--model", "gpt2-nano", *place.small, "--steps", "1", "--lr", "0", "--min-lr", "0",
               "--warmup", "0"]
    files = []
    for device in ("cpu", "cuda"):
        folder = place.folder / f"initial-{device}"
        saved(run, place, device, folder, options)
        files.append(place.folder / f"initial-{device}.bin")
        run.command([place.build / "launcher/par", "checkpoint", "export", folder, "--llmc",
                     files[-1]], place.env)
    cpu, cuda = (f.read_bytes() for f in files)
    if cpu != cuda:
        raise Failed(f"{len(cpu)} and {len(cuda)} bytes of weights differ")
    return {"bytes": len(cpu)}


def resumed(run, place):
    """A run that goes on from its half has the bits of one that was not interrupted."""
    half = 1 if place.tiny else 10
    options = ["--model", "llama-nano", *place.small, "--precision", "bf16", "--steps",
               str(2 * half), "--save-every", str(half)]
    whole = place.folder / "whole"
    log = place.folder / "whole.jsonl"
    saved(run, place, "cuda", whole, options + ["--log", log])
    records = [json.loads(line) for line in log.read_text().splitlines()]
    expected = [r["loss"] for r in records if r["event"] == "step"][half:]
    got, _ = losses(run, place, "half", options + [
        "--device", "cuda", "--save", place.folder / "half", "--resume",
        whole / f"step_{half:08}"])
    if got != expected:
        raise Failed(f"losses {got[:3]} in place of {expected[:3]}")


def sample_of(text):
    return re.findall("^--- sample .*?^--- end of sample", text, re.M | re.S)


def written(run, place):
    """Texts and a validation from one checkpoint, by the CPU and the GPU."""
    folder, data = place.folder / "writer", ["--data", str(place.folder / "256.bin")]
    saved(run, place, "cpu", folder, ["--model", "gpt2-nano", *place.small, "--vocab", "256",
                                      *data])
    figures = {}
    for name, more in (("fp32", ""), ("int8", "--quantize int8"), ("bf16", "--precision bf16")):
        texts = [sample_of(run.command(
            [place.train, "--sample", "--resume", folder, "--device", device, "--tokenizer",
             "bytes", "--prompt", "line", "--sample-tokens", "8", "--temperature", "0",
             "--run", "none", *more.split()], place.env)) for device in ("cpu", "cuda")]
        if not texts[1] or (name == "fp32" and texts[0] != texts[1]):
            raise Failed(f"{name}: {texts[0]} and {texts[1]}")
        figures["text_" + name] = "as the CPU's" if texts[0] == texts[1] else "another"
    validation = []  # printed with 4 digits behind the point, of some 5.5
    for device in ("cpu", "cuda"):
        text = run.command([place.train, "--eval-only", "--resume", folder, "--device", device,
                            "--run", "none", *data], place.env)
        validation.append([float(re.search("^val loss ([0-9.]+)", text, re.M).group(1))])
    return dict(figures, **close_to(*validation, 4e-5))


def killed(run, place):
    """One of two ranks over NCCL is killed in its steps, which are graphs: the job ends."""
    log = place.folder / "killed.jsonl"

    def watch(line, seconds):
        if line.startswith("step 5/"):
            page = next(place.folder.glob("killed.jsonl.ranks-*/rank_00001.page"))
            os.kill(struct.unpack("q", page.read_bytes()[24:32])[0], signal.SIGKILL)

    options = ["--model", "llama-nano", *place.small, "--steps", "1000000", "--log-every", "1",
               "--dp", "2", "--device", "cuda", "--allow-shared-gpu", "--comm", "nccl", "--log",
               log]
    run.command(place.mpirun(2) + [place.train, *options], place.env, watch, fails=True)


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
    """What tells most, first; gpu-check puts what no GPU has run yet before the rest."""
    cases = subprocess.run(
        [place.build / "tests/test-kernels_cuda", "--list"], env=place.env,
        capture_output=True, text=True
    )
    nanos = ("gpt2-nano", "llama-nano")
    out = [Check("kernels", name, 60, kernel_case, place, name) for name in cases.stdout.split()]

    def add(name, limit, call, *args):
        out.append(Check("correctness", name, limit, call, place, *args))

    wide_model = wide(place)
    for name, link, args, bound in WIDE:
        add(name, 90, layout, link, name, 2, "--dp 2 " + args, wide_model, bound)
    for name, model, precision, options, own in VARIANTS:
        add(name, 120, against_cpu, model, precision, own, name, options)
    for precision, bound in BOUNDS.items():
        add(f"head over tp, {precision}", 90, layout, "nccl", f"head-{precision}", 2, "--tp 2",
            ("--precision", precision, *BLOCKS.split()), bound)
    add("layout nccl tp2, rows in pieces", 90, layout, "nccl", "pieces", 2,
        "--tp 2 --tp-pieces 2")
    add("strict kernels", 90, strict)
    add("initial weights", 60, initial_weights)
    add("resumed", 60, resumed)
    add("texts and validation of a checkpoint", 120, written)
    add("a killed rank, nccl", 60, killed)
    add("captured calls", 60, suite, "test-cuda_graphs", 3)
    add("suite train-cuda", 120, suite, "test-train-cuda")
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
