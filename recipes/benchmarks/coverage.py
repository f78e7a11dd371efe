"""Coverage: the Vision Transformers of timm and open_clip that load, and the largest difference of their features.

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
from torch import Tensor, nn

import metatx
from metatx import TokenSequence
from metatx.backbone.zoo import SOURCES, Source
from metatx.cli.scripts import command

MODULES = "vision_transformer eva deit beit vision_transformer_relpos vision_transformer_hybrid naflexvit".split()


def noisy(model: nn.Module) -> nn.Module:
    """The model with noise on every weight."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def difference(source: Source, model: nn.Module, name: str) -> tuple[metatx.Backbone, float]:
    """The backbone that a source makes of a model's weights, and the largest difference of tokens."""
    backbone = source.kind(source.config, source.convert(model.state_dict(), source.config), spec=name)
    stem = backbone.stem
    assert stem is not None
    side = stem.config.image_size
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    grid = (stem.config.side, stem.config.side)
    found = backbone(TokenSequence.pack(stem(images), grid=grid)).unpack()[0]
    expected = tokens(model, (images - stem.mean) / stem.std)
    return backbone, (found - expected).abs().max().item()


def tokens(model: nn.Module, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) to tokens (B, P + N, D), as ``forward_features`` gives them, or a tower through its norm."""
    if hasattr(model, "forward_features"):
        return model.forward_features(images)
    seen: list[Tensor] = []
    model.transformer.register_forward_hook(lambda *arguments: seen.append(arguments[2]))
    model(images)
    return model.ln_post(seen[0])


def create(library: str, name: str, device: str) -> nn.Module:
    """A model of timm, or the visual tower of one of open_clip's."""
    with torch.device(device):
        return timm.create_model(name) if library == "timm" else open_clip.create_model(name, device=device).visual


@torch.no_grad()
def main(*, names: str = "*", limit: float = 130e6, libraries: tuple[str, ...] = ("timm", "open_clip")) -> None:
    """Try all models.

    Args:
        names: Which, as a pattern.
        limit: Number of parameters from which on a model is left out; in open_clip, of its visual tower.
        libraries: Names of libraries, of timm and open_clip.
    """
    listed = {
        "timm": [name for module in MODULES for name in timm.list_models(module=module)],
        "open_clip": open_clip.list_models(),
    }
    for library in libraries:
        outcomes: dict[str, int] = {"equal to 1e-4": 0, "different": 0, "refused": 0}
        for name in fnmatch.filter(listed[library], names):
            if sum(weight.numel() for weight in create(library, name, "meta").parameters()) >= limit:
                continue
            try:
                source = SOURCES[library](name)
            except ValueError as error:
                outcomes["refused"] += 1
                print(f"{library}:{name:46} refused: {error}", flush=True)
                continue
            backbone, largest = difference(source, noisy(create(library, name, "cpu")), name)
            outcomes["equal to 1e-4" if largest <= 1e-4 else "different"] += 1
            print(f"{library}:{name:46} {type(backbone).__name__:18}{largest:10.1e}", flush=True)
        print(f"{library}: {sum(outcomes.values())} models, " + ", ".join(f"{n} {k}" for k, n in outcomes.items()))


if __name__ == "__main__":
    command(main)
