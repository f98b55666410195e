"""Weights, gradients and the optimizer's moments split over the processes of a run: FSDP2, torch's `fully_shard`.

Every layer is gathered before it is run and freed afterwards, so a GPU holds a share of the model and one layer whole. The
model is run by its own forward pass; gradients come summed, as the loss is divided by the tokens of all processes.
Source: Zhao et al. 2023, "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmops_tasks.models import hardware
from llmops_tasks.training import lora_targets, processes

if TYPE_CHECKING:
    import torch


def shard(model: Any) -> None:
    """Split a model in place.

    Args:
        model: transformers' causal LM, with or without LoRA inside.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    mesh = init_device_mesh(hardware.device_type(), (processes.count(),))
    name, _ = lora_targets.layers_of(model)
    for layer in model.get_submodule(name):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)  # a sum, not a mean
            part.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    torch.distributed.barrier()


def whole(value: torch.Tensor) -> torch.Tensor:
    """All of a tensor that may be split; every process must ask for it."""
    import torch

    full = getattr(value, "full_tensor", None)
    found: torch.Tensor = full() if full else value
    return found.detach() if isinstance(found, torch.Tensor) else found


def gathered(model: Any) -> dict[str, torch.Tensor]:
    """All weights of a model that is split, whole and in main memory; those that modules share, once."""
    named = {name for name, _ in model.named_parameters()}
    twice = {name for name, _ in model.named_parameters(remove_duplicate=False)} - named
    return {name: whole(value).cpu() for name, value in model.state_dict().items() if name not in twice}


def like(full: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """A whole tensor, split as another one is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    full = full.to(value.device)
    if not isinstance(value, DTensor) or full.shape != value.shape:  # the number of an optimizer's steps is not split
        return full
    return distribute_tensor(
        full, value.device_mesh, value.placements, src_data_rank=None
    )  # every process has all of it
