"""Gain of one pass for many tasks, and cost of their adapters.

    python recipes/benchmarks/pool.py                          # nano, about a minute on one core
    python recipes/benchmarks/pool.py --size base --rounds 3   # ViT-B/16's shape, about five
    python recipes/benchmarks/pool.py --only precisions        # packed weights in each precision against plain ones
    python recipes/benchmarks/pool.py --only stacking          # tokenizers and heads of many tasks in one call

Ways are interleaved. Times are medians of CPU seconds, so that other programs count less; what counts are the ratios.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import torch
from measuring import SIZES, Padded, medians

import metatx
from metatx.backbone.names import PRECISIONS
from metatx.cli.scripts import command

RNG = np.random.default_rng(0)
EVERY_LAYER = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
LOADS = {  # kinds of tasks, in turn; aim
    "short inputs": (("series", "lora"), "1.8"),
    "most are pictures": (("image", "image lora", "image", "image lora", "image", "lora"), "1.1"),
}
KINDS = ("series", "image", "lora", "image lora")
SERIES = {"stride": 16, "channels": "mixed"}
INPUTS = (1, 2, 4)


def samples(lengths: list[int]) -> list[np.ndarray]:
    """One sample for each number of tokens, CLS and that of the statistics counted."""
    return [RNG.normal(size=(1, 16 * (length - 2))) for length in lengths]


def new_task(backbone: metatx.Backbone, kind: str) -> metatx.Task:
    """A task of a series or of pictures, or one of these with LoRA on all linear layers."""
    image = "image" in kind
    lora = "lora" in kind
    inputs: Any = list(np.zeros((8, 32, 32, 3), dtype=np.uint8)) if image else samples([9] * 8)
    return metatx.Task.from_data(
        backbone,
        "image" if image else "time_series",
        (inputs, list("abababab")),
        tokenizer_options={"freeze_stem": False} if image else SERIES,
        tune="lora" if lora else "frozen",
        adapter_options={"r": 8, "target_modules": EVERY_LAYER} if lora else None,
    )


def saved(backbone: metatx.Backbone, folder: Path) -> dict[str, Path]:
    return {kind: new_task(backbone, kind).save_pretrained(folder / kind) for kind in KINDS}


def cpu_seconds(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    return medians(ways, rounds, time.process_time)


def show(what: str, value: float, unit: str = "x", aim: str = "") -> None:
    print(f"{what:<78}{value:8.2f} {unit:<3}{aim and f'aim {aim}'}", flush=True)


def filled(backbone: metatx.Backbone, folder: Path, count: int) -> metatx.TaskPool:
    """A pool in which one saved task has many names, and is loaded for each."""
    pool = metatx.TaskPool(backbone)
    for number in range(count):
        pool.add(str(number), folder, pinned=True)
    return pool


def ask(pool: metatx.TaskPool, lengths: list[int], tasks: int) -> list[Any]:
    return [pool.prepare(str(i % tasks), sample) for i, sample in enumerate(samples(lengths))]


@torch.inference_mode()
def mixed_batches(pool: metatx.TaskPool, repeats: int, rounds: int) -> None:
    lengths = [17, 64, 197, 256] * repeats
    mixed, dense = ask(pool, lengths, 12), ask(pool, [round(sum(lengths) / len(lengths))] * len(lengths), 12)
    keep = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    network, x = Padded(pool.backbone).eval(), torch.randn(len(lengths), max(lengths), pool.backbone.dim)
    ways = {"mixed": lambda: pool.answer(mixed), "dense": lambda: pool.answer(dense)}
    found = cpu_seconds({**ways, "padded": lambda: network(x, keep[:, None, None])}, rounds)
    per_token = found["mixed"] / sum(lengths)
    show("tokens a second, one mixed batch", 1 / per_token, "/s")
    show("  against equal lengths", found["dense"] / sum(r.tokens for r in dense) / per_token, aim="0.95")
    show("  against one padded batch with a mask", found["padded"] / found["mixed"], aim="1.8")
    short = ask(pool, RNG.integers(3, 21, 64).tolist(), 12)
    found = cpu_seconds(
        {"mixed": lambda: pool.answer(short), "single": lambda: [pool.answer([r]) for r in short]}, rounds
    )
    show("  64 short sequences (3 to 20 tokens) against one by one", found["single"] / found["mixed"], aim="2.3")
    asked = [(str(i % 12), sample) for i, sample in enumerate(samples(lengths))]
    same = sum(np.array_equal(pool.embed([one])[0], found) for one, found in zip(asked, pool.embed(asked), strict=True))
    show(f"  embeddings that are bit for bit those of the sample alone, of {len(lengths)}", same, "")


@torch.inference_mode()
def adapters(backbone: metatx.Backbone, folders: dict[str, Path], rounds: int, count: int) -> None:
    from peft import LoraConfig, get_peft_model

    plain, lora = (filled(backbone, folders[kind], count) for kind in ("series", "lora"))
    model = get_peft_model(Padded(backbone), LoraConfig(r=8, target_modules=EVERY_LAYER), adapter_name="0").eval()
    for number in range(1, count):
        model.add_adapter(str(number), LoraConfig(r=8, target_modules=EVERY_LAYER))
    x, names = torch.randn(count, 64, backbone.dim), list(map(str, range(count)))
    asked, same = ask(plain, [64] * count, count), ask(lora, [64] * count, count)
    ways = {"plain": lambda: plain.answer(asked), "lora": lambda: lora.answer(same)}
    found = cpu_seconds({**ways, "peft": lambda: model(x, adapter_names=names)}, rounds)
    show(f"{count} LoRA tasks (r=8, all linear layers) against none", found["plain"] / found["lora"], aim="0.90")
    show("  against peft's own mixed batch (adapter_names)", found["peft"] / found["lora"], aim="1.5")


@torch.inference_mode()
def across_tasks(backbone: metatx.Backbone, folders: dict[str, Path], rounds: int, count: int, load: str) -> None:
    """Requests drawn by Zipf's law, one a task on average, half of them with LoRA: one pass, or one for each task."""
    kinds, aim = LOADS[load]
    pool, share = metatx.TaskPool(backbone), 1 / np.arange(1, count + 1)
    for number in range(count):
        pool.add(str(number), folders[kinds[number % len(kinds)]], pinned=True)
    picture, series = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8), samples(RNG.integers(3, 21, count).tolist())
    requests = [
        pool.prepare(str(number), picture if "image" in kinds[number % len(kinds)] else one)
        for number, one in zip(RNG.choice(count, count, p=share / share.sum()), series, strict=True)
    ]
    own = [[one for one in requests if one.name == name] for name in dict.fromkeys(one.name for one in requests)]
    ways = {"one": lambda: pool.answer(requests), "each": lambda: [pool.answer(some) for some in own]}
    found = cpu_seconds(ways, rounds)
    show(f"{count} requests of {len(own)} tasks, {load}, against one by task", found["each"] / found["one"], aim=aim)


