"""Everything that a GPU should make faster, measured on the one that is there: one json, one table, in 8 minutes.

    python recipes/benchmarks/gpu.py                          # a GPU with 40 GB or more
    python recipes/benchmarks/gpu.py --device cpu --small     # the same steps on a tiny backbone, as a check of itself

It first checks that the answers are those of a CPU (fp32: 1e-4 relative; bf16: 2e-2), and that a pass makes the host
wait for nothing. Then it measures passes of ViT-B/16 and ViT-L/16 over equal and mixed lengths, in fp32, in bf16 and
compiled; 32 and 1,000 LoRA adapters in one pass; and training steps of each tier. Weights are random, which does not
change the time. What the minutes do not suffice for is left out and named.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import metatx
from metatx.adapters.batched import FixedAdapter, MixedAdapter
from metatx.adapters.tiers import tuned
from metatx.backbone.devices import device_of
from metatx.backbone.precision import set_precision
from metatx.cli.scripts import command
from metatx.sequence import TokenSequence

MODELS = {"ViT-B": "timm:vit_base_patch16_224", "ViT-L": "timm:vit_large_patch16_224"}
SMALL = {"nano": "nano"}
SECONDS = 420  # after so many no further case is begun
MIXED = (16, 63, 196, 255)  # tokens of the sequences of a mixed batch, in turn
TIERS: dict[str, dict[str, Any]] = {"frozen": {}, "lora": {"r": 8}, "full": {}}


@dataclass
class Measured:
    """Rows of the table, and what was left out.

    Attributes:
        device: Device that computes.
        rounds: Number of rounds, of which the median counts.
        rows: Rows of the table, each a dict of JSON values.
    """

    device: torch.device
    rounds: int
    started: float = field(default_factory=time.monotonic)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def note(self, case: str, value: float | None, unit: str, **more: Any) -> None:
        """Add a row and print it."""
        self.rows.append({"case": case, "value": value, "unit": unit, **more})
        said = "left out" if value is None else f"{value:,.4g}"
        others = ", ".join(
            f"{name} {part:,.4g}" if isinstance(part, float) else f"{part}" for name, part in more.items()
        )
        print(f"{case:<52}{said:>12} {unit:<10}{others}", flush=True)

    def time(self, case: str, run: Callable[[], Any], tokens: int) -> float | None:
        """Tokens a second of a function that handles so many, and the most memory that it takes; None if it fails."""
        if time.monotonic() - self.started > SECONDS:
            self.note(case, None, "tok/s", why="no time is left")
            return None
        try:
            run()
            run()
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            seconds = []
            for _ in range(self.rounds):
                self.wait()
                begun = time.perf_counter()
                run()
                self.wait()
                seconds.append(time.perf_counter() - begun)
        except (
            Exception
        ) as error:  # such as too little memory, or a compiler that is not there: the others are measured
            self.note(case, None, "tok/s", why=f"{type(error).__name__}: {str(error).splitlines()[0]:.80}")
            return None
        middle = statistics.median(seconds)
        memory = torch.cuda.max_memory_allocated(self.device) / 2**20 if self.device.type == "cuda" else 0.0
        self.note(case, tokens / middle, "tok/s", ms=1000 * middle, MiB=memory)
        return middle

    def wait(self) -> None:
        """Wait until the device has done its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def batch(lengths: Sequence[int], dim: int, device: torch.device) -> TokenSequence:
    generator = torch.Generator().manual_seed(0)
    return TokenSequence(torch.randn(sum(lengths), dim, generator=generator).to(device), tuple(lengths))


def lengths_of(small: bool) -> dict[str, list[int]]:
    count = 8 if small else 128
    return {"equal": [196] * count, "mixed": [MIXED[i % len(MIXED)] for i in range(count)]}


