#!/usr/bin/env bash
# Saves both databases, the store and MLflow's artifacts, and restores them into a new installation.
#
#   docker compose run --rm backup                   # into ./backups/<time in UTC>
#   docker compose down --volumes                    # the loss, or another machine with the same .env
#   docker compose up --detach postgres
#   docker compose run --rm backup restore <time>    # refuses where anything is already
#   docker compose up --detach
#
# Databases come first: what they name was in the store before. What the store got meanwhile is more, not less, and
# `llmops release rebuild-registry <usecase>` shows it in MLflow. Not saved: caches, logs, a store on S3 (let the bucket keep
# versions) and .env, without whose keys neither connections nor pseudonyms can be read. Keep that apart.
set -euo pipefail
umask 077
folder=${BACKUPS:-/backups} var=${LLMOPS_HOME:-/opt/airflow/var} artifacts=${MLARTIFACTS:-/opt/airflow/mlartifacts}

as() { # as <role> <command>...: the role's password by the environment, where process lists do not show it
    local role=$1 password=${1^^}_DB_PASSWORD
    PGUSER=$role PGDATABASE=$role PGPASSWORD=${!password} "${@:2}"
}

save() {
    local name unfinished
    name=$(date -u +%Y-%m-%dT%H-%M-%SZ) unfinished=$folder/.unfinished
    rm -rf "$unfinished"
    mkdir -p "$unfinished"
    for role in airflow mlflow; do as $role pg_dump --format custom --file "$unfinished/$role.dump"; done
    tar -czf "$unfinished/var.tar.gz" -C "$var" --exclude ./cache --exclude ./huggingface --exclude ./scratch .
    tar -czf "$unfinished/mlartifacts.tar.gz" -C "$artifacts" .
    (cd "$unfinished" && sha256sum -- *.dump *.tar.gz >SHA256SUMS)
    mv "$unfinished" "$folder/$name" # only what is whole has its name
    echo "$folder/$name"
    [[ ${LLMOPS_STORE:-file://} == file://* ]] || echo "not saved: the store ${LLMOPS_STORE}"
}

restore() {
    local from=$folder/${1:?name one of: $(ls "$folder")}
    (cd "$from" && sha256sum --quiet --check SHA256SUMS)
    for role in airflow mlflow; do must_be_empty $role; done
    [[ -z $(ls -A "$var") ]] || refuse "$var holds files"
    [[ -z $(ls -A "$artifacts") ]] || refuse "$artifacts holds files"
    for role in airflow mlflow; do
        as $role pg_restore --no-owner --exit-on-error --single-transaction --dbname $role "$from/$role.dump"
    done
    tar -xzpf "$from/var.tar.gz" -C "$var"
    tar -xzpf "$from/mlartifacts.tar.gz" -C "$artifacts"
    echo "restored from $from"
}

must_be_empty() {
    local tables
    tables=$(as "$1" psql -tAc "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    [[ $tables == 0 ]] || refuse "the database $1 has $tables tables"
}

refuse() {
    echo "Nothing was restored: $1. Restore into new volumes (docker compose down --volumes, up --detach postgres)." >&2
    exit 1
}

case ${1:-save} in
    save) save ;;
    restore) restore "${2:-}" ;;
    *) echo "usage: backup.sh save | restore <name>" >&2 && exit 2 ;;
esac
