"""The assembled model in one folder that loads in a clean process and never unpickles: classifiers, logo detector, fusion, calibration."""

import importlib.metadata
import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import ValidationError

from upheld.common.errors import FailedWork
from upheld.common.files import replacing_folder, write_json
from upheld.common.progress import Report, silent
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts import workspace as paths
from upheld.feature_store.contracts.snapshot import MEMBERSHIP_FILE, read_manifest
from upheld.feature_store.decisions import calibration as calibration_map
from upheld.training.fusion import model as fusion_model
from upheld.training.pipeline import stage1

if TYPE_CHECKING:
    from upheld.training.logos.detector import Detector

FORMAT = 4
BEFORE_NGRAMS = 3  # the format of bundles without an n-gram classifier, which load as they are
DESCRIPTION = "pipeline.json"
# Where a finished workspace keeps what a bundle holds.
PARTS = {
    "text": paths.TEXT_MODEL,
    "ngrams": paths.NGRAM_MODEL,
    "image": paths.IMAGE_MODEL,
    "audio": paths.AUDIO_MODEL,
    "logo": paths.LOGO_MODEL,
    "logo_evaluation.json": paths.LOGO_CERTIFICATE,
    "fusion": paths.FUSION.parent,
    "calibration/calibration.json": paths.CALIBRATION_MAPS,
    "thresholds.json": paths.THRESHOLDS,
    MEMBERSHIP_FILE: paths.SNAPSHOT / MEMBERSHIP_FILE,
}
LIBRARIES = ("torch", "transformers", "timm", "tokenizers", "numpy")  # what a probability's last digits may depend on
BATCH_SIZE = 32
CHUNK_SIZE = 2048


@dataclass(frozen=True)
class Logos:
    """A logo detector, and the confidence from which what it detects counts (None: nothing does)."""

    detector: "Detector"
    threshold: float | None

    def of_posts(self, posts: pd.DataFrame, fetch: stage1.FetchImages) -> pd.DataFrame:
        """What `stage1.logo_signals` says of posts, from their pictures, which `fetch` gives by digest."""
        from upheld.training.logos import scan  # OpenCV: only where there are pictures to look at

        shown = pd.DataFrame({"post_id": posts["post_id"].to_numpy(), "image_digests": stage1.listed(posts, "image_digests")})
        found = scan.scan_pictures(self.detector, (name for names in shown["image_digests"] for name in names), fetch)
        return stage1.logo_signals(shown, found.detections, found.sizes, found.brands, self.threshold)


@dataclass(frozen=True)
class Pipeline:
    """A loaded bundle. `policies` are in alphabetical order; `synthetic`: trained on generated posts.

    `features` says which extractor versions its posts' texts, frames and sounds came from: name -> version. `logos` is None where there
    was nothing to train a detector on, and in bundles from before there was one.
    """

    models: stage1.Stage1
    logos: Logos | None
    fusion: fusion_model.Fusion
    calibration: Mapping[str, Any]
    policies: tuple[str, ...]
    synthetic: bool
    features: Mapping[str, str]

    def predict(self, posts: pd.DataFrame, media: stage1.Media, report: Report = silent) -> pd.DataFrame:
        """Calibrated probability of violation of each policy.

        Args:
            posts: post_id, language, text (str or null), image_digests (list of str), num_frames, audio_digests, num_hashtags (int),
                has_link (bool), prior_removals (int) and, where it is known, context_excess, as in the snapshot's posts; where
                `fusion.incumbent` names a model, its scores as `incumbent.beside` gives them, for a post without one counts as not
                judged by it.
            media: gives pictures and sounds by digest.
            report: is told how many posts have been done since its last call.

        Returns:
            post_id and prob_{policy} (float64 in (0, 1)), in the order of `posts`.
        """
        rows = posts[["post_id", "language", "num_hashtags", "has_link", "prior_removals", *posts.columns.intersection(["context_excess"])]]
        if self.fusion.incumbent is not None:
            said = [f"prob_{fusion_model.INCUMBENT}_{policy}" for policy in self.policies]
            rows = pd.concat([rows, posts.reindex(columns=said).astype("float64")], axis=1)
        if self.logos is not None:
            rows = rows.merge(self.logos.of_posts(posts, media.images), on="post_id", how="left", validate="1:1")
        first = stage1.predict(self.models, posts, self.policies, media, BATCH_SIZE, CHUNK_SIZE, report)
        rows = rows.merge(first, on="post_id", how="left", validate="1:1")
        fused = fusion_model.apply(self.fusion.policies, rows)
        for policy in self.policies:
            entry = self.calibration["categories"].get(policy)
            fused[f"prob_{policy}"] = calibration_map.apply(entry, fused[f"prob_{policy}"].to_numpy(), rows["language"].to_numpy())
        return fused


