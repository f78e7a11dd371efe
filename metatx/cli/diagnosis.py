"""``metatx doctor``: what an installation has, for its user and for the report of a fault."""

import os
import platform
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from metatx import __version__

__all__ = ["doctor"]

# Variables that change what a command does. METATX_TOKEN is not among them: it is a secret.
VARIABLES = ("METATX_DATA", "METATX_WEIGHTS", "METATX_CACHE", "METATX_CACHE_GB", "METATX_BOUNDS", "METATX_FOLLOW_LINKS")
THREADS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES")


def doctor() -> None:
    """Describe this installation: versions, what extras lack, devices and number formats, variables, the cache."""
    print(f"metatx     {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for extra, (present, lacking) in _packages().items():
        print(f"{extra or 'packages':<11}{', '.join(present)}")
        if lacking:
            print(f'{"":<11}lacks {", ".join(lacking)}: pip install "metatx[{extra}]"'.replace("[]", ""))
    for line in _devices():
        print(f"device     {line}")
    for name in (*VARIABLES, *THREADS):
        if name in os.environ:
            print(f"variable   {name}={os.environ[name]}")
    print(f"cache      {_cache()}")


def _packages() -> dict[str, tuple[list[str], list[str]]]:
    """Packages with their versions that are there and fit, and requirements that are not met, by extra ("": none)."""
    from packaging.requirements import Requirement

    try:
        metadata = distribution("metatx")
    except PackageNotFoundError:
        return {"": ([], ["the installation of metatx itself, which runs from a folder"])}
    found: dict[str, tuple[list[str], list[str]]] = {}
    extras = [name for name in metadata.metadata.get_all("Provides-Extra", []) if name != "all"]
    for text in metadata.requires or []:
        requirement = Requirement(text)
        extra = next((name for name in ["", *extras] if _applies(requirement.marker, name)), None)
        if extra is None:  # of another system, or of all extras together
            continue
        present, lacking = found.setdefault(extra, ([], []))
        try:
            number = version(requirement.name)
        except PackageNotFoundError:
            lacking.append(requirement.name)
            continue
        fits = requirement.specifier.contains(number, prereleases=True)
        (present if fits else lacking).append(f"{requirement.name} {number}" + ("" if fits else f" ({requirement})"))
    return found


def _applies(marker: object, extra: str) -> bool:
    evaluate = getattr(marker, "evaluate", None)
    return bool(evaluate({"extra": extra})) if evaluate else not extra


def _devices() -> list[str]:
    """Devices that torch has, and whether "auto" computes in bfloat16 on each."""
    import torch

    from metatx.settings import RunSettings

    names = [torch.device("cpu"), *(torch.device("cuda", number) for number in range(torch.cuda.device_count()))]
    lines = []
    for device in names:
        what = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of torch"
        if device.type == "cuda":
            what = f"{torch.cuda.get_device_name(device)}, {torch.cuda.mem_get_info(device)[1] / 1e9:.0f} GB"
        precision = "bf16" if RunSettings().is_half(device) else "fp32"
        lines.append(f"{device}: {what}; precision auto is {precision}")
    return lines


def _cache() -> str:
    """Folder of the cache, and how much it holds."""
    from metatx.disk.cache import cache_folder

    folder = cache_folder()
    files = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    return f"{folder}, {sum(file.lstat().st_size for file in files) / 1e9:.1f} GB in {len(files)} files"
