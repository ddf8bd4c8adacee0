"""Languages as tables of figures can name them: not too many, and none that reads as all of them together."""

import pandas as pd

from upheld.feature_store.contracts.tables import POOLED, UNDETERMINED

MAX_LANGUAGES = 256  # about as many as are written on any platform; uploaders can make up many more


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
