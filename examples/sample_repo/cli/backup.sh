#!/bin/sh
# Copies the ledger's database to a folder with today's date.
set -eu

database=${1:?usage: backup.sh DATABASE FOLDER}
folder=${2:?usage: backup.sh DATABASE FOLDER}
today=$(date +%Y-%m-%d)

if [ ! -f "$database" ]; then
    ▮
fi
mkdir -p "$folder/$today"