def assemble(workspace: Path, out: Path) -> Path:
    """Copy what a finished workspace has made into one folder, with the digest of every file in pipeline.json.

    Args:
        workspace: folder in which the graph has run up to the stage calibrate, and the stage logo_evaluate.
        out: folder to make; an existing one is replaced.

    Raises:
        FailedWork: a part is missing.
    """
    for source in PARTS.values():
        if not (workspace / source).exists():
            raise FailedWork(f"{workspace / source}: missing, so there is no whole model to assemble; run the graph to its end first")
    manifest = read_manifest(workspace / paths.SNAPSHOT)
    with replacing_folder(out) as folder:
        for name, source in PARTS.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if (workspace / source).is_dir():
                shutil.copytree(workspace / source, folder / name)
            else:
                shutil.copy(workspace / source, folder / name)
        policies = _fusion(folder).policies
        versions = {name: importlib.metadata.version(name) for name in LIBRARIES} | {"python": platform.python_version()}
        description = {
            "format": FORMAT,
            "policies": sorted(policies),
            "files": _digests(folder),
            "snapshot_digest": manifest["digest"],
            "synthetic": bool(manifest["synthetic"]),
            "features": {name: table["extractor_version"] for name, table in manifest["features"].items()},
            "versions": versions,
        }
        write_json(folder / DESCRIPTION, description)
    return out


def load(bundle: Path) -> Pipeline:
    """Load a bundle, after checking every file of it against its digest. No code of it is ever run.

    Returns:
        the pipeline, on the best device here.

    Raises:
        FailedWork: the folder is no bundle of this format, or a file is missing, changed, was added, or names code to run; the message
            says which.
    """
    try:
        description: dict[str, Any] = json.loads((bundle / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FailedWork(f"{bundle / DESCRIPTION}: not readable ({error}); expected a bundle exported from the registry") from error
    number = description.get("format")
    if number not in (BEFORE_NGRAMS, FORMAT):
        expected = f"this code reads {BEFORE_NGRAMS} and {FORMAT}"
        raise FailedWork(f"{bundle / DESCRIPTION}: format {number!r}, {expected}; use the matching code")
    found = _digests(bundle)
    for name in sorted(found.keys() | description["files"].keys()):
        if name not in found:
            raise FailedWork(f"{bundle / name}: missing from the bundle; export the model again from the registry")
        if found[name] != description["files"].get(name):
            raise FailedWork(
                f"{bundle / name}: not the file that was registered (its SHA-256 differs); do not use this bundle, export it again"
            )
    _refuse_code(bundle)
    from upheld.training.logos import detector as logo_detector  # OpenCV

    detector = logo_detector.load(bundle / "logo")
    fusion = _fusion(bundle)
    unheard = fusion.unheard() | (frozenset() if number == FORMAT else {"ngrams"})
    return Pipeline(
        models=stage1.load(*(None if name in unheard else bundle / name for name in ("text", "ngrams", "image", "audio"))),
        logos=None if detector is None else Logos(detector, stage1.read_logo_threshold(bundle / "logo_evaluation.json")),
        fusion=fusion,
        calibration=calibration_map.load(bundle / "calibration/calibration.json"),
        policies=tuple(description["policies"]),
        synthetic=description["synthetic"],
        features=description["features"],
    )


def _refuse_code(bundle: Path) -> None:
    """Refuse JSON with a key `auto_map`, at whatever depth: by it Hugging Face's libraries import code that lies beside a model."""

    def look(pairs: list[tuple[str, Any]]) -> None:
        if any(key == "auto_map" for key, _ in pairs):
            raise FailedWork(f"{path}: key auto_map: names code to run, which no bundle of ours does; do not use this bundle")

    for path in sorted(bundle.rglob("*.json")):
        try:
            json.loads(path.read_bytes(), object_pairs_hook=look)
        except (ValueError, RecursionError) as error:
            raise FailedWork(f"{path}: not readable as JSON ({error}); export the model again from the registry") from error


def _fusion(bundle: Path) -> fusion_model.Fusion:
    path = bundle / "fusion/fusion.json"
    try:
        return fusion_model.Fusion.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise FailedWork(f"{path}: not a fusion layer of this code ({error}); run the stage fusion again") from error


def _digests(bundle: Path) -> dict[str, str]:
    files = (path for path in sorted(bundle.rglob("*")) if path.is_file() and path != bundle / DESCRIPTION)
    return {path.relative_to(bundle).as_posix(): hashing.of_file(path) for path in files}
