"""Baselines that find boxes in pictures: median boxes, and a random forest on areas of one colour."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch

from metatx.reading.boxes import learnable

__all__ = ["BlobForest", "MedianBoxes"]

COLOURS = 8  # clusters of colours, within which areas are connected
WIDTH = 160  # width in pixels that pictures are reduced to before that
LEARNED = 500  # most pictures, evenly spread, that the forest learns from
SMALLEST = 8  # least pixels of a connected area at that width
OVERLAP = 0.5  # least intersection over union of an area's box with a true one, to count as its class


class MedianBoxes:
    """The median box of each class, in every picture, scored by the share of pictures that have the class."""

    def fit(self, features: Any, answers: Sequence[np.ndarray]) -> Self:
        """Learn from boxes (M, 5) of each picture: class number, left, top, right, bottom in shares."""
        answers = [learnable(picture) for picture in answers]
        boxes = np.concatenate(answers)
        self.boxes = np.stack([np.median(boxes[boxes[:, 0] == k], axis=0) for k in np.unique(boxes[:, 0])])
        self.scores = np.array([np.mean([(picture[:, 0] == k).any() for picture in answers]) for k in self.boxes[:, 0]])
        return self

    def predict(self, features: Sequence[Any]) -> list[np.ndarray]:
        """Boxes (M, 6) of each picture: class number, left, top, right, bottom in shares, score."""
        return [np.column_stack([self.boxes, self.scores])] * len(features)


class BlobForest:
    """Connected areas of one colour as candidates, and a random forest that says which class each is, if any.

    Colours are k-means clusters; an area is described by its box, its place, how much of the box it fills, and its
    colour; the forest learns from areas whose box covers a true one by half.
    """

    def fit(self, features: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> Self:
        """Learn from pictures (H, W, C) in 0..1 and boxes (M, 5) of each, as ``MedianBoxes``."""
        from sklearn.cluster import MiniBatchKMeans
        from sklearn.ensemble import RandomForestClassifier
        from torchvision.ops import box_iou

        rng = np.random.default_rng(0)
        answers = [learnable(picture) for picture in answers]
        chosen = range(0, len(features), -(-len(features) // LEARNED))
        pixels = [_drawn(features[i], rng) for i in chosen]
        self.colours = MiniBatchKMeans(COLOURS, random_state=0, n_init=3).fit(np.concatenate(pixels))
        rows: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        for picture, truth in ((features[i], answers[i]) for i in chosen):
            candidates = self._candidates(picture)
            overlaps = box_iou(torch.from_numpy(candidates[:, :4]), torch.from_numpy(truth[:, 1:])).numpy()
            best = overlaps.argmax(1) if len(truth) else np.zeros(len(candidates), dtype=int)
            hit = overlaps.max(1, initial=0) >= OVERLAP
            rows.append(candidates)
            labels.append(np.where(hit, truth[best, 0] if len(truth) else -1, -1))
        forest = RandomForestClassifier(200, min_samples_leaf=2, n_jobs=-1, random_state=0)
        self.forest = forest.fit(np.concatenate(rows), np.concatenate(labels).astype(int))
        return self

    def predict(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Boxes (M, 6) of each picture, as ``MedianBoxes``."""
        found = []
        for picture in features:
            candidates = self._candidates(picture)
            if not len(candidates):
                found.append(np.zeros((0, 6)))
                continue
            shares = self.forest.predict_proba(candidates)
            rows = [
                np.column_stack([np.full(len(candidates), k), candidates[:, :4], shares[:, column]])
                for column, k in enumerate(self.forest.classes_)
                if k >= 0
            ]
            found.append(np.concatenate(rows) if rows else np.zeros((0, 6)))
        return found

    def _candidates(self, picture: np.ndarray) -> np.ndarray:
        """Features (A, F) of connected areas: box in shares, width, height, fill, mean colour, cluster."""
        from scipy.ndimage import find_objects, label

        step = max(1, picture.shape[1] // WIDTH)
        small = picture[::step, ::step]
        height, width, channels = small.shape
        clusters = self.colours.predict(small.reshape(-1, channels)).reshape(height, width)
        rows = [np.zeros((0, 8 + channels))]
        for cluster in range(COLOURS):
            areas, _ = label(clusters == cluster)
            for number, (down, across) in enumerate(find_objects(areas), start=1):
                inside = areas[down, across] == number
                if inside.sum() < SMALLEST:
                    continue
                box = [across.start / width, down.start / height, across.stop / width, down.stop / height]
                colour = small[down, across][inside].mean(0)
                rows.append(np.array([[*box, box[2] - box[0], box[3] - box[1], inside.mean(), *colour, cluster]]))
        return np.concatenate(rows)


def _drawn(picture: np.ndarray, rng: np.random.Generator, count: int = 500) -> np.ndarray:
    """Random pixels (count, C) of a picture (H, W, C)."""
    return rng.choice(picture.reshape(-1, picture.shape[-1]), count)
