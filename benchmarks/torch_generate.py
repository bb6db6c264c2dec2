#!/usr/bin/env python3
"""Greedy generation with a cache by Hugging Face transformers, batch 1: tokens per second, as JSON.

    benchmarks/torch_generate.py FOLDER --tokens 64 --precision fp32 --threads 2 --prompt 5
"""
import argparse
import json
import time

import torch
import transformers

p = argparse.ArgumentParser()
p.add_argument("folder")
p.add_argument("--tokens", type=int, default=64)
p.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
p.add_argument("--threads", type=int, default=2)
p.add_argument("--prompt", type=int, default=5, help="tokens of the prompt")
a = p.parse_args()
if a.threads > 0:
    torch.set_num_threads(a.threads)
dtype = torch.float32 if a.precision == "fp32" else torch.bfloat16
model = transformers.AutoModelForCausalLM.from_pretrained(a.folder, dtype=dtype).eval()
prompt = torch.full((1, a.prompt), 97)
options = dict(attention_mask=torch.ones_like(prompt), do_sample=False, use_cache=True,
               pad_token_id=0)
with torch.inference_mode():
    model.generate(prompt, max_new_tokens=4, min_new_tokens=4, **options)
    begin = time.perf_counter()
    ids = model.generate(prompt, max_new_tokens=a.tokens, min_new_tokens=a.tokens, **options)
    seconds = time.perf_counter() - begin
n = ids.shape[1] - prompt.shape[1]
print(json.dumps({"tokens": n, "seconds": seconds, "tokens_per_s": n / seconds}))