@contextmanager
def no_waits(device: torch.device) -> Iterator[None]:
    """Let CUDA raise an error in the block where the host would wait for the device."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@torch.no_grad()
def check(measured: Measured, lengths: Sequence[int]) -> bool:
    """Compare the device with the CPU; return True if all is as it should be."""
    expected = metatx.load_backbone("nano")(batch(lengths, 192, torch.device("cpu")))
    good = True
    for precision, tolerance in ((None, 1e-4), ("bf16", 2e-2)):
        backbone = set_precision(metatx.load_backbone("nano").to(measured.device), precision)
        tokens = batch(lengths, backbone.dim, measured.device)
        answer = backbone(tokens)
        for name, pair in {
            "tokens": (answer.embeddings, expected.embeddings),
            "mean": (answer.mean(), expected.mean()),
        }.items():
            error = relative(*pair)
            measured.note(f"parity, {precision or 'fp32'}, {name}", error, "relative", wanted=tolerance)
            good &= error < tolerance
        try:
            with no_waits(measured.device):
                backbone(tokens).mean()
            waits = 0.0
        except RuntimeError as raised:
            waits = 1.0
            print(f"  {str(raised).splitlines()[0]}")
        measured.note(f"the host waits in a pass, {precision or 'fp32'}", waits, "times", wanted=0.0)
        good &= not waits
    return good


def relative(answer: Tensor, expected: Tensor) -> float:
    return ((answer.cpu().float() - expected).norm() / expected.norm()).item()


@torch.no_grad()
def passes(measured: Measured, name: str, spec: str, batches: dict[str, list[int]], compiled: bool) -> None:
    """Passes over equal and mixed lengths, in each precision."""
    backbone = load(spec, measured.device)
    for precision in (None, "bf16"):
        set_precision(backbone, precision)
        for kind, lengths in batches.items():
            tokens = batch(lengths, backbone.dim, measured.device)
            said = f"{name}, {precision or 'fp32'}, {kind} lengths"
            measured.time(said, partial(backbone, tokens), sum(lengths))
    if compiled:
        tokens = batch(batches["equal"], backbone.dim, measured.device)
        run = torch.compile(backbone, dynamic=False)
        measured.time(f"{name}, bf16, equal lengths, compiled", partial(run, tokens), sum(batches["equal"]))


@torch.no_grad()
def adapters(measured: Measured, name: str, spec: str, counts: Sequence[int]) -> None:
    """A pass of as many short sequences as there are adapters, each with its own, beside the same without."""
    backbone = set_precision(load(spec, measured.device), "bf16")
    for count in counts:
        lengths = [16] * count
        tokens = batch(lengths, backbone.dim, measured.device)
        made = [tuned(backbone, "lora", {"r": 8}, seed)[1] for seed in range(count)]
        mixed = MixedAdapter([FixedAdapter(adapter, backbone) for adapter in made if adapter is not None])
        plain = measured.time(f"{name}, {count:,} sequences without adapters", partial(backbone, tokens), sum(lengths))
        said = f"{name}, {count:,} LoRA adapters in a pass"
        with_all = measured.time(said, partial(backbone, tokens, adapter=mixed), sum(lengths))
        if plain and with_all:
            measured.note("  of the rate without", plain / with_all, "x")


def training(measured: Measured, name: str, spec: str, lengths: Sequence[int]) -> None:
    """A training step of each tier, in bf16, with a trained map to the tokens and a trained head."""
    for tune in TIERS:
        step = training_step(load(spec, measured.device), tune, lengths)
        measured.time(f"{name}, training step, {tune}, bf16", step, sum(lengths))


def training_step(shared: metatx.Backbone, tune: str, lengths: Sequence[int]) -> Callable[[], None]:
    device = shared.device
    backbone, adapter = tuned(shared, tune, TIERS[tune], 0)
    into = nn.Linear(48, backbone.dim).to(device)
    head = nn.Linear(backbone.dim, 10).to(device)
    parts = [part for part in (into, head, adapter, backbone) if part is not None]
    trained = [p for part in parts for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=device.type == "cuda" or None)
    tokens = batch(lengths, 48, device)
    targets = (torch.arange(len(lengths)) % 10).to(device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            read = backbone(tokens.with_embeddings(into(tokens.embeddings)), adapter=adapter)
            logits = head(read.mean())
        nn.functional.cross_entropy(logits.float(), targets).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def load(spec: str, device: torch.device) -> metatx.Backbone:
    return metatx.load_backbone(spec, pretrained=False, device=device)


def main(*, device: str = "cuda", small: bool = False, out: str = "runs/gpu.json", rounds: int = 7) -> None:
    """Check and measure.

    Args:
        device: Device that computes: cuda, cuda:N; or cpu, with --small.
        small: A tiny backbone and few sequences.
        out: File of the numbers, json.
        rounds: Rounds, of which the median counts.
    """
    place = device_of(device)
    if place.type == "cpu" and not small:
        raise ValueError("On a CPU this takes hours; add --small, or use a machine with a GPU.")
    measured = Measured(place, rounds)
    batches = lengths_of(small)
    good = check(measured, batches["mixed"])
    for name, spec in (SMALL if small else MODELS).items():
        passes(measured, name, spec, batches, compiled=not small and name == "ViT-B")
        training(measured, name, spec, batches["mixed"])
        if name != "ViT-L":
            adapters(measured, name, spec, (2, 4) if small else (32, 1000))
    about = {"device": str(place), "torch": torch.__version__, "cuda": torch.version.cuda, "good": good}
    if place.type == "cuda":
        about["name"] = torch.cuda.get_device_name(place)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(json.dumps({**about, "rows": measured.rows}, indent=2) + "\n")
    print(f"saved in {out}")
    if not good:
        sys.exit("The answers or the waits are not as they should be; see the first rows.")


if __name__ == "__main__":
    command(main)
