r"""Average the weights of runs that went on from one another: one network, backbone and towers alike.

    python recipes/average_weights.py --out runs/mean --folders '["runs/second/backbone","runs/third/backbone"]'

"Model soups" (Wortsman et al. 2022, arXiv 2203.05482): the uniform mean of fine-tuned weights is as fast as one of
them. Runs that each started anew have no useful mean.
"""

from pathlib import Path

import torch
from pretrain_contrastive import ABOUT, measured, read, sides

from metatx.cli.scripts import command
from metatx.pretraining.alignment import Alignment
from metatx.storage.card import backbone_card

PAIR = ("image", "text")


def mean(modules: list[torch.nn.Module]) -> dict[str, torch.Tensor]:
    """State whose floating-point tensors are the mean of theirs, the others those of the first.

    Raises:
        ValueError: If their tensors differ in name or shape.
    """
    states = [module.state_dict() for module in modules]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    if any(other != shapes[0] for other in shapes):
        raise ValueError("The folders hold other shapes or modalities; average runs that went on from one another.")
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if tensor.is_floating_point() else tensor
        for name, tensor in states[0].items()
    }


def main(
    *, out: str, folders: tuple[str, ...], data: tuple[str, ...] = (), about: str | None = None
) -> dict[str, float]:
    """Write the mean, and print what it reaches on held-out pairs of image and text.

    Args:
        out: Folder for ``backbone/``.
        folders: Two or more that ``pretrain_contrastive.py`` wrote, or ``nano``.
        data: Data sets with a validation split, as ``metatx train`` reads them; by default nano's two.
        about: Text of the card on the data and its terms; that on nano's own data is known.
    """
    if len(folders) < 2:
        raise ValueError(f"A mean needs two folders or more; found {len(folders)}.")
    about = about or (f"of {', '.join(data)}" if data else ABOUT)
    alignments = [Alignment.from_pretrained(folder) for folder in folders]
    backbone = alignments[0].backbone.trainable_copy()
    backbone.load_state_dict(mean([alignment.backbone for alignment in alignments]))
    alignment = Alignment.from_pretrained(folders[0], backbone)
    alignment.load_state_dict(mean(list(alignments)))
    tables = read(data)["validation"]
    result = measured(alignment, tables, sides(tables, PAIR, PAIR))
    print(result)
    made = {"data": about, "weights": f"the uniform mean of {', '.join(folders)}"}
    card = backbone_card(Path(out).name, list(alignment.towers), made, result)
    print(alignment.save_pretrained(Path(out) / "backbone", about=about, card=card, dtype=torch.float16))
    return result


if __name__ == "__main__":
    command(main)
