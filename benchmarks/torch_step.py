#!/usr/bin/env python3
"""One optimizer step of GPT-2 or Llama in PyTorch, for comparison with train_llm on the same
machine.

The same shapes as libpar's presets: bf16 autocast over fp32 weights unless --precision fp32, fused
attention (scaled_dot_product_attention, causal; of its kernels PyTorch's choice, or --attention),
fused AdamW, clipping at norm 1, the whole model with its loss in torch.compile unless --eager,
products of fp32 parts in TF32. On a GPU if there is one. Threads: OMP_NUM_THREADS. --compile-only:
forward and backward once, so that the compiled code lies in PyTorch's cache
(TORCHINDUCTOR_CACHE_DIR) for another run.
Prints one JSON line: tokens per second from the median step, all steps' seconds, peak memory,
seconds from the process's start to the end of the first step.

    torch_step.py --model gpt2-124m --tokens 1024 --batch 16 --steps 20
"""

import argparse
import json
import math
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

SHAPES = {
    # blocks, channels, heads, KV heads, MLP width, vocabulary, Llama form
    "gpt2-124m": (12, 768, 12, 12, 3072, 50304, False),
    "gpt2-1.5b": (48, 1600, 25, 25, 6400, 50304, False),
    "llama3-8b": (32, 4096, 32, 8, 14336, 128256, True),
    "tiny": (2, 64, 4, 2, 256, 512, True),
}


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, 1e-5)


class Block(nn.Module):
    def __init__(self, C, H, K, M, llama):
        super().__init__()
        self.H, self.K, self.D, self.llama = H, K, C // H, llama
        bias = not llama
        norm = RMSNorm if llama else nn.LayerNorm
        self.norm1, self.norm2 = norm(C), norm(C)
        self.qkv = nn.Linear(C, (H + 2 * K) * self.D, bias=bias)
        self.out = nn.Linear(C, C, bias=bias)
        self.up = nn.Linear(C, 2 * M if llama else M, bias=bias)
        self.down = nn.Linear(M, C, bias=bias)

    def attention(self, x, rope):
        B, T, C = x.shape
        q, k, v = self.qkv(x).split([self.H * self.D, self.K * self.D, self.K * self.D], dim=2)
        q = q.view(B, T, self.H, self.D).transpose(1, 2)
        k = k.view(B, T, self.K, self.D).transpose(1, 2)
        v = v.view(B, T, self.K, self.D).transpose(1, 2)
        if rope is not None:
            q, k = turn(q, rope), turn(k, rope)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.K != self.H)
        return self.out(y.transpose(1, 2).reshape(B, T, C))

    def mlp(self, x):
        if not self.llama:
            return self.down(F.gelu(self.up(x), approximate="tanh"))
        gate, up = self.up(x).chunk(2, dim=2)
        return self.down(F.silu(gate) * up)

    def forward(self, x, rope):
        x = x + self.attention(self.norm1(x), rope)
        return x + self.mlp(self.norm2(x))


def turn(x, rope):
    cos, sin = rope
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


class Model(nn.Module):
    def __init__(self, L, C, H, K, M, V, llama, T):
        super().__init__()
        self.token = nn.Embedding(V, C)
        self.position = None if llama else nn.Embedding(T, C)
        self.blocks = nn.ModuleList(Block(C, H, K, M, llama) for _ in range(L))
        self.norm = RMSNorm(C) if llama else nn.LayerNorm(C)
        self.head = nn.Linear(C, V, bias=False)
        if not llama:
            self.head.weight = self.token.weight
        for p in self.parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02)
        angle = torch.arange(T)[:, None] * 500000.0 ** (-torch.arange(0, C // H, 2) / (C // H))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, ids, targets):
        x = self.token(ids)
        if self.position is not None:
            x = x + self.position(torch.arange(ids.shape[1], device=ids.device))
        rope = (self.cos, self.sin) if self.position is None else None
        for block in self.blocks:
            x = block(x, rope)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.reshape(-1))


def flops_a_token(L, C, H, K, M, V, llama, T):
    """6 a weight of a product, and 12 L C T for attention, the causal half not taken off (PaLM,
    appendix B)."""
    D = C // H
    block = C * (H + 2 * K) * D + C * C + (3 if llama else 2) * C * M
    return 6 * (L * block + C * V) + 12 * L * C * T


def seconds_here():
    """Since this process began."""
    with open("/proc/self/stat") as f:
        ticks = int(f.read().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", choices=SHAPES, default="gpt2-124m")
    parser.add_argument("--layers", type=int, help="blocks, in place of the model's")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=16, help="sequences a step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=5, help="steps that are not counted")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    parser.add_argument(
        "--attention", choices=("auto", "cudnn", "flash"), default="auto",
        help="on a GPU: by this alone"
    )
    parser.add_argument("--mode", help="of torch.compile: max-autotune, ...")
    parser.add_argument("--compile-only", action="store_true",
                        help="forward and backward once, and no update")
    args = parser.parse_args()
    shape = list(SHAPES[args.model])
    shape[0] = args.layers or shape[0]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    if args.attention != "auto":
        torch.backends.cuda.enable_flash_sdp(args.attention == "flash")
        torch.backends.cuda.enable_cudnn_sdp(args.attention == "cudnn")
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_math_sdp(False)
    with torch.device(device):
        model = Model(*shape, args.tokens)
    decay = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
        lr=1e-4,
        betas=(0.9, 0.95),
        fused=True,
    )
    forward = model if args.eager else torch.compile(model, mode=args.mode, fullgraph=True)
    ids = torch.randint(shape[5], (args.batch, args.tokens + 1), device=device)
    seconds, first_step_s = [], None
    for step in range(1 if args.compile_only else args.warmup + args.steps):
        begin = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=args.precision == "bf16"):
            loss = forward(ids[:, :-1], ids[:, 1:])
        loss.backward()
        if args.compile_only:
            loss.item()
            print(json.dumps({"program": "pytorch", "first_step_s": seconds_here()}))
            return
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()  # waits for the step
        if not math.isfinite(value):
            sys.exit(f"step {step}: loss {value}")
        first_step_s = first_step_s or seconds_here()
        if step >= args.warmup:
            seconds.append(time.perf_counter() - begin)
    n_tokens = args.batch * args.tokens
    median = statistics.median(seconds)
    print(
        json.dumps(
            {
                "program": "pytorch",
                "version": torch.__version__,
                "compiled": not args.eager,
                "model": args.model,
                "precision": args.precision,
                "layers": shape[0],
                "T": args.tokens,
                "batch": args.batch,
                "loss": value,
                "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
                "tokens_per_s": n_tokens / median,
                "flops_per_token": flops_a_token(*shape, args.tokens),
                "peak_memory_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else 0,
                "first_step_s": first_step_s,
                "seconds": [round(s, 6) for s in seconds],
            }
        )
    )


if __name__ == "__main__":
    main()
