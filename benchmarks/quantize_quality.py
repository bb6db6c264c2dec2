#!/usr/bin/env python3
"""Round the matrices of a safetensors folder as --quantize int8 does, into another folder.

    benchmarks/quantize_quality.py FOLDER ROUNDED

For perplexity: a model of rounded weights is what products with 8-bit copies compute. Linear
weights [out, in] alone, so for the families whose files have them so (Llama's and its relatives),
with a head of its own.
"""
import pathlib
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file

GROUP = 128


def rounded(w):
    out = w.clone()
    for part in out.split(GROUP, dim=1):
        largest = part.abs().amax(dim=1, keepdim=True)
        part.copy_(torch.round(part * (127 / largest)) * (largest / 127))
    return out


source, target = map(pathlib.Path, sys.argv[1:])
tensors = load_file(source / "model.safetensors")
linear = [n for n, w in tensors.items() if w.ndim == 2 and "embed" not in n]
shutil.copytree(source, target)
save_file({n: rounded(w.float()) if n in linear else w for n, w in tensors.items()},
          target / "model.safetensors",
          metadata={"format": "pt"})
print(f"{len(linear)} of {len(tensors)} tensors rounded")
