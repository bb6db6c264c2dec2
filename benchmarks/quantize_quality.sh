#!/bin/bash
# What --quantize int8 costs in quality: a Llama of 4 layers of 256 channels is trained on a text
# here, byte by byte; then its validation perplexity, with weights as they are and rounded to 8
# bits, and greedy texts of both behind PROMPTS prompts from that text: how many tokens are the same
# up to the first other one.
#
#     benchmarks/quantize_quality.sh TEXT [BUILD]
#         PYTHON=python3 (with torch and safetensors) STEPS=300 PROMPTS=40
set -eu
text=$(realpath "$1") build=$(cd "${2:-build}" && pwd)
python=${PYTHON:-python3} steps=${STEPS:-300} n=${PROMPTS:-40}
here=$(cd "$(dirname "$0")/.." && pwd)
if ! "$python" -c 'import torch, safetensors' 2>/dev/null; then
    echo "skip: $python has no PyTorch or no safetensors (PYTHON=...)"
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
quiet() { "$@" >out 2>&1 || { cat out >&2; exit 1; }; }
quiet "$build/launcher/par" data --out t.bin --tokenizer bytes --text "$text"
quiet "$build/launcher/train_llm" --model llama-nano --layers 4 --channels 256 --heads 8 \
    --kv-heads 4 --data t.bin \
    --batch 32 --steps "$steps" --lr 2e-3 --warmup 20 --eval-every 0 --save ck --sample-tokens 0
quiet "$build/launcher/par" checkpoint export "$(ls -d ck/step_* | tail -n 1)" --hf model
quiet "$python" "$here/benchmarks/quantize_quality.py" model rounded

perplexity() { # FOLDER
    quiet "$build/launcher/train_llm" --import "$1" --tokens 64 --data t.bin --eval-only \
        --eval-batches 20 --batch 32
    sed -n 's/^perplexity //p' out
}
# prompts of 8 bytes, evenly from the text's last tenth, as JSON Lines
"$python" -c 'import json, sys
text, n = open(sys.argv[1], encoding="latin-1").read(), int(sys.argv[2])
tail = text[len(text) * 9 // 10:]
for i in range(n): print(json.dumps({"prompt": tail[i * (len(tail) - 8) // n:][:8]}))' "$text" \
    "$n" >prompts.jsonl
texts() { # QUANTIZE
    quiet "$build/launcher/train_llm" --sample --import model --tokens 64 --tokenizer bytes \
        --prompt-file prompts.jsonl \
        --sample-tokens 48 --temperature 0 --quantize "$1"
    sed -n '/^--- sample /,/^--- end/p' out >"$1.txt"
}
echo "Llama, 4 layers of 256 channels, $steps steps on $(basename "$text")"
plain=$(perplexity model) eight=$(perplexity rounded)
echo "validation perplexity: fp32 $plain, matrices of 8 bits $eight"
texts none && texts int8
"$python" -c 'import re
read = lambda f: re.split(r"^--- sample .*\n", open(f, errors="replace").read(), flags=re.M)[1:]
pairs = list(zip(read("none.txt"), read("int8.txt")))
same = [a == b for a, b in pairs]
common = [next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), 56) - 8 for a, b in pairs]
print(f"greedy texts of 48 tokens: {sum(same)} of {len(pairs)} are the same; "
      f"up to the first other token {sum(common) / len(common):.1f} on average")'
