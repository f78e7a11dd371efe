"""Which Vision Transformers of timm and open_clip load as a backbone, and how far its features are from theirs.

    python recipes/benchmarks/coverage.py                     # about 20 minutes on a core
    python recipes/benchmarks/coverage.py --names "eva02_*"

Weights are random: timm's initial ones with noise, so that every part has a say. Of each model the largest difference
between the backbone's tokens and ``forward_features`` is printed, for two images of noise; of one that is refused, why.
Nothing is downloaded. Below 130 M parameters 139 of timm's 158 load, all within 1e-5; refused are 12 with a
convolutional stem, 6 NaFlexViT and one for images that are not square. Of open_clip's towers named ViT 16 of 30 load;
the rest are models of timm.
"""

import fnmatch

import open_clip
import timm
import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

import metatx
from metatx import TokenSequence
from metatx.backbone.zoo import SOURCES, Source

MODULES = (
    "vision_transformer",
    "eva",
    "deit",
    "beit",
    "vision_transformer_relpos",
    "vision_transformer_hybrid",
    "naflexvit",
)


def noisy(model: nn.Module) -> nn.Module:
    """The model with noise on every weight."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def difference(source: Source, model: nn.Module, state: dict[str, Tensor], name: str) -> tuple[metatx.Backbone, float]:
    """The backbone that a source makes of a model's weights, and the largest difference of tokens."""
    backbone = source.kind(source.config, source.convert(state, source.config), spec=name)
    stem = backbone.stem
    assert stem is not None
    side = stem.config.image_size
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    grid = (stem.config.side, stem.config.side)
    found = backbone(TokenSequence.pack(stem(images), grid=grid)).unpack()[0]
    expected = model((images - stem.mean) / stem.std)
    return backbone, (found - expected).abs().max().item()


class ClipTokens(nn.Module):
    """All tokens of an open_clip tower, through its last norm."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to tokens (B, 1 + N, D)."""
        seen: list[Tensor] = []
        handle = self.tower.transformer.register_forward_hook(lambda *arguments: seen.append(arguments[2]))
        self.tower(images)
        handle.remove()
        return self.tower.ln_post(seen[0])


class TimmTokens(nn.Module):
    """``forward_features`` of a timm model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to tokens (B, P + N, D)."""
        return self.model.forward_features(images)


def timm_model(name: str, limit: float) -> nn.Module | None:
    """A model with noisy weights; None if it has more than so many parameters."""
    with torch.device("meta"):
        size = sum(weight.numel() for weight in timm.create_model(name).parameters())
    return noisy(timm.create_model(name)) if size < limit else None


def clip_model(name: str, limit: float) -> nn.Module | None:
    """The visual tower of a model, as ``timm_model``."""
    with torch.device("meta"):
        size = sum(weight.numel() for weight in open_clip.create_model(name, device="meta").visual.parameters())
    return noisy(open_clip.create_model(name).visual) if size < limit else None


@torch.no_grad()
def main(*, names: str = "*", limit: float = 130e6, libraries: tuple[str, ...] = ("timm", "open_clip")) -> None:
    """Try all models.

    Args:
        names: Which, as a pattern.
        limit: Number of parameters from which on a model is left out; in open_clip, of its visual tower.
        libraries: Of timm and open_clip.
    """
    listed = {
        "timm": [name for module in MODULES for name in timm.list_models(module=module)],
        "open_clip": open_clip.list_models(),
    }
    for library in libraries:
        outcomes: dict[str, int] = {"equal to 1e-4": 0, "different": 0, "refused": 0}
        for name in fnmatch.filter(listed[library], names):
            try:
                source = SOURCES[library](name)
            except ValueError as error:
                model = (timm_model if library == "timm" else clip_model)(name, limit)
                if model is not None:
                    outcomes["refused"] += 1
                    print(f"{library}:{name:46} refused: {error}", flush=True)
                continue
            model = (timm_model if library == "timm" else clip_model)(name, limit)
            if model is None:
                continue
            tokens = TimmTokens(model) if library == "timm" else ClipTokens(model)
            backbone, largest = difference(source, tokens, model.state_dict(), name)
            outcomes["equal to 1e-4" if largest <= 1e-4 else "different"] += 1
            print(f"{library}:{name:46} {type(backbone).__name__:18}{largest:10.1e}", flush=True)
        print(f"{library}: {sum(outcomes.values())} models, " + ", ".join(f"{n} {k}" for k, n in outcomes.items()))


if __name__ == "__main__":
    auto_cli(main)
