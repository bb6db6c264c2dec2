#!/usr/bin/env python3
"""beside_tokenizers.py PAR GPT2 TEXT [RUNS]: `par data` beside tiktoken and Hugging Face's
tokenizers, on one core and on two.

PAR: the program; GPT2: a folder with vocab.json or encoder.json and merges.txt or vocab.bpe; TEXT:
a file, repeated up to 32 MB as documents of about 100 kB in JSON Lines. Needs `pip install tiktoken
tokenizers`. Runs take turns, so that a busy machine is busy for all; medians and the spread. `par
data` reads JSON, encodes and writes a token file; the others encode texts in memory, their start
and their reading are not counted.
"""
import json, os, statistics, subprocess, sys, tempfile, time

import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tokenizers import Tokenizer, models, pre_tokenizers

PAR, GPT2, TEXT = sys.argv[1:4]
RUNS = int(sys.argv[4]) if len(sys.argv) > 4 else 5
SPLIT = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


def there(*names):
    return next(os.path.join(GPT2, name)
                for name in names if os.path.exists(os.path.join(GPT2, name)))


def main():
    vocab, merges = there("vocab.json", "encoder.json"), there("merges.txt", "vocab.bpe")
    text = open(TEXT, encoding="utf-8").read()
    documents = [text[at:at + 100000] for at in range(0, len(text), 100000)]
    n = sum(len(d.encode()) for d in documents)
    documents *= max(1, 32000000 // n)
    n = sum(len(d.encode()) for d in documents)
    tik = tiktoken.Encoding("gpt2", pat_str=SPLIT, special_tokens={},
                            mergeable_ranks=data_gym_to_mergeable_bpe_ranks(merges, vocab))
    face = Tokenizer(models.BPE.from_file(vocab, merges))
    face.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    place = tempfile.TemporaryDirectory()
    lines, out = os.path.join(place.name, "t.jsonl"), os.path.join(place.name, "t.bin")
    with open(lines, "w") as file:
        file.writelines(json.dumps({"text": d}) + "\n" for d in documents)

    def par(cores):
        subprocess.run(["taskset", "-c", cores, PAR, "data", "--out", out, "--tokenizer", "gpt2:"
                        + GPT2, "--jsonl", lines, "--field",
                        "text"], check=True, stdout=subprocess.DEVNULL)


    all_cores = os.sched_getaffinity(0)
    one, two = {min(all_cores)}, set(sorted(all_cores)[:2])
    names = lambda cores: ",".join(map(str, sorted(cores)))
    kinds = {"par data, 1 core": lambda: par(names(one)),
             "par data, 2 cores": lambda: par(names(two)),
             "tiktoken, 1 thread": lambda: [tik.encode_ordinary(d) for d in documents],
             "tiktoken, 2 threads": lambda: tik.encode_ordinary_batch(documents, num_threads=2),
             "tokenizers, 1 thread": lambda: [face.encode(d) for d in documents],
             "tokenizers, 2 threads": lambda: face.encode_batch(documents)}
    seconds = {name: [] for name in kinds}
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    for _ in range(RUNS):
        for name, work in kinds.items():
            begin = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - begin)
    model = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                 if line.startswith("model name"))
    print("# %s, %d cores; load %.1f; %d documents, %.1f MB; %d runs"
          % (model, os.cpu_count(), os.getloadavg()[0], len(documents), n / 1e6, RUNS))
    for name, times in seconds.items():
        rates = sorted(n / 1e6 / s for s in times)
        print("%-24s %6.1f MB/s (%.1f to %.1f)" % (name, statistics.median(rates),
                                                   rates[0], rates[-1]))


main()
