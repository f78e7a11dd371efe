"""Is a tokenizer the bottleneck? Samples a second of each, beside the backbone's on the same batch.

    METATX_DATA=FOLDER python recipes/benchmarks/tokenizing.py                     # all modalities, about three minutes
    METATX_DATA=FOLDER python recipes/benchmarks/tokenizing.py --modalities image,audio --backbone nano

Of a batch of real samples: reading and encoding each (in one process), collating and the tokenizer's forward pass, and
the backbone's forward pass on these tokens. Rounds of all three are interleaved, so that a noisy machine slows all;
times are medians. The last column is what counts: at 1 or more the tokenizer keeps up with the frozen backbone.
Training encodes a sample once, whatever the epochs; serving does it each time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from measuring import medians

import metatx
from metatx.cli.scripts import command
from metatx.data.tables import ALL, read_splits
from metatx.encoding.collate import collate
from metatx.encoding.head_choice import build_tokenizer
from metatx.evaluation.recipe import dataset
from metatx.examples import Examples
from metatx.registry import create, lookup

# Where samples are, and the columns that make one up, where it is a table.
DATA: dict[str, tuple[str, list[str]]] = {
    "audio": ("audio/speech_commands_v2_10/train", ["file"]),
    "graph": ("graph/esol/data.csv", ["smiles"]),
    "hyperspectral": ("hyperspectral/jasper_ridge/jasper_ridge.mat", []),
    "image": ("image/cifar10_subset", ["file"]),
    "imu": ("imu/spsw_har", []),
    "infrared": ("infrared/solar_modules", ["file"]),
    "point_cloud": ("point_cloud/radhar", []),
    "tabular": ("tabular/adult", []),
    "text": ("text/sst2", ["sentence"]),
    "time_series": ("time_series/japanese_vowels", []),
    "video": ("video/pushup_speed", ["file"]),
    "xray": ("xray/pneumoniamnist/images", ["file"]),
}
OPTIONS: dict[str, dict[str, Any]] = {"imu": {"sampling_rate": 100.0}, "time_series": {"time_axis": 0}}


def main(
    *, modalities: str | None = None, backbone: str = "timm:vit_tiny_patch16_224", count: int = 32, rounds: int = 5
) -> None:
    """Print a table: a row a modality.

    Args:
        modalities: Names, separated by commas; all by default.
        backbone: Whose shape is timed, with random weights.
        count: Samples of a batch.
        rounds: Measured, after one to warm up.
    """
    frozen = metatx.load_backbone(backbone, pretrained=False)
    print(f"samples a second, batches of {count}, {backbone}, {torch.get_num_threads()} threads")
    print(f"{'':<15}{'tokens':>8}{'encode':>10}{'tokenizer':>11}{'both':>8}{'backbone':>10}{'both / backbone':>17}")
    for modality in modalities.split(",") if modalities else DATA:
        samples = examples(modality, count)
        torch.manual_seed(0)
        tokenizer = build_tokenizer(modality, frozen, OPTIONS.get(modality, {})).learn(samples).eval()
        task = metatx.Task(frozen, tokenizer, create("heads", "regression", frozen.dim)).eval()
        tokens, seconds = measure(task, samples, rounds)
        both = seconds["encode"] + seconds["tokenizer"]
        times = (seconds["encode"], seconds["tokenizer"], both, seconds["backbone"])
        speeds = "".join(f"{count / time:>{width},.0f}" for time, width in zip(times, (10, 11, 8, 10), strict=True))
        print(f"{modality:<15}{tokens:>8.0f}{speeds}{seconds['backbone'] / both:>17.2f}", flush=True)


def examples(modality: str, count: int) -> Sequence[Any]:
    """Raw samples of the training split."""
    place, columns = DATA[modality]
    kind = lookup("tokenizers", modality)
    splits = read_splits(dataset(None, place, "the source that its card names"), kind.suffixes, None, kind.readers)
    table = splits.get("train", splits.get(ALL))
    step = max(1, len(table) // count)
    rows = range(0, count * step, step)
    if isinstance(table, Examples):
        return [table.inputs[row] for row in rows]
    table = table.select(rows)
    if columns:
        return [row[columns[0]] for row in table]
    numbers = [name for name in table.column_names if isinstance(table[0][name], list)]
    if not numbers or kind.takes_row:
        return table.to_list() if not numbers else table.select_columns(numbers).to_list()
    return [row[numbers[0]] for row in table]


@torch.no_grad()
def measure(task: metatx.Task, samples: Sequence[Any], rounds: int) -> tuple[float, dict[str, float]]:
    """Tokens a sample; median seconds of encoding, of collating and the tokenizer, and of the backbone."""
    encoded = [task.tokenizer.encode(sample) for sample in samples]
    sequence = task.tokens(collate(encoded))
    ways: dict[str, Callable[[], Any]] = {
        "encode": lambda: [task.tokenizer.encode(sample) for sample in samples],
        "tokenizer": lambda: task.tokens(collate(encoded)),
        "backbone": lambda: task.backbone(sequence),
    }
    return len(sequence.embeddings) / len(samples), medians(ways, rounds)


if __name__ == "__main__":
    command(main)
