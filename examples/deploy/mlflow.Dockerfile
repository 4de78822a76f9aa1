# MLflow's server with PostgreSQL's driver, for compose.yaml.
FROM python:3.11.9-slim-bookworm
COPY constraints.txt .
RUN pip install --no-cache-dir -c constraints.txt mlflow 'psycopg[binary]'
# A new volume gets this folder's owner.
RUN useradd --uid 10001 --create-home mlflow && install -d -o mlflow /artifacts
USER 10001
WORKDIR /home/mlflow
