"""Versions of the packages that a measurement depends on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

_DEPENDED_ON = ("torch", "torchvision", "numpy", "msgspec", "safetensors", "psutil", "pyroute2")


def package_versions() -> dict[str, str | None]:
    """Of each, None of what is not installed."""
    return {name: installed_version(name) for name in _DEPENDED_ON}


def installed_version(package: str) -> str | None:
    """The version of one, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
