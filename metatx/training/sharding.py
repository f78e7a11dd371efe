"""Sharding: the blocks of a frozen backbone are divided among the processes while a task trains."""

import copy
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import distributed, nn

from metatx.backbone.base import Backbone
from metatx.backbone.packed import pack
from metatx.errors import DivergedError, Stopped

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["Shards"]


class Shards:
    """Context in which each process holds its share of the blocks' matrices, and gathers a block while it runs.

    This is PyTorch's FSDP (Zhao et al. 2023, arXiv 2304.11277) with each block as a unit, for weights that take no
    gradient: nothing is reduced, and a block is gathered again in the backward pass. Vectors (norms, biases), less
    than a hundredth of a ViT, are not divided.

    All processes must pass through the blocks equally often; a process with fewer batches calls ``join`` for the rest.
    After the context the backbone is whole again, bit for bit, in the same parameters. After an error other than
    DivergedError and Stopped, which all processes raise together, it stays divided, because the other processes may
    have ended; it must then be loaded again.

    Args:
        backbone: Frozen backbone, the same in all processes.
        half: True gathers matrices in bfloat16. Autocast would cast them too, but keep copies of all of them until the
            backward pass.
    """

    def __init__(self, backbone: Backbone, half: bool) -> None:
        self.backbone = backbone
        self.half = half
        self.whole: list[tuple[nn.Module, dict[str, nn.Parameter]]] = []  # undivided blocks and their matrices

    def __enter__(self) -> "Shards":
        mesh = _mesh(self.backbone.device.type)
        for number, block in enumerate(self.backbone.blocks):
            matrices = {name: parameter for name, parameter in block.named_parameters() if parameter.ndim > 1}
            self.whole.append((block, matrices))
            # A copy is divided, because fully_shard changes a module permanently.
            self.backbone.blocks[number] = self._divided(copy.deepcopy(block), mesh)
            for matrix in matrices.values():
                matrix.data = matrix.new_empty(0)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, DivergedError | Stopped):
            return
        from torch.distributed.tensor import DTensor

        for number, (block, matrices) in enumerate(self.whole):
            divided = self.backbone.blocks[number]
            for name, matrix in matrices.items():
                share = divided.get_parameter(name)
                assert isinstance(share, DTensor)
                matrix.data = share.full_tensor()
            self.backbone.blocks[number] = block
        self.whole = []

    def join(self) -> None:
        """Take part in a pass of other processes through the blocks, without computing anything."""
        from torch.distributed.fsdp import FSDPModule

        for block in self.backbone.blocks:
            if isinstance(block, FSDPModule):
                block.unshard()
                block.reshard()

    def _divided(self, block: nn.Module, mesh: "DeviceMesh") -> nn.Module:
        # Imported here: it takes two thirds of a second, and few runs need it.
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        pack(block, None)  # packed weights would be whole in each process
        vectors = {parameter for parameter in block.parameters() if parameter.ndim < 2}
        policy = MixedPrecisionPolicy(torch.bfloat16 if self.half else None, cast_forward_inputs=False)
        fully_shard(block, mesh=mesh, reshard_after_forward=True, mp_policy=policy, ignored_params=vectors)
        return block


@cache  # torch keeps the group of the first mesh for all equal meshes
def _mesh(device: str) -> "DeviceMesh":
    """Mesh of all processes, with its own group: gradients are summed in the other group, perhaps in another order."""
    from torch.distributed.device_mesh import DeviceMesh

    group = distributed.new_group()
    assert group is not None
    return DeviceMesh.from_group(group, device)
