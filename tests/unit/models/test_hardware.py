"""The number format follows from the use case and the hardware; no GPU is needed to see it."""

from __future__ import annotations

import pytest

from llmops_tasks.models import hardware


@pytest.mark.parametrize(
    ("device", "bf16", "answers", "trains"),
    [("cpu", False, "fp32", "fp32"), ("cuda", True, "bf16", "bf16"), ("cuda", False, "fp16", "fp32"), ("mps", True, "bf16", "bf16")],
)  # fmt: skip
def test_auto_follows_the_hardware_and_what_is_asked_for_is_kept(
    monkeypatch: pytest.MonkeyPatch, device: str, bf16: bool, answers: str, trains: str
) -> None:
    monkeypatch.setattr(hardware, "device_type", lambda: device)
    monkeypatch.setattr(hardware, "_has_bf16", lambda: bf16)
    assert (hardware.inference_format("auto"), hardware.training_format("auto")) == (answers, trains)
    assert [hardware.inference_format(name) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]
    assert [hardware.training_format(name) for name in ("fp32", "bf16")] == ["fp32", "bf16"]


def test_a_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert hardware.device() == hardware.device_type()  # none here
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert (hardware.device(), hardware.device_type()) == ("cuda:3", "cuda")
    assert hardware.inference_format("auto") == "fp16"  # what only emulates bf16 does not compute in it


def test_memory_is_that_of_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert hardware.free_mib() is None and hardware.peak_mib() > 50
    monkeypatch.setattr(hardware, "device_type", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**30, 2**33))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 2**29)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 2**31)
    assert (hardware.free_mib(), hardware.peak_mib()) == (1536, 2048)


def test_formats_are_those_of_torch() -> None:
    import torch

    assert [hardware.dtype(name) for name in ("fp32", "bf16", "fp16")] == [torch.float32, torch.bfloat16, torch.float16]
