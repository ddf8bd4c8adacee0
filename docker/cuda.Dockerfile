# Where tasks run on a machine with an NVIDIA card: what trainer.Dockerfile makes, and the two variables by which the NVIDIA Container
# Toolkit puts the host's driver into a container. The CUDA libraries themselves come with torch's wheels, as requirements.lock has them.
# Build from the repository: docker build -f docker/cuda.Dockerfile -t upheld-cuda:0.1.0 .
FROM python:3.11.13-slim-bookworm

RUN useradd --create-home --uid 10001 upheld && install -d -o upheld /var/lib/upheld
WORKDIR /opt/upheld

# What is installed comes from requirements.lock alone: uv checks the lock's hashes for constraints as for requirements.
COPY docker/uv.txt docker/uv.txt
RUN pip install --no-cache-dir --require-hashes -r docker/uv.txt
COPY pyproject.toml requirements.lock ./
RUN uv venv /opt/airflow && \
    uv pip install --no-cache --python /opt/airflow/bin/python -c requirements.lock -r pyproject.toml --extra airflow --extra pipeline
RUN uv venv /opt/ml && \
    uv pip install --no-cache --python /opt/ml/bin/python -c requirements.lock -r pyproject.toml --extra pipeline --extra ml --extra weights --extra faces

COPY .dvc/config .dvc/config
COPY .dvcignore dvc.yaml params.yaml ./
COPY common common
COPY dags dags
COPY evaluation evaluation
COPY feature_store feature_store
COPY registry registry
COPY training training
COPY upheld upheld

ENV PATH=/opt/airflow/bin:$PATH \
    PYTHONPATH=/opt/upheld \
    PYTHONUNBUFFERED=1 \
    AIRFLOW_HOME=/var/lib/upheld/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/upheld/dags \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    UPHELD_PYTHON=/opt/ml/bin/python \
    UPHELD_STORE=/var/lib/upheld \
    DO_NOT_TRACK=true
USER upheld
CMD ["airflow", "scheduler"]
