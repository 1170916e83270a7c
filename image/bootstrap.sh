#!/bin/sh
# A base for the Dockerfile out of Debian's own packages, where no registry of images is at hand:
#   image/bootstrap.sh FOLDER && tar -C FOLDER -c . | buildah ... (tests/support/images.py does it)
# Needs root and debootstrap. Without manual pages and translations, as Debian's slim images are.
set -eu
folder=$1 mirror=${2:-http://deb.debian.org/debian}
mkdir -p "$folder/etc/dpkg/dpkg.cfg.d"
cat > "$folder/etc/dpkg/dpkg.cfg.d/slim" <<CONFIG
path-exclude /usr/share/doc/*
path-exclude /usr/share/man/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/info/*
CONFIG
debootstrap --variant=minbase --include=ca-certificates,python3-venv,python-is-python3 \
  bookworm "$folder" "$mirror"
# What was unpacked before dpkg could read the above.
rm -rf "$folder"/usr/share/doc/* "$folder"/usr/share/man/* "$folder"/usr/share/locale/* \
  "$folder"/usr/share/info/* "$folder"/var/cache/apt/* "$folder"/var/lib/apt/lists/* \
  "$folder"/var/log/*
