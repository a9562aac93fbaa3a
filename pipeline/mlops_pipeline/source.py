# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the ONNX file that somebody means: on disk, in the model registry or in a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import tracking
from .config import Config
from .errors import PipelineError

SCHEMES = ("models:/", "runs:/")
DESCRIPTION = "MLmodel"
MAX_DESCRIPTION = 1024 * 1024
EXAMPLES = ("serving_input_example.json", "input_example.json")


@dataclass(frozen=True)
class Source:
    """An ONNX file, and the input example that was logged with it."""

    model: Path
    example: Path | None = None
    origin: str = ""


def find(text: str, folder: Path, config: Config | None, most_mib: int) -> Source:
    """Find the model; what comes from the registry is fetched into the folder."""
    if text.startswith(SCHEMES):
        if config is None:
            raise PipelineError(
                f"To read {text} the model registry must be known: give --config with its part "
                "mlflow (url, user, ca_file)."
            )
        return in_folder(fetch(tracking.connect(config), text, folder, most_mib), text)
    path = Path(text)
    if path.is_dir():
        return in_folder(path, text)
    if not path.is_file():
        raise PipelineError(
            f"Found no model at {text}; wanted an ONNX file, a folder, models:/name@alias, "
            "models:/name/3 or runs:/…/model."
        )
    return Source(path, None, path.name)


def flavours(folder: Path) -> dict[str, Any] | None:
    """What MLflow's description says a folder holds; None without a description."""
    path = folder / DESCRIPTION
    if not path.is_file():
        return None
    import yaml

    try:
        if path.stat().st_size > MAX_DESCRIPTION:
            raise PipelineError(f"The file {path} is larger than 1 MiB; MLflow's are small.")
        value = yaml.safe_load(path.read_bytes())
        found = dict(value["flavors"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise PipelineError(
            f"The file {path} is not a description that MLflow writes ({type(error).__name__})."
        ) from None
    return found


def in_folder(folder: Path, origin: str) -> Source:
    """Find the one ONNX file of a folder."""
    known = flavours(folder)
    if known is not None:
        if "onnx" not in known:
            raise PipelineError(
                f"The model {origin} is logged as {', '.join(sorted(known))}, without ONNX, which "
                "is what devices serve. Convert it and log it by mlflow.onnx.log_model "
                "(scikit-learn: skl2onnx.to_onnx with zipmap off; PyTorch: torch.onnx.export)."
            )
        part = known["onnx"]
        name = part.get("data", "model.onnx") if isinstance(part, Mapping) else "model.onnx"
        model = folder / Path(str(name)).name
        example = next((folder / each for each in EXAMPLES if (folder / each).is_file()), None)
        if not model.is_file():
            raise PipelineError(f"The model {origin} says that it is in {name}, which is missing.")
        return Source(model, example, origin)
    named = folder / "model.onnx"
    models = [named] if named.is_file() else sorted(folder.glob("*.onnx"))
    if len(models) != 1:
        found = ", ".join(each.name for each in models[:5]) or "none"
        raise PipelineError(
            f"The folder {origin} holds {len(models)} ONNX files ({found}); name the one you mean."
        )
    return Source(models[0], None, origin)


def fetch(mlflow: Any, uri: str, folder: Path, most_mib: int) -> Path:
    """Download a logged model, unless it is larger than a release may be."""
    with tracking.sentences(f"read the model {uri}"):
        size = listed_bytes(mlflow, uri)
        # Room for what travels with a model beside its weights.
        if size > (most_mib + 64) * 2**20:
            raise PipelineError(
                f"The model {uri} has {size / 2**20:.0f} MiB, more than the {most_mib} MiB of a "
                "release (limits, release_max_mib)."
            )
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder / "fetched")))


def listed_bytes(mlflow: Any, uri: str, deep: int = 0) -> int:
    """Bytes of all files below a place, as the registry says."""
    if deep > 8:
        raise PipelineError(f"The folders of {uri} are nested deeper than a model's.")
    total = 0
    base = uri.rstrip("/")
    for each in mlflow.artifacts.list_artifacts(artifact_uri=base):
        if each.is_dir:
            total += listed_bytes(mlflow, f"{base}/{Path(each.path).name}", deep + 1)
        else:
            total += int(each.file_size or 0)
    return total
