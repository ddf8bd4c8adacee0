"""Database sessions for an Airflow on SQLite, whose API server would wait for itself.

Airflow 3.3 writes who asked for what (its audit log) on the thread of the event loop. On SQLite that write waits for another request's
transaction, whose commit waits for the event loop: both stand still until the wait for the lock ends, and one of them answers 500.
So here such a row is written by a thread of its own, in the order in which requests came.
"""

import asyncio
import logging
from concurrent.futures import Future, ThreadPoolExecutor

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

_WRITER = ThreadPoolExecutor(1, thread_name_prefix="audit-log")  # what it still holds at the process's end is written first


class AuditLogApart(Session):
    """A session that does not wait for the database on the thread of an event loop when it has nothing but audit log to write."""

    def commit(self) -> None:
        """Commit; rows of the audit log alone, on an event loop's thread, are left to the writer."""
        rows = list(self.new)
        if rows and not self.dirty and not self.deleted and all(row.__tablename__ == "log" for row in rows) and _on_event_loop():
            for row in rows:
                self.expunge(row)
            _WRITER.submit(self._write, rows).add_done_callback(_tell_failure)
        else:
            super().commit()

    def _write(self, rows: list[object]) -> None:
        with Session(self.bind) as session, session.begin():
            session.add_all(rows)


def session_maker(engine: Engine) -> sessionmaker[AuditLogApart]:
    """Return what makes Airflow's sessions; named by Airflow's setting `database.sql_alchemy_session_maker`."""
    return sessionmaker(engine, class_=AuditLogApart, autoflush=False, expire_on_commit=False)


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _tell_failure(written: Future[None]) -> None:
    if error := written.exception():
        logging.getLogger(__name__).error("a row of Airflow's audit log is lost: %s", error)
