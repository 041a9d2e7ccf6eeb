#!/bin/bash
# One database and one user for each server that keeps its metadata here. Runs once, on an empty volume.
set -eu

for name in airflow mlflow; do
  variable="${name^^}_DB_PASSWORD"
  psql -q -v ON_ERROR_STOP=1 -v name="$name" -v password="${!variable}" -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<'SQL'
CREATE USER :"name" PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
