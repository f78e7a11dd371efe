"""Point clouds -> tokens: neighbourhoods around spread-out centres, and what is known of the cloud as a whole."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.errors import SampleError, read_all
from metatx.json_schema import array_schema
from metatx.layers.distributions import distributions
from metatx.layers.linear import silent_linear
from metatx.layers.neighbours import farthest_points, nearest, sorted_order
from metatx.places import PointPlaces
from metatx.reading.point_cloud import SUFFIXES, Cloud, read_cloud
from metatx.reading.point_cloud_sets import CONTAINERS
from metatx.reading.signatures import signatures_of
from metatx.sequence import TokenSequence, sent
from metatx.tokenizer import Batch, Tokenizer, orthogonal_linear

__all__ = ["PointCloudTokenizer"]

FITTED = 1000  # clouds, spread over the training split, that the statistics are learned from
BINS = 16  # of a column that hold equally many points of the training split; and 16 equally wide ones across them
EXTREMES = 0.005  # share of the training points on either side that lies beyond the bins of equal width
PAIRS = 2048  # of points, whose distances tell the shape (D2)
LEAST = 1e-3  # deviation or share of points, below which none are told apart
MEMBERS = 1 << 19  # points of all groups together; each takes some kilobytes on its way to a token
AUGMENTS = ("rotation", "mirror", "jitter", "scale", "dropout")
WHOLE = torch.tensor([0.0, 0.0, 1.0, 1.0])  # the view of a cloud whose points keep their places among the others
VECTORS = (("nx", "ny", "nz"), ("vx", "vy", "vz"))  # columns that turn with the points


class PointCloudTokenizer(Tokenizer):
    """One token for each of ``groups`` neighbourhoods, in the manner of Point-BERT (Yu et al. 2022, arXiv 2111.14819).

    Farthest point sampling spreads the centres; a small PointNet (Qi et al. 2017, arXiv 1612.00593) reads each centre's
    nearest points relative to it; an MLP of the centre is added. Further columns (colours, velocity, time), by the
    statistics of the training split, enter through a projection of their own that starts at zero. The order of the
    points changes nothing.

    A sample is whatever ``metatx.reading.point_cloud.read_cloud`` knows: an array (N, C), a dict with ``points`` and
    ``columns``, a file. The third column is the vertical.

    ``context`` has ``centres`` (B, G, 3) and ``points``, all points of the samples in their order, (B, N, 3) or, where
    numbers differ, B of (N, 3); both centred and scaled.

    Args:
        dim: Width of the backbone.
        points: Number of points that groups are made of: drawn from larger clouds, and from meshes.
        groups: Tokens, G.
        neighbours: Points of a group.
        width: Width of the PointNet.
        normalize: ``"unit"`` puts each cloud into the unit sphere, which keeps its shape only; ``"training"`` shifts
            and scales all alike, where place and size mean something, as to a fixed sensor.
        columns: Columns that are used, by name or by number from 0, x, y and z first; by default all of the first
            training cloud.
        time: Column that is a time: centres are spread, and neighbours near, in time too.
        slices: 1 or more for a token in front that holds the distribution of each column over the whole cloud and,
            where there is ``time``, one for each of so many parts of its range; 0 for none.
        augment: In training, ``{"rotation": largest angle about the vertical, in degrees, "mirror": axis 0 or 1 that
            flips in every other cloud, "jitter": deviation of noise, "scale": largest relative change of size,
            "dropout": largest share of points left out}``; about the origin, and in units, of the scaled cloud.
        drop_invalid: Leave out points that are NaN or infinite, as a depth camera's are where it saw nothing; else
            such a cloud is a bad sample.
    """

    suffixes = SUFFIXES
    tunable = {"neighbours": (16, 32)}
    external_refs = (".h5", ".obj", ".gltf", ".glb")  # to storage, materials, buffers
    readers = CONTAINERS
    signatures = signatures_of((*suffixes, *readers))
    default_head = "classification"
    not_exported = "its tokens are computed cloud by cloud, of as many points as each has"
    token_rms_factor = 8.0
    classical: ClassVar[Literal["linear", "boosting", "words"]] = "boosting"
    centre: Tensor
    spread: Tensor
    reach: Tensor
    edges: Tensor
    cuts: Tensor
    usual: Tensor
    varies: Tensor

    def __init__(
        self,
        dim: int,
        points: int = 1024,
        groups: int = 64,
        neighbours: int = 32,
        width: int = 64,
        normalize: Literal["unit", "training"] = "unit",
        columns: list[str | int] | None = None,
        time: str | int | None = None,
        slices: int = 0,
        augment: dict[str, float] | None = None,
        drop_invalid: bool = False,
    ) -> None:
        super().__init__(dim)
        for name, value, least in (
            ("points", points, 1),
            ("groups", groups, 1),
            ("neighbours", neighbours, 1),
            ("width", width, 1),
            ("slices", slices, 0),
        ):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}.")
        if groups * neighbours > MEMBERS:
            raise ValueError(f"groups x neighbours is {groups * neighbours:,}; it must be at most {MEMBERS:,}.")
        strange = sorted(set(augment or {}) - set(AUGMENTS))
        if strange:
            raise ValueError(f"augment has {', '.join(strange)}; it may have {', '.join(AUGMENTS)}.")
        if augment and augment.get("mirror", 0) not in (0, 1):
            raise ValueError(f"mirror is {augment['mirror']}; it is the axis that flips, 0 or 1.")
        self.points = points
        self.groups = groups
        self.neighbours = neighbours
        self.width = width
        self.normalize = normalize
        self.time = time
        self.slices = slices
        self.drop_invalid = drop_invalid
        self.variations = dict(augment or {})
        self.augments = any(name == "mirror" or value for name, value in self.variations.items())
        self.columns: list[str | int] = [] if columns is None else self._checked(columns)

    def _checked(self, columns: list[str | int]) -> list[str | int]:
        if len(columns) < 3 or len(set(columns)) < len(columns):
            raise ValueError(f"columns are {columns}; expected x, y, z and what else there is, each once.")
        if self.time is not None and self.time not in columns[3:]:
            raise ValueError(f"time is {self.time!r}, which is none of the columns after z: {columns[3:]}.")
        return list(columns)

    def _axes_of(self, columns: list[str | int]) -> list[int]:
        """Numbers of the columns by which points are near to one another: of space, and of time."""
        return [0, 1, 2] if self.time is None else [0, 1, 2, columns.index(self.time)]

    def build(self, columns: list[str | int] | None = None) -> None:
        """Make the PointNet for these columns; by default for those of the option."""
        self.columns = columns = self._checked(columns or self.columns)
        count = len(columns)
        self.axes = self._axes_of(columns)
        self.vectors = [[columns.index(n) for n in names] for names in VECTORS if set(names) <= set(columns[3:])]
        # float64: coordinates in metres are millions, and a cloud is a few metres wide.
        self.register_buffer("centre", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(count, dtype=torch.float64))
        self.register_buffer("reach", torch.ones(()))  # of a group
        self.register_buffer("edges", torch.zeros(count, 2 * (BINS - 1)))
        self.local = nn.Linear(len(self.axes), self.width)
        self.further = silent_linear(count - 3, self.width)
        self.inner = nn.Linear(self.width, self.width)
        self.outer = nn.Linear(self.width, 2 * self.width)
        self.whole = nn.Linear(self.width, 2 * self.width, bias=False)
        self.norm = nn.LayerNorm(2 * self.width)
        self.groups_out = orthogonal_linear(2 * self.width, self.dim)
        self.place = nn.Sequential(nn.Linear(len(self.axes), 128), nn.GELU(), orthogonal_linear(128, self.dim))
        if self.slices:
            self.register_buffer("cuts", torch.zeros(self.slices - 1))  # of the time
            features = 2 * BINS - 1 + 2
            self.register_buffer("usual", torch.zeros(count, features))
            self.register_buffer("varies", torch.ones(count, features))
            self.shape = orthogonal_linear(3 * features + 1, self.dim)
            self.shape_further = silent_linear((count - 3) * features, self.dim)
            self.when = nn.Parameter(torch.empty(self.parts, self.dim))
            nn.init.trunc_normal_(self.when, std=0.02)

    @property
    def parts(self) -> int:
        """Tokens in front: the cloud's own, and those of its slices in time."""
        return self.slices and 1 + (self.slices if self.time is not None else 0)

    @classmethod
    def accepts(cls, value: Any) -> bool:
        """Names of files, rows of numbers, and dicts with points."""
        if isinstance(value, dict):
            return "points" in value
        if isinstance(value, list | np.ndarray):
            return len(value) > 0 and isinstance(value[0], list | np.ndarray) and len(value[0]) > 2
        return isinstance(value, str) and value.lower().endswith(cls.suffixes)

    def fit(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Learn columns, and mean, deviation and bins of each over the training split.

        Raises:
            ValueError: If no cloud can be used.
        """
        columns = self.columns

        def read(sample: Any) -> np.ndarray:
            nonlocal columns
            cloud = read_cloud(sample, self.points, self.drop_invalid)
            columns = columns or self._checked(list(cloud.columns) or list(range(cloud.points.shape[1])))
            values = _selected(cloud, columns)
            drawn: np.ndarray = values[self._drawn(sorted_order(values))]
            return drawn

        clouds = read_all(read, (samples[i] for i in range(0, len(samples), -(-len(samples) // FITTED))))
        return {"columns": columns, **self._statistics(clouds, self._axes_of(columns))}

    def _statistics(self, clouds: list[np.ndarray], axes: list[int]) -> dict[str, Tensor]:
        """All buffers, from the chosen columns of clouds, each (N, C)."""
        rows = np.concatenate(clouds)
        spread = np.where(np.ptp(rows, axis=0) > 0, rows.std(0), 0.0)  # else it is rounding alone
        spread[:3] = np.sqrt(np.square(spread[:3]).mean())  # one scale for space
        centre = rows.mean(0)
        spread = np.where(spread > 0, spread, 1)
        encoded = [self._grouped(cloud, centre, spread, axes) for cloud in clouds]
        scaled = torch.cat([one["points"] for one in encoded]).numpy()
        inner = np.arange(1, BINS) / BINS
        low, high = np.quantile(scaled, [EXTREMES, 1 - EXTREMES], axis=0)
        # Fine where points crowd, and over the whole range: together they carry over to unseen recordings best.
        quantiles = np.quantile(scaled, inner, axis=0)
        edges = np.sort(np.concatenate([quantiles, low + inner[:, None] * (high - low)]), axis=0)
        learned = {
            "centre": torch.from_numpy(centre),
            "spread": torch.from_numpy(spread),
            "edges": torch.from_numpy(edges.T).float().contiguous(),
        }
        offsets = torch.stack([_members([cloud["points"]], cloud["groups"][None], axes)[0] for cloud in encoded])
        reach = offsets.square().mean().sqrt()
        learned["reach"] = reach if reach > 0 else torch.ones(())
        if self.slices:
            cuts = torch.zeros(self.slices - 1)
            if self.time is not None:
                parts = np.quantile(scaled[:, axes[3]], np.arange(1, self.slices) / self.slices)
                cuts = torch.from_numpy(parts).float()
            slicing = (axes[3], cuts) if self.time is not None else None
            shapes = torch.cat([distributions([cloud["points"]], learned["edges"], slicing)[0][0] for cloud in encoded])
            learned["cuts"] = cuts
            learned["usual"] = shapes.mean(0)
            learned["varies"] = shapes.std(0, correction=0).clamp_min(LEAST)
        return learned

    def _drawn(self, order: np.ndarray) -> np.ndarray:
        """At most ``points`` of the points, in sorted order."""
        if len(order) <= self.points:
            return order
        drawn = np.random.default_rng(0).choice(len(order), self.points, replace=False)
        return order[np.sort(drawn)]

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """A cloud to ``points`` (N, C), scaled, and ``groups`` (G, k) int32: which points each holds, centre first."""
        values = _selected(read_cloud(sample, self.points, self.drop_invalid), self.columns)
        return self._grouped(values, self.centre.cpu().numpy(), self.spread.cpu().numpy(), self.axes)

    def _grouped(
        self, values: np.ndarray, centre: np.ndarray, spread: np.ndarray, axes: list[int]
    ) -> dict[str, Tensor]:
        order = sorted_order(values)
        centre = centre.copy()
        spread = spread.copy()
        if self.normalize == "unit":
            centre[:3] = values[order, :3].mean(0)
            radius = np.sqrt(np.square(values[:, :3] - centre[:3]).sum(1).max())
            spread[:3] = radius if radius > 0 else 1
        scaled = (values - centre) / spread
        scaled[:, 3:] = np.arcsinh(scaled[:, 3:])  # an outlier stays small
        scaled = scaled.astype(np.float32)
        drawn = self._drawn(order)
        space = scaled[drawn][:, axes]
        groups = drawn[nearest(space, farthest_points(space, self.groups), self.neighbours)]
        return {"points": torch.from_numpy(scaled), "groups": torch.from_numpy(groups.astype(np.int32))}

    def json_schema(self) -> dict[str, Any]:
        """Points, by themselves or with the names of their columns."""
        point = {**array_schema("columns"), "minItems": 3}
        points = array_schema("points", cells=point)
        named = {"points": points, "columns": array_schema("names", cells={"type": "string"})}
        ball = np.sin(np.arange(16)[:, None] + 1.3 * np.arange(len(self.columns))[None])
        example: Any = np.round(self.centre.cpu().numpy() + self.spread.cpu().numpy() * ball, 4).tolist()
        if not all(isinstance(column, int) for column in self.columns):
            example = {"points": example, "columns": [str(column) for column in self.columns]}
        return {
            "title": "points x columns",
            "anyOf": [points, {"type": "object", "properties": named, "required": ["points"]}],
            "examples": [example],
        }

    def from_json(self, value: Any) -> Any:
        """Numbers, and names of columns."""
        if not isinstance(value, dict):
            return super().from_json(value)
        names = value.get("columns")
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise SampleError(f"columns are {names!r:.40}; expected a list of names")
        numbers = super().from_json({name: part for name, part in value.items() if name != "columns"})
        return {**numbers, "columns": names} if "columns" in value else numbers

    def augment(self, encoded: dict[str, Tensor]) -> dict[str, Tensor]:
        """The cloud turned, mirrored, scaled, jittered, thinned, as ``augment`` says."""
        vary = self.variations.get
        points = encoded["points"].clone()
        groups = encoded["groups"]
        turn = torch.eye(3)
        if degrees := vary("rotation", 0.0):
            angle = (2 * torch.rand(()) - 1) * degrees * torch.pi / 180
            turn[0, 0] = turn[1, 1] = angle.cos()
            turn[1, 0] = angle.sin()
            turn[0, 1] = -angle.sin()
        if "mirror" in self.variations and torch.rand(()) < 0.5:
            turn[:, int(self.variations["mirror"])] *= -1
        for at in self.vectors:
            # They were squashed when they were scaled.
            centre = self.centre[at].cpu()
            spread = self.spread[at].cpu()
            true = points[:, at].sinh() * spread + centre
            points[:, at] = ((true @ turn.T.double() - centre) / spread).asinh().float()
        size = 1 + (2 * torch.rand(()) - 1) * vary("scale", 0.0)
        points[:, :3] = size * points[:, :3] @ turn.T
        if deviation := vary("jitter", 0.0):
            points[:, :3] += deviation * torch.randn(len(points), 3)
        if share := vary("dropout", 0.0):
            gone = torch.rand(len(points)) < share * torch.rand(())
            gone[groups[:, 0].long()] = False
            groups = torch.where(gone[groups.long()], groups[:, :1], groups)
            kept = (~gone).nonzero()[:, 0]
            points[gone] = points[kept[torch.randint(len(kept), (int(gone.sum()),))]]
            return {"points": points, "groups": groups}
        # Each point is still the one it was, so whatever is said of it holds.
        return {"points": points, "groups": groups, "view": WHOLE}

    def forward(self, batch: Batch) -> TokenSequence:
        """Points (B, N, C), or B of (N, C), and groups (B, G, k) to the tokens of distributions, then of groups."""
        points = list(batch["points"])
        local, further, centres = _members(points, batch["groups"], self.axes)
        features = self.local(local / self.reach)
        if self.further is not None:
            features = features + self.further(further)
        features = self.inner(F.relu(features))
        # Each point beside the whole group, before the group is read again; relu and amax swap for speed.
        features = F.relu(self.outer(features).amax(2) + self.whole(features.amax(2)))
        tokens = self.groups_out(self.norm(features)) + self.place(centres)
        if self.slices:
            tokens = torch.cat([self._shapes(points), tokens], dim=1)
        everything = batch["points"]
        coordinates = everything[..., :3] if isinstance(everything, Tensor) else [one[:, :3] for one in everything]
        return TokenSequence.pack(tokens, context={"centres": centres[..., :3], "points": coordinates})

    def _shapes(self, points: Sequence[Tensor]) -> Tensor:
        """(B, P, D)."""
        slicing = (self.axes[3], self.cuts) if self.time is not None else None
        found, shares = distributions(points, self.edges, slicing)
        standard = ((found - self.usual) / self.varies).asinh()
        shares = (shares + LEAST).log()[..., None]
        tokens: Tensor = self.shape(torch.cat([standard[:, :, :3].flatten(2), shares], dim=2))
        if self.shape_further is not None:
            tokens = tokens + self.shape_further(standard[:, :, 3:].flatten(2))
        return tokens + self.when

    def dense_values(self, sample: Any) -> np.ndarray:
        """The points (N, C), scaled."""
        return self.encode(sample)["points"].numpy()

    def token_places(self, sample: Any) -> PointPlaces:
        """The tokens of the whole cloud and its slices, then groups of points."""
        encoded = self.encode(sample)
        names = [f"distribution {at + 1}" for at in range(self.parts)]
        centres = encoded["points"][encoded["groups"][:, 0].long(), :3].tolist()
        names += [f"points around {x:.2f}, {y:.2f}, {z:.2f}" for x, y, z in centres]
        return PointPlaces(names, encoded["points"][:, :3].numpy(), encoded["groups"].numpy())

    def baseline_features(self, sample: Any) -> np.ndarray:
        """The distances between random points (D2, Osada et al. 2002), and how each column is distributed."""
        points = self.encode(sample)["points"].numpy()
        points = points[sorted_order(points)]
        first, second = np.random.default_rng(0).integers(0, len(points), (2, PAIRS))
        distances = np.linalg.norm(points[first, :3] - points[second, :3], axis=1)
        shares = distributions([torch.from_numpy(points)], self.edges.cpu())[0][0, 0]
        return np.concatenate([np.quantile(distances, np.linspace(0, 1, 33)), shares.flatten().numpy()])


def _selected(cloud: Cloud, columns: Sequence[str | int]) -> np.ndarray:
    """The columns that are used (N, C). Raises SampleError if one is missing."""
    count = cloud.points.shape[1]
    names = cloud.columns
    if not names:
        named = all(isinstance(column, str) for column in columns)
        names = tuple(map(str, columns)) if named and count == len(columns) else ("x", "y", "z")
    at = []
    for column in columns:
        if column not in (range(count) if isinstance(column, int) else names):
            found = ", ".join(cloud.columns) or f"{count} columns without names, counted from 0"
            raise SampleError(f"column {column} is missing; found {found}")
        at.append(column if isinstance(column, int) else names.index(column))
    selected: np.ndarray = cloud.points[:, at]
    return selected


def _members(points: Sequence[Tensor], groups: Tensor, axes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Places relative to the centre (B, G, k, A), further columns (B, G, k, C - 3), centres (B, G, A)."""
    counts = torch.tensor([len(cloud) for cloud in points])
    starts = sent(counts.cumsum(0) - counts, groups.device)
    members = torch.cat(list(points))[groups.long() + starts[:, None, None]]
    places = members[..., sent(torch.tensor(axes), members.device)]
    centres = places[:, :, :1]
    return places - centres, members[..., 3:], centres[:, :, 0]
