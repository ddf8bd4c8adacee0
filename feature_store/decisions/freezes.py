"""In which categories a person has stopped automatic removal."""

from upheld.feature_store.contracts.workspace import Event
from upheld.feature_store.decisions.event_log import EventLog

_LOG = EventLog("freezes", "frozen categories", Event, "category", "freeze")
path_of, read, frozen, append = _LOG.path, _LOG.read, _LOG.standing, _LOG.append
