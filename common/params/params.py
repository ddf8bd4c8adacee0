"""The parameters of every stage, read from params.yaml and checked; its sections are models of their own."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from upheld import ROOT
from upheld.common.errors import BadUse
from upheld.common.params import data, evaluation, extractors, logos, training
from upheld.common.params.section import Section

FILE = Path("params.yaml")


class Params(Section):
    """All sections of params.yaml. Each section is named after the stage or command that reads it."""

    policies: tuple[str, ...] = Field(min_length=1)
    seed: int = Field(ge=0)
    ingest: data.Ingest
    expectations: data.Expectations
    features: data.Features
    language: extractors.Language
    text_embedding: extractors.TextEmbedding
    image_embedding: extractors.ImageEmbedding
    clip: extractors.Clip
    ocr: extractors.Ocr
    faces: extractors.Faces
    caption: extractors.Caption
    vision_answer: extractors.VisionAnswer
    video_bounds: extractors.VideoBounds
    audio_bounds: extractors.AudioBounds
    keyframes: extractors.Keyframes
    motion: extractors.Motion
    action: extractors.Action
    speech: extractors.Speech
    transcript: extractors.Transcript
    spectrogram: extractors.Spectrogram
    audio_fingerprint: extractors.AudioFingerprint
    labels: data.Labels
    splits: data.Splits
    snapshot: data.Snapshot
    compute: training.Compute
    ngrams: training.Ngrams
    teacher: training.Teacher
    text: training.Text
    image: training.Image
    audio: training.Audio
    logo: training.Logo
    predict: training.Predict
    fusion: training.Fusion
    attacks: training.Attacks
    logo_data: logos.LogoData
    logo_compose: logos.LogoCompose
    calibration: evaluation.Calibration
    thresholds: evaluation.Thresholds
    fairness: evaluation.Fairness
    drift: evaluation.Drift
    reviewers: evaluation.Reviewers
    gate: evaluation.Gate
    behave: evaluation.Behave
    dsa_export: evaluation.DsaExport
    promote: evaluation.Promote
    audit_sample: evaluation.AuditSample
    suspects: training.Suspects
    sample_data: data.SampleData

    @property
    def decode_memory_bytes(self) -> int:
        """Of a process that decodes foreign bytes, beyond what it takes by itself."""
        return self.features.decode_memory_bytes


def load(path: Path, overrides: list[str] | None = None, store: Path | None = None) -> Params:
    """Read and check the params file.

    The stages of the graph name no store: DVC knows the values of the params file alone.

    Args:
        path: YAML file; where there is no `params.yaml` in the working folder, the one that comes with the package is taken.
        overrides: `section.key=value` strings, value in YAML syntax; each replaces what the files say.
        store: its own params file, if it has one, replaces what `path` says, except where `path` is the file of a run's
            workspace, which holds all that the run was given.

    Returns:
        the checked parameters.

    Raises:
        BadUse: a file is missing or no YAML mapping, a key is unknown, a value has the wrong type or range,
            or an override is not of the form key=value. The message names the file and the key.
    """
    if path == FILE and not path.exists():
        path = ROOT / "upheld" / FILE
    content = _read(path)
    kept = {} if store is None or (path.parent / "run.json").exists() else of_store(store)
    if store is not None and kept:
        check(content, str(path))
        for key, value in kept.items():
            _replace(content, key, value, f"{own_file(store)}")
        check(content, str(own_file(store)))
    for override in overrides or []:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise BadUse(f"--set {override}: expected section.key=value")
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise BadUse(f"--set {override[:200]}: not a value in YAML: {error}") from error
        _replace(content, key, value, f"--set {override}")
    return check(content, str(path))


def own_file(store: Path) -> Path:
    """The params file of a store: what holds for every later command on it, where that differs from the params file."""
    return store / FILE


def of_store(store: Path) -> dict[str, Any]:
    """What a store's own params file says, flat; empty where it has none. The keys are not checked.

    Raises:
        BadUse: it cannot be read, or is no YAML mapping.
    """
    return flatten(_read(own_file(store))) if own_file(store).exists() else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadUse(f"{path}: cannot be read ({error.strerror}); expected the params file, name it with --params") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # the last for bytes that are no UTF-8
        raise BadUse(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise BadUse(f"{path}: expected a mapping of sections, found {type(content).__name__}")
    return content


def check(content: dict[str, Any], origin: str) -> Params:
    """Validate a mapping of sections.

    Raises:
        BadUse: naming `origin`, the first offending key, what is wrong with it and how many further ones there are.
    """
    try:
        return Params.model_validate(_tuples(content))
    except ValidationError as error:
        first, *rest = error.errors()
        key = ".".join(str(part) for part in first["loc"])
        more = f" (and {len(rest)} more)" if rest else ""
        raise BadUse(f"{origin}: key {key}: {first['msg']}, got {first['input']!r}{more}") from error


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping to `section.key` names; lists and empty mappings stay values."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat


def _tuples(value: Any) -> Any:
    """YAML has lists only; strict models want tuples."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _replace(content: dict[str, Any], key: str, value: Any, origin: str) -> None:
    *parents, leaf = key.split(".")
    target = content
    for parent in parents:
        target = target.get(parent)  # type: ignore[assignment]
        if not isinstance(target, dict):
            raise BadUse(f"{origin}: there is no section {parent!r} in the params file")
    if leaf not in target:
        raise BadUse(f"{origin}: unknown key {key!r}; known here: {', '.join(sorted(map(str, target)))}")
    if isinstance(value, str) and isinstance(target[leaf], float):  # YAML takes 1e-4 for a string
        with suppress(ValueError):
            value = float(value)
    target[leaf] = value
