"""Time and memory of a training step: frozen metatx beside full training, plain timm and peft.

    python recipes/benchmarks/training.py                    # about ten minutes on two cores
    python recipes/benchmarks/training.py --size nano        # about a minute

Four ways to train the same small tokenizer (a linear map) and head (another) around a transformer of one shape:
(a) metatx, frozen and packed; (b) the same network with every weight trained; (c) plain timm blocks, frozen, on a
padded batch with an attention mask; (d) peft's LoRA, r = 8, on (c). Steps are interleaved in one process, so that a
noisy machine slows all of them; times are medians, and what counts are the ratios. Memory is the peak of a process of
its own, over what it held before the model was built. The last lines compare an epoch on cached features with one
that computes them.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jsonargparse import auto_cli
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

import metatx
from metatx.sequence import TokenSequence

INPUT = 48  # numbers a token is made of
VARIANTS = {
    "a": "metatx, frozen",
    "b": "the same, fully trained",
    "c": "timm, frozen, padded",
    "d": "peft LoRA r=8 on timm, padded",
}
SIZES = {"base": "timm:vit_base_patch16_224", "nano": "nano"}


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
    backbone: Any = metatx.load_backbone(SIZES[size], pretrained=False)
    dim = backbone.dim
    tokenizer, head = nn.Linear(INPUT, dim), nn.Linear(dim, 10)
    network = backbone if variant in "ab" else plain(backbone, lora=variant == "d")
    for parameter in backbone.parameters() if variant == "b" else ():
        parameter.requires_grad = True
    trained = [p for module in (tokenizer, head, network) for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)

    def features(batch: Batch) -> Tensor:
        if variant in "ab":
            return network(TokenSequence(tokenizer(batch.packed), batch.lengths)).mean()
        x = tokenizer(batch.padded)
        x = torch.cat([backbone.cls_token.expand(len(x), -1, -1), x], dim=1)
        keep = F.pad(batch.mask, (1, 0), value=True)
        attend = None if keep.all() else keep[:, None, None]
        for block in network.blocks:
            x = block(x, attn_mask=attend)
        x = network.norm(x)[:, 1:] * batch.mask[..., None]
        return x.sum(1) / batch.mask.sum(1, keepdim=True)

    def step(batch: Batch) -> float:
        loss = F.cross_entropy(head(features(batch)), batch.targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def plain(backbone: Any, lora: bool) -> Any:
    """Timm's own transformer of the same shape and weights, frozen; with peft's LoRA around it."""
    config = backbone.config
    network: nn.Module = VisionTransformer(embed_dim=config.dim, depth=config.depth, num_heads=config.num_heads)
    own = {name: weight for name, weight in backbone.named_weights() if name.startswith(("blocks", "norm."))}
    network.load_state_dict(own, strict=False)
    network.requires_grad_(False)
    if lora:
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(r=8, lora_alpha=16, target_modules=["attn.qkv", "attn.proj"])
        network = get_peft_model(network, settings).base_model.model
    return network


def measure_memory(variant: str, size: str, lengths: list[int], answer: Any) -> None:
    """Two steps in a fresh process; MiB at the peak over what it held before (Linux)."""
    batch = make_batch(lengths)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = kilobytes("VmRSS")
    step = build(variant, size)
    step(batch), step(batch)
    answer.put((kilobytes("VmHWM") - before) / 1024)


def kilobytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def compare_steps(size: str, name: str, lengths: list[int], rounds: int) -> None:
    batch = make_batch(lengths)
    steps = {variant: build(variant, size) for variant in VARIANTS}
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for turn in range(rounds + 1):
        for variant, step in steps.items():
            started = time.perf_counter()
            step(batch)
            if turn:  # the first of each warms up
                times[variant].append(time.perf_counter() - started)
    medians = {variant: statistics.median(found) for variant, found in times.items()}
    del steps
    processes = multiprocessing.get_context("spawn")
    print(f"\n{size}, {name}: {len(lengths)} sequences, {sum(lengths)} tokens, fp32, {torch.get_num_threads()} threads")
    print(f"{'':34}{'ms':>8}{'a / it':>8}{'MiB':>8}{'a / it':>8}")
    first = 0.0
    for variant, words in VARIANTS.items():
        answer = processes.Queue()
        worker = processes.Process(target=measure_memory, args=(variant, size, lengths, answer))
        worker.start()
        memory = answer.get()
        worker.join()
        first = first or memory
        ratio = medians["a"] / medians[variant]
        print(
            f"({variant}) {words:<30}{1000 * medians[variant]:8.0f}{ratio:8.2f}{memory:8.0f}{first / memory:8.2f}",
            flush=True,
        )


def compare_epochs(count: int = 500) -> None:
    """An epoch of a linear head on images: features from the cache, and features computed."""
    import os
    import tempfile

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
        sequences: Of a batch.
        rounds: Measured steps of each variant.
    """
    rng = np.random.default_rng(0)
    compare_steps(size, "equal lengths", [136] * sequences, rounds)
    compare_steps(size, "mixed lengths", rng.integers(17, 257, sequences).tolist(), rounds)
    compare_epochs()


if __name__ == "__main__":
    auto_cli(main)
