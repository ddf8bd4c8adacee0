"""Whose verdicts a person has taken out of labels and estimates, from when on."""

from upheld.feature_store.contracts.workspace import Hold
from upheld.feature_store.decisions.event_log import EventLog

_LOG = EventLog("holds", "held reviewers", Hold, "reviewer_id", "hold")
path_of, read, held, append = _LOG.path, _LOG.read, _LOG.standing, _LOG.append