@torch.inference_mode()
def precisions(size: str, folders: dict[str, Path], rounds: int, count: int, repeats: int) -> None:
    """Pools of the same tasks in each precision, on requests of many tasks and of mixed lengths, against plain layers.

    The error is that of the embeddings.
    """
    lengths = {
        f"{count} requests of {count} tasks": (RNG.integers(3, 33, count).tolist(), count),
        "mixed lengths": ([17, 64, 197, 256] * repeats, 5),
    }
    pools = {}
    for precision in (None, *PRECISIONS[1:]):
        backbone = metatx.load_backbone(SIZES[size], pretrained=False, precision=precision)
        pools[precision or "plain"] = filled(backbone, folders["series"], count)
    for what, (tokens, tasks) in lengths.items():
        inputs = [(str(i % tasks), sample) for i, sample in enumerate(samples(tokens))]
        asked = {name: [pool.prepare(*pair) for pair in inputs] for name, pool in pools.items()}
        ways = {name: partial(pool.answer, asked[name]) for name, pool in pools.items()}
        seconds = cpu_seconds(ways, rounds)
        vectors = {name: np.stack(pool.embed(inputs)) for name, pool in pools.items()}
        show(f"{what}, {sum(tokens)} tokens, plain fp32", 1000 * seconds["plain"], "ms")
        for name in PRECISIONS[1:]:
            error = np.linalg.norm(vectors[name] - vectors["plain"]) / np.linalg.norm(vectors["plain"])
            show(f"  {name}, packed (relative error {error:.1e})", seconds["plain"] / seconds[name])


