"""Linear probe: what the features of a frozen backbone say of pictures, beside random weights in its shape.

    python recipes/linear_probe.py                        # nano on the CIFAR-10 subset, about four minutes
    python recipes/linear_probe.py --data FOLDER --backbone timm:vit_tiny_patch16_224 --checkpoint FILE

Logistic regression on standardised features (CLS and the mean of the patches), its regularisation chosen on the
validation split; the test split is read once. No augmentation, no seed, fp32: the same numbers each time. nano is
right in 0.6460 of the test images, random weights in its shape in 0.4445.
"""

from image_cifar10 import RECIPE
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import metatx
from metatx.cli.scripts import command
from metatx.data.tables import as_table
from metatx.evaluation.recipe import dataset
from metatx.progress import bar
from metatx.training.frozen_features import frozen_features

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of the logistic regression
SPLITS = ("train", "validation", "test")
EXACT = metatx.TrainingSettings(precision="fp32")  # "auto" gives other features where the hardware has bf16


def main(
    *,
    data: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    layers: int = 12,
    image_size: int | None = None,
) -> dict[str, float]:
    """Print the accuracy of a linear probe on both.

    Args:
        data: Folder of train, val and test, each of one folder a class; by default the CIFAR-10 subset.
        backbone: Name of the backbone.
        checkpoint: File with the backbone's weights.
        layers: Number of the backbone's last layers, side by side; never more than there are.
        image_size: Side to which pictures are resized; by default that of the weights.
    """
    folder = dataset(data, RECIPE.place, RECIPE.source)
    found = {}
    for name, pretrained in (("pretrained", True), ("random", False)):
        frozen = metatx.load_backbone(backbone, checkpoint=checkpoint if pretrained else None, pretrained=pretrained)
        task = metatx.Task.from_data(
            frozen,
            RECIPE.spec.modality,
            folder,
            tokenizer_options={**RECIPE.spec.tokenizer_options, "image_size": image_size},
            head_options={"layers": min(layers, frozen.depth), "pooling": "both"},
        )
        suffixes = task.tokenizer.suffixes
        encoded = {split: task.encode(as_table(folder, suffixes, split), split) for split in SPLITS}
        features = {split: frozen_features(task.model, part, EXACT, bar) for split, part in encoded.items()}
        x = {split: part.features.numpy() for split, part in features.items()}
        y = {split: [int(target) for target in part.targets] for split, part in features.items()}
        probes = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=3000)) for c in STRENGTHS]
        scores = [probe.fit(x["train"], y["train"]).score(x["validation"], y["validation"]) for probe in probes]
        best = scores.index(max(scores))
        found[name] = probes[best].score(x["test"], y["test"])
        print(f"{backbone}, {name}: accuracy {found[name]:.4f} on the test split, {scores[best]:.4f} on validation")
        print(f"    {x['train'].shape[1]} features, C {STRENGTHS[best]:g}, fingerprint {frozen.fingerprint[:16]}")
    return found


if __name__ == "__main__":
    command(main)
