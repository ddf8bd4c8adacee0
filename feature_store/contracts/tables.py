"""Names, types and enumerations of every table: the only place where a column is defined, and what its languages and weeks are called."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")
UNDETERMINED: Final = "und"
POOLED: Final = "all"  # what tables of figures call all languages or groups together; no post may

MEDIA_KINDS: Final = ("image", "video", "audio")
NUM_BANDS: Final = 64  # of the spectrograms that are kept and that the audio classifier reads
LOGIT_LIMIT: Final = 12.0  # of a probability: the score bins end there, so that no odds are infinite
ACTIONS: Final = ("auto_remove", "review", "none")
ZONES: Final = ACTIONS  # an audit draws within the zone that the decision's action put the post into
VERDICTS: Final = ("confirm_removal", "restore", "escalate")
SOURCES: Final = ("queue", "audit_removed", "audit_passed", "appeal", "targeted")
APPEAL: Final = "appeal"
TARGETED: Final = "targeted"  # asked for because a model doubts a label: no draw, so no inclusion_prob, and in no estimate
LOGO_VERDICTS: Final = ("confirmed", "wrong", "missed")
SPLITS: Final = ("train", "val", "fusion", "calib", "test")
SYNTHETIC_MARK: Final = "SYNTHETIC.json"  # a delivery that holds this file was made by a generator of ours

# BCP-47 as posts carry it: primary subtag, then script, region and variants. `und` is a primary subtag of its own.
# Source: RFC 5646 section 2.1, without extensions and private use.
LANGUAGE_PATTERN: Final = r"^[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*$"

MAX_LANGUAGES: Final = 256  # about as many as are written on any platform; uploaders can make up many more

# Source: ISO 3166-1 alpha-2, officially assigned codes (249), and XK, which is in use for Kosovo.
_REGION_CODES: Final = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ "
    "CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR "
    "GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT "
    "JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO "
    "MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY "
    "QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO "
    "TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW"
)
REGIONS: Final = frozenset(_REGION_CODES.split())


def canonical_language(tag: str) -> str:
    """A tag as RFC 5646 section 2.1.1 writes it: language in lower case, script in title case, region in upper case."""
    first, *rest = tag.split("-")
    cased = {2: str.upper, 4: str.title}
    return "-".join([first.lower(), *(cased.get(len(part), str.lower)(part) for part in rest)])


def nameable(languages: "pd.Series[str]") -> "pd.Series[str]":
    """Language tags by which posts can be counted, whatever their uploaders wrote.

    Args:
        languages: BCP-47 tags, without nulls.

    Returns:
        the tags; `all` becomes `und`. Where there are more than MAX_LANGUAGES, the rarer half counts as its primary subtag (`en-abcde`
        as `en`), and what is still too many as `und`.
    """
    tags = languages.mask(languages == POOLED, UNDETERMINED)
    if tags.nunique() <= MAX_LANGUAGES:
        return tags
    tags = tags.where(tags.isin(_frequent(tags, MAX_LANGUAGES // 2)), tags.str.partition("-")[0])
    return tags.mask((tags == POOLED) | ~tags.isin(_frequent(tags, MAX_LANGUAGES - 1)), UNDETERMINED)


def _frequent(tags: "pd.Series[str]", num: int) -> list[str]:
    """The most frequent tags, ties in order of the alphabet."""
    return list(tags.value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:num])


def week_of(times: "pd.Series[Any]") -> "pd.Series[str]":
    """ISO week of each time, such as `2026-W43`: what tables call a period."""
    calendar = times.dt.isocalendar()
    weeks: pd.Series[str] = calendar["year"].astype(str) + "-W" + calendar["week"].astype(str).str.zfill(2)
    return weeks


@dataclass(frozen=True)
class Contract:
    """What a delivered table must look like.

    Attributes:
        schema: Arrow schema of the columns as delivered; a field that may hold null, or be absent, is nullable.
        optional: columns that a file may leave out.
        key: column that names a row; with `revision`, where the table has one, it is unique in the ledger.
            Tombstones have no id: their content names them.
        time: column of the time at which the row became true (`valid_at` of the ledger).
        refers: True if each row speaks of a post that must be known before the row counts.
    """

    schema: pa.Schema
    optional: tuple[str, ...]
    key: str
    time: str
    refers: bool


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _with(schema: pa.Schema, field: pa.Field) -> pa.Schema:
    return schema.set(schema.get_field_index(field.name), field)


_TEXT = pa.string()
MEDIA: Final = pa.struct([_required("kind", _TEXT), _required("uri", _TEXT)])

POSTS: Final = pa.schema(
    [
        _required("post_id", _TEXT),
        _required("created_at", TIMESTAMP),
        _required("language", _TEXT),
        pa.field("region", _TEXT),
        pa.field("text", _TEXT),
        pa.field("hashtags", pa.list_(_TEXT)),
        pa.field("media", pa.list_(MEDIA)),
        pa.field("context_id", _TEXT),
        pa.field("author_id", _TEXT),
        pa.field("author_group", _TEXT),
    ]
)
DECISIONS: Final = pa.schema(
    [
        _required("decision_id", _TEXT),
        _required("post_id", _TEXT),
        _required("decided_at", TIMESTAMP),
        _required("category", _TEXT),
        _required("score", pa.float64()),
        _required("action", _TEXT),
        _required("model_version", _TEXT),
    ]
)
REVIEW_OUTCOMES: Final = pa.schema(
    [
        _required("outcome_id", _TEXT),
        _required("revision", pa.int64()),
        _required("post_id", _TEXT),
        _required("category", _TEXT),
        _required("verdict", _TEXT),
        _required("reviewer_id", _TEXT),
        _required("reviewed_at", TIMESTAMP),
        _required("source", _TEXT),
        pa.field("inclusion_prob", pa.float64()),  # null of source `targeted` alone
        pa.field("draw_id", _TEXT),
    ]
)
LOGO_OUTCOMES: Final = pa.schema(
    [
        _required("outcome_id", _TEXT),
        _required("revision", pa.int64()),
        _required("post_id", _TEXT),
        _required("media_uri", _TEXT),
        _required("brand", _TEXT),
        *(_required(name, pa.float64()) for name in ("x1", "y1", "x2", "y2")),
        _required("verdict", _TEXT),
        _required("reviewer_id", _TEXT),
        _required("reviewed_at", TIMESTAMP),
    ]
)
TOMBSTONES: Final = pa.schema([pa.field("post_id", _TEXT), pa.field("author_id", _TEXT), _required("deleted_at", TIMESTAMP)])

# What a delivery may hold: folder name -> contract, in the order in which rows can refer to each other.
DELIVERED: Final = {
    "tombstones": Contract(TOMBSTONES, ("post_id", "author_id"), "row_digest", "deleted_at", False),
    "posts": Contract(POSTS, ("region", "hashtags", "media", "context_id", "author_id", "author_group"), "post_id", "created_at", False),
    "decisions": Contract(DECISIONS, (), "decision_id", "decided_at", True),
    "review_outcomes": Contract(REVIEW_OUTCOMES, ("draw_id",), "outcome_id", "reviewed_at", True),
    "logo_outcomes": Contract(LOGO_OUTCOMES, (), "outcome_id", "reviewed_at", True),
}

AUDIT_DRAWS: Final = pa.schema(
    [
        _required("draw_id", _TEXT),
        _required("post_id", _TEXT),
        _required("category", _TEXT),
        _required("language", _TEXT),
        _required("zone", _TEXT),
        _required("inclusion_prob", pa.float64()),
        _required("drawn_at", TIMESTAMP),
    ]
)
# What people are asked to judge: draws, and labels that models doubt, whose zone is `targeted` and whose inclusion_prob is null.
PLAN: Final = _with(AUDIT_DRAWS, pa.field("inclusion_prob", pa.float64()))

# The table that evaluation reads: one row per item and category, scores of any origin.
SCORES: Final = pa.schema(
    [
        _required("item_id", _TEXT),
        _required("category", _TEXT),
        _required("language", _TEXT),
        _required("score", pa.float64()),
        pa.field("label", pa.float64()),
        pa.field("inclusion_prob", pa.float64()),
        pa.field("zone", _TEXT),
        pa.field("region", _TEXT),
        pa.field("author_group", _TEXT),
        pa.field("period", _TEXT),
        pa.field("split", _TEXT),
    ]
)
SCORES_REQUIRED: Final = ("item_id", "category", "language", "score", "label")

# What the stage fusion says of labelled test posts with and without one of its sources; probabilities are not calibrated.
ABLATIONS: Final = pa.schema(
    [
        _required("post_id", _TEXT),
        _required("policy", _TEXT),
        _required("source", _TEXT),  # a modality (text, image, audio, incumbent), author, hashtags_and_links, context or marks
        _required("label", pa.bool_()),
        _required("weight", pa.float64()),  # 1 / inclusion_prob
        _required("prob", pa.float64()),
        _required("prob_without", pa.float64()),
    ]
)
# What the stage attack measures: one row a post, policy, attack and member of the model. `edits` counts characters or pixels changed, 0
# where an attack changes all pixels a little; probabilities are in [0, 1] and, of the ensemble, not calibrated.
ATTACKS: Final = pa.schema(
    [
        _required("post_id", _TEXT),
        _required("language", _TEXT),
        _required("policy", _TEXT),
        _required("modality", _TEXT),
        _required("attack", _TEXT),
        _required("member", _TEXT),
        _required("label", pa.bool_()),
        _required("weight", pa.float64()),  # 1 / inclusion_prob
        _required("clean_prob", pa.float32()),
        _required("attacked_prob", pa.float32()),
        _required("edits", pa.int32()),
    ]
)

# Columns that the ledger adds to every accepted row.
#   valid_at     when it became true in the world (the contract's time column)
#   recorded_at  when we first learned of it: the smallest `as of` of the ingests that brought it
#   delivery     content digest of that delivery
#   file         the file's path in it, row_number counts from 0
#   row_digest   128-bit digest of the delivered content, hexadecimal; equal rows have equal digests in any file format
BOOKKEEPING: Final = (
    _required("valid_at", TIMESTAMP),
    _required("recorded_at", TIMESTAMP),
    _required("delivery", _TEXT),
    _required("file", _TEXT),
    _required("row_number", pa.int64()),
    _required("row_digest", _TEXT),
)

# In the ledger a post's media carry the SHA-256 of their bytes: the key of the media table.
LEDGER_MEDIA: Final = pa.struct([*MEDIA, _required("digest", _TEXT)])

QUARANTINE: Final = pa.schema(
    [
        _required("table", _TEXT),
        _required("file", _TEXT),
        _required("row_number", pa.int64()),
        pa.field("key", _TEXT),
        _required("reason", _TEXT),
        _required("detail", _TEXT),
        _required("raw", _TEXT),
        # What follows lets a row be judged again, and be found when its post or author must be forgotten.
        pa.field("revision", pa.int64()),
        pa.field("post_id", _TEXT),
        pa.field("author_id", _TEXT),
        _required("well_formed", pa.bool_()),
        _required("recorded_at", TIMESTAMP),
        _required("delivery", _TEXT),
        _required("row_digest", _TEXT),
    ]
)
PENDING: Final = QUARANTINE

MEDIA_FILES: Final = pa.schema(
    [
        _required("digest", _TEXT),
        _required("kind", _TEXT),
        _required("format", _TEXT),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        _required("num_bytes", pa.int64()),
        _required("bytes", pa.large_binary()),
    ]
)
REFUSED_POSTS: Final = pa.schema([_required("post_id", _TEXT)])  # posts whose author has a tombstone
DELIVERIES: Final = pa.schema(
    [_required("delivery", _TEXT), _required("as_of", TIMESTAMP), _required("synthetic", pa.bool_()), _required("summary", _TEXT)]
)


def _kept(schema: pa.Schema) -> pa.Schema:
    return pa.schema([*schema, *BOOKKEEPING])


# Every table of the ledger.
LEDGER: Final = {
    "tombstones": _kept(TOMBSTONES),
    "posts": _kept(_with(POSTS, pa.field("media", pa.list_(LEDGER_MEDIA)))),
    "decisions": _kept(DECISIONS),
    "review_outcomes": _kept(_with(REVIEW_OUTCOMES, _required("inclusion_prob", pa.float64()))),  # 1 where none was delivered
    "logo_outcomes": _kept(LOGO_OUTCOMES),
    "audit_draws": AUDIT_DRAWS,
    "pending": PENDING,
    "quarantine": QUARANTINE,
    "media": MEDIA_FILES,
    "refused_posts": REFUSED_POSTS,
    "deliveries": DELIVERIES,
}