@torch.inference_mode()
def several_inputs(backbone: metatx.Backbone, folder: Path, repeats: int, rounds: int, fusion: str) -> None:
    """Tasks of 1, 2 and 4 inputs in one pass, against tasks of one input with as many tokens.

    Their sequences are as long as an input, or as all inputs of a sample, which attend to one another in some blocks.
    """
    pool = metatx.TaskPool(backbone)
    single = filled(backbone, folder / "series", 12)
    rows: list[tuple[str, Any]] = []
    for inputs in INPUTS:
        names = [f"input{number}" for number in range(inputs)]
        data = [dict(zip(names, samples([9] * inputs), strict=True)) for _ in range(8)]
        task = metatx.Task.from_data(
            backbone,
            dict.fromkeys(names, "time_series"),
            (data, list("abababab")),
            fusion=fusion,
            tokenizer_options=dict.fromkeys(names, SERIES),
        )
        saved_task = task.save_pretrained(folder / f"{fusion} {inputs}")
        for number in range(4):
            name = f"{inputs} {number}"
            pool.add(name, saved_task, pinned=True)
            rows += [(name, dict(zip(names, samples([64] * inputs), strict=True))) for _ in range(repeats)]
    for name, sample in rows:
        pool.prepare(name, sample)  # from now on the number of tokens is known
    fused = [pool.prepare(name, sample) for name, sample in rows]
    lengths = [64 * inputs for inputs in INPUTS] * 4 * repeats
    for _ in range(2):
        apart = ask(single, [64] * (sum(lengths) // 64), 12)
        together = ask(single, lengths, 12)
    tokens = {sum(request.tokens for request in requests) for requests in (fused, apart, together)}
    assert tokens == {sum(lengths)}
    ways = {"fused": lambda: pool.answer(fused), "apart": lambda: single.answer(apart)}
    found = cpu_seconds({**ways, "together": lambda: single.answer(together)}, rounds)
    show(
        f"tasks of 1, 2 and 4 inputs, {fusion}, against as many tokens of tasks of one",
        found["apart"] / found["fused"],
        aim="0.95",
    )
    if fusion != "late":
        show("  in sequences as long as all inputs together", found["together"] / found["fused"], aim="0.95")


@torch.inference_mode()
def one_call(backbone: metatx.Backbone, folders: dict[str, Path], rounds: int, count: int) -> None:
    """Requests of many tasks, one each, whose tokenizers and heads are called once, against few tasks, or one by one.

    All requests are of inputs whose number of tokens is known, so that their tokens are made in the pass.
    """
    inputs = {"series": samples([17] * count), "image": list(RNG.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))}
    for kind, values in inputs.items():
        pool, apart = (filled(backbone, folders[kind], count) for _ in range(2))
        task = apart.task("0")
        asked: dict[str, list[Any]] = {}
        for name, of_pool, tasks in (("many", pool, count), ("few", pool, 5), ("apart", apart, count)):
            names = [str(i % tasks) for i in range(count)]
            for _ in range(2):
                asked[name] = [of_pool.prepare(*pair) for pair in zip(names, values, strict=True)]
        with (
            patch.object(type(task.tokenizer), "stacks", new=False),
            patch.object(type(task.head), "stacks", new=False),
        ):
            apart.answer(asked["apart"])  # from now on they are known to be called by themselves
        ways = {"many": partial(pool.answer, asked["many"]), "few": partial(pool.answer, asked["few"])}
        seconds = cpu_seconds({**ways, "apart": partial(apart.answer, asked["apart"])}, rounds)
        aim = "0.95" if kind == "series" else ""
        show(f"{count} requests of {count} tasks, {kind}, against 5 tasks", seconds["few"] / seconds["many"], aim=aim)
        show("  against tokenizers and heads called task by task", seconds["apart"] / seconds["many"])


@torch.inference_mode()
def neighbours(folders: dict[str, Path], size: str, batches: int) -> None:
    """Answers in random batches of tasks of all kinds against those alone, in fp32 with packed weights."""
    backbone = metatx.load_backbone(SIZES[size], pretrained=False, precision="fp32")
    pool = metatx.TaskPool(backbone)
    for kind, folder in folders.items():
        for number in range(4):
            pool.add(f"{kind} {number}", metatx.Task.from_pretrained(folder, backbone))
            with torch.no_grad():
                for parameter in pool.task(f"{kind} {number}").parameters():
                    parameter.add_(0.02 * torch.randn_like(parameter))
    pictures = list(RNG.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))
    series = samples([3, 17, 64, 128])
    inputs = [(task.name, value) for task in pool.tasks() for value in (pictures if "image" in task.name else series)]
    alone = {}
    for answer in ("embed", "records"):
        for at, pair in enumerate(inputs):
            pool.prepare(*pair, answer)
            (alone[at, answer],) = map(numbers, pool.answer([pool.prepare(*pair, answer)]))
    keys = list(alone)
    worst = {"embed": 0.0, "records": 0.0}
    for _ in range(batches):
        drawn = [keys[i] for i in RNG.integers(len(keys), size=RNG.integers(2, 33))]
        for key, answer in zip(
            drawn, pool.answer([pool.prepare(*inputs[at], kind) for at, kind in drawn]), strict=True
        ):
            difference = np.linalg.norm(numbers(answer) - alone[key]) / np.linalg.norm(alone[key])
            worst[key[1]] = max(worst[key[1]], float(difference))
    for kind, difference in worst.items():
        what = f"largest relative difference, {kind}, in {batches} random batches, alone, x 1e6"
        show(what, 1e6 * difference, "", "1")


