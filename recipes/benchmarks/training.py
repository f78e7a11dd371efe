"""Time and memory of a training step: frozen metatx beside full training, plain timm and peft.

    python recipes/benchmarks/training.py                    # about ten minutes on two cores
    python recipes/benchmarks/training.py --size nano        # about a minute

Six ways to train the same small tokenizer (a linear map) and head (another) around a transformer of one shape:
(a) metatx, frozen and packed; (b) the same network with every weight trained; (c) plain timm blocks, frozen, on a
padded batch with an attention mask; (d) peft's LoRA, r = 8, on (c); (e, f) as (a), with a precision, that is with
weights packed for oneDNN. Steps are interleaved in one process, so that a noisy machine slows all of them; times are
medians of CPU seconds, and what counts are the ratios. Memory is the peak of a process of its own, over what it held
before the model was built. The last lines compare an epoch on cached features with one that computes them.
"""

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from measuring import SIZES, Padded, medians, megabytes
from torch import Tensor, nn
from torch.nn import functional as F

import metatx
from metatx.cli.scripts import command
from metatx.sequence import TokenSequence

INPUT = 48  # numbers a token is made of
VARIANTS = {
    "a": "metatx, frozen",
    "b": "the same, fully trained",
    "c": "timm, frozen, padded",
    "d": "peft LoRA r=8 on timm, padded",
    "e": "metatx, frozen, packed fp32",
    "f": "metatx, frozen, packed bf16",
}
PACKED = {"e": "fp32", "f": "bf16"}
OURS = "abef"


@dataclass(frozen=True)
class Batch:
    """Tokens of sequences, packed (T, INPUT) and padded (S, N, INPUT) with a mask (S, N)."""

    packed: Tensor
    lengths: tuple[int, ...]
    padded: Tensor
    mask: Tensor
    targets: Tensor


def make_batch(lengths: list[int]) -> Batch:
    packed = torch.randn(sum(lengths), INPUT)
    padded, mask = TokenSequence(packed, tuple(lengths)).unpack()
    return Batch(packed, tuple(lengths), padded, mask, torch.arange(len(lengths)) % 10)


def build(variant: str, size: str) -> Callable[[Batch], float]:
    """One training step of a variant, as a function of the batch that gives the loss."""
    torch.manual_seed(0)
    backbone: Any = metatx.load_backbone(SIZES[size], pretrained=False, precision=PACKED.get(variant))
    tokenizer = nn.Linear(INPUT, backbone.dim)
    head = nn.Linear(backbone.dim, 10)
    network = backbone if variant in OURS else Padded(backbone)
    if variant == "b":
        for parameter in backbone.parameters():
            parameter.requires_grad = True
    if variant == "d":
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(r=8, lora_alpha=16, target_modules=["attn.qkv", "attn.proj"])
        network = get_peft_model(network, settings).base_model.model
    trained = [p for module in (tokenizer, head, network) for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)

    def features(batch: Batch) -> Tensor:
        if variant in OURS:
            return network(TokenSequence(tokenizer(batch.packed), batch.lengths)).mean()
        x = tokenizer(batch.padded)
        x = torch.cat([backbone.cls_token.expand(len(x), -1, -1), x], dim=1)
        keep = F.pad(batch.mask, (1, 0), value=True)
        x = network(x, None if keep.all() else keep[:, None, None])[:, 1:] * batch.mask[..., None]
        return x.sum(1) / batch.mask.sum(1, keepdim=True)

    def step(batch: Batch) -> float:
        loss = F.cross_entropy(head(features(batch)), batch.targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def measure_memory(variant: str, size: str, lengths: list[int], answer: Any) -> None:
    """Two steps in a fresh process; MiB at the peak over what it held before (Linux)."""
    batch = make_batch(lengths)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = megabytes()
    step = build(variant, size)
    step(batch)
    step(batch)
    answer.put((megabytes("VmHWM") - before) * 1e6 / 2**20)


def compare_steps(size: str, name: str, lengths: list[int], rounds: int) -> None:
    batch = make_batch(lengths)
    steps = {variant: partial(build(variant, size), batch) for variant in VARIANTS}
    seconds = medians(steps, rounds, time.process_time)
    del steps
    processes = multiprocessing.get_context("spawn")
    print(f"\n{size}, {name}: {len(lengths)} sequences, {sum(lengths)} tokens, fp32, {torch.get_num_threads()} threads")
    print(f"{'':34}{'ms':>8}{'a / it':>8}{'it / b':>8}{'MiB':>8}{'a / it':>8}")
    first = 0.0
    for variant, words in VARIANTS.items():
        answer = processes.Queue()
        worker = processes.Process(target=measure_memory, args=(variant, size, lengths, answer))
        worker.start()
        memory = answer.get()
        worker.join()
        first = first or memory
        ratios = f"{seconds['a'] / seconds[variant]:8.2f}{seconds[variant] / seconds['b']:8.2f}"
        times = f"{1000 * seconds[variant]:8.0f}{ratios}"
        print(f"({variant}) {words:<30}{times}{memory:8.0f}{first / memory:8.2f}", flush=True)


def compare_epochs(count: int = 500) -> None:
    """An epoch of a linear head on images: features from the cache, and features computed."""
    os.environ["METATX_CACHE"] = tempfile.mkdtemp()
    images = list(np.random.default_rng(0).integers(0, 255, (count, 64, 64, 3), dtype=np.uint8))
    data = (images, [index % 10 for index in range(count)])
    backbone = metatx.load_backbone("nano")
    seconds = {}
    for cache in (False, True):
        task = metatx.Task.from_data(backbone, "image", data).fit(data, epochs=4, cache=cache)
        seconds[cache] = statistics.median(row["seconds"] for row in task.history[1:])
    print(
        f"\nepoch of {count} images on nano: {seconds[False]:.2f} s computed, {seconds[True]:.4f} s from the cache, "
        f"{seconds[False] / seconds[True]:.0f} times faster"
    )


def main(*, size: Literal["base", "nano"] = "base", sequences: int = 8, rounds: int = 5) -> None:
    """Compare training steps.

    Args:
        size: A network of ViT-B/16's shape, or nano.
        sequences: Number of sequences in a batch.
        rounds: Measured steps of each variant.
    """
    rng = np.random.default_rng(0)
    compare_steps(size, "equal lengths", [136] * sequences, rounds)
    compare_steps(size, "mixed lengths", rng.integers(17, 257, sequences).tolist(), rounds)
    compare_epochs()


if __name__ == "__main__":
    command(main)
