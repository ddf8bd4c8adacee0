"""The API server of an Airflow on SQLite does not wait for itself when it writes its audit log."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from upheld.registry.servers import airflow_sessions


class Base(DeclarativeBase):
    pass


class Log(Base):
    __tablename__ = "log"
    id: Mapped[int] = mapped_column(primary_key=True)
    event: Mapped[str]


class Run(Base):
    __tablename__ = "dag_run"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = create_engine(f"sqlite:///{tmp_path / 'airflow.db'}?timeout=1")
    Base.metadata.create_all(made)
    yield made
    made.dispose()


def written(engine: Engine, table: type[Base]) -> int:
    airflow_sessions._WRITER.submit(lambda: None).result()  # what was submitted before is done
    with airflow_sessions.session_maker(engine)() as session:
        return len(session.scalars(select(table)).all())


async def commit(engine: Engine, *rows: Base) -> None:
    with airflow_sessions.session_maker(engine)() as session:
        session.add_all(rows)
        session.commit()


def test_the_event_loop_does_not_wait_for_another_request_and_the_row_is_written_after_it(engine: Engine) -> None:
    async def while_another_writes() -> None:
        with engine.connect() as other:
            other.execute(text("INSERT INTO dag_run VALUES (1)"))
            with pytest.raises(OperationalError, match="locked"):
                await commit(engine, Log(event="mixed"), Run(id=2))  # what decides anything is committed or refused, never later
            await commit(engine, Log(event="trigger_dag_run"))
            await commit(engine, Log(event="patch_dag"))
            other.commit()

    asyncio.run(while_another_writes())
    assert (written(engine, Log), written(engine, Run)) == (2, 1)


def test_without_an_event_loop_a_commit_is_a_commit(engine: Engine) -> None:
    with airflow_sessions.session_maker(engine)() as session, engine.connect() as other:
        session.add(Log(event="patch_dag"))
        session.commit()
        assert other.execute(text("SELECT event FROM log")).all() == [("patch_dag",)]


def test_a_row_that_cannot_be_written_is_told(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        asyncio.run(commit(engine, Log(id=1, event="first")))
        asyncio.run(commit(engine, Log(id=1, event="again")))
        assert written(engine, Log) == 1
    assert "a row of Airflow's audit log is lost" in caplog.text