def numbers(answer: Any) -> np.ndarray:
    """A vector, or the probabilities of a record."""
    return answer if isinstance(answer, np.ndarray) else np.array([v for v in answer.values() if isinstance(v, float)])


def main(
    *,
    size: Literal["base", "nano"] = "nano",
    rounds: int = 7,
    sequences: int = 12,
    loras: int = 32,
    tasks: int = 64,
    batches: int = 100,
    only: Literal["precisions", "stacking"] | None = None,
) -> None:
    """Compare.

    Args:
        size: nano, or a network of ViT-B/16's shape.
        rounds: Measured turns of each way.
        sequences: Number of sequences in the mixed batch, a multiple of 4.
        loras: Tasks with LoRA.
        tasks: Whose requests are batched across them, or not.
        batches: Random batches in which answers are compared with those alone.
        only: The one comparison to make.
    """
    backbone = metatx.load_backbone(SIZES[size], pretrained=False)
    with tempfile.TemporaryDirectory() as temporary:
        folders = saved(backbone, Path(temporary))
        if only is None:
            mixed_batches(filled(backbone, folders["series"], 12), sequences // 4, rounds)
            adapters(backbone, folders, rounds, loras)
            for fusion in ("late", "mid", "early"):
                several_inputs(backbone, Path(temporary), sequences // 4, rounds, fusion)
            for load in LOADS:
                across_tasks(backbone, folders, rounds, tasks, load)
        if only != "stacking":
            precisions(size, folders, rounds, tasks, sequences // 4)
        if only != "precisions":
            one_call(backbone, folders, rounds, tasks)
            neighbours(folders, size, batches)


if __name__ == "__main__":
    command(main)
