"""metatx: one frozen transformer for many tasks over many kinds of data.

Letters used for shapes, here and everywhere: B samples, S sequences (a sample is one sequence, or several
where its tokenizer cuts it in parts), N tokens of one sequence, T tokens of a whole batch, D width of the
backbone, C channels, H and W height and width, K classes.

Examples in docstrings run as they stand after ``import metatx``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metatx.backbone.base import Backbone
    from metatx.backbone.loading import load_backbone
    from metatx.bridge import Bridge
    from metatx.errors import SampleError
    from metatx.evaluation.compare import compare
    from metatx.evaluation.recipe import Recipe
    from metatx.evaluation.run import run
    from metatx.explaining.explain import explain
    from metatx.fusion import Fusion
    from metatx.head import Head
    from metatx.objective import Objective
    from metatx.pool.pool import TaskPool
    from metatx.pretraining.alignment import Alignment
    from metatx.registry import (
        create,
        names,
        register_bridge,
        register_fusion,
        register_head,
        register_objective,
        register_tokenizer,
    )
    from metatx.retrieval.index import Index
    from metatx.retrieval.recall import Paired, recall
    from metatx.sequence import TokenSequence
    from metatx.serving.client import AsyncClient, Client
    from metatx.settings import TrainingSettings
    from metatx.spec import Input, TaskSpec
    from metatx.task import Task
    from metatx.tokenizer import Tokenizer

__version__ = "0.1.0"

__all__ = [
    "Alignment",
    "AsyncClient",
    "Backbone",
    "Bridge",
    "Client",
    "Fusion",
    "Head",
    "Index",
    "Input",
    "Objective",
    "Paired",
    "Recipe",
    "SampleError",
    "Task",
    "TaskPool",
    "TaskSpec",
    "TokenSequence",
    "Tokenizer",
    "TrainingSettings",
    "compare",
    "create",
    "explain",
    "load_backbone",
    "names",
    "recall",
    "register_bridge",
    "register_fusion",
    "register_head",
    "register_objective",
    "register_tokenizer",
    "run",
]

_HOME = {
    "Alignment": "pretraining.alignment",
    "AsyncClient": "serving.client",
    "Backbone": "backbone.base",
    "Bridge": "bridge",
    "Client": "serving.client",
    "Fusion": "fusion",
    "Head": "head",
    "Index": "retrieval.index",
    "Input": "spec",
    "Objective": "objective",
    "Paired": "retrieval.recall",
    "Recipe": "evaluation.recipe",
    "SampleError": "errors",
    "Task": "task",
    "TaskPool": "pool.pool",
    "TaskSpec": "spec",
    "TokenSequence": "sequence",
    "Tokenizer": "tokenizer",
    "TrainingSettings": "settings",
    "compare": "evaluation.compare",
    "create": "registry",
    "explain": "explaining.explain",
    "load_backbone": "backbone.loading",
    "names": "registry",
    "recall": "retrieval.recall",
    "register_bridge": "registry",
    "register_fusion": "registry",
    "register_head": "registry",
    "register_objective": "registry",
    "register_tokenizer": "registry",
    "run": "evaluation.run",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that ``import metatx`` stays light."""
    if name not in _HOME:
        raise AttributeError(f"module 'metatx' has no attribute {name!r}")
    return getattr(import_module(f"metatx.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
