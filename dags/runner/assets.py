"""The URI of every asset that our DAGs announce. An event is a nudge, not a queue: read past your own watermark."""

from airflow.sdk import Asset

LEDGER = Asset(name="ledger", uri="upheld://store/ledger")
CHALLENGER = Asset(name="challenger", uri="upheld://registry/upheld-moderation/challenger")
