#!/bin/sh
# Downloads packages of one Debian suite and unpacks them; installs nothing.
#
#   fetch.sh SUITE FOLDER PACKAGE[=VERSION]...
#
# Works with the machine's own mirror and keys but a package list of its own, so
# it needs neither root nor a fresh `apt-get update`, and any suite is within
# reach. Prints the packages' file names, which tell their versions.
set -eu

suite=$1 folder=$2
shift 2

mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
cd "$folder"

# What an update would read tells the mirrors; one for Debian itself will do.
mirror=$(apt-get update --print-uris | sed -n "s|^'\(.*/debian/\?\)/dists/.*|\1|p" | head -n 1)
[ -n "$mirror" ] || {
  echo "apt knows no Debian mirror on this machine" >&2
  exit 1
}

keys=
for keyring in /usr/share/keyrings/debian-archive-keyring.*; do
  [ -e "$keyring" ] && keys="[signed-by=$keyring]"
done
echo "deb $keys $mirror $suite main" > apt/sources.list

# State::status: what this machine has installed must not count as a newer version.
# Check-Valid-Until: a mirror frozen at some day keeps the date of that day.
private_apt() {
  apt-get --quiet=2 \
    -o Dir::Etc::SourceList="$PWD/apt/sources.list" \
    -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$PWD/apt/lists" \
    -o Dir::State::status=/dev/null \
    -o Dir::Cache="$PWD/apt/cache" \
    -o APT::Sandbox::User= \
    -o Acquire::Check-Valid-Until=false \
    -o Acquire::Languages=none \
    "$@"
}
private_apt update
private_apt download "$@"
rm -r apt

for package in *.deb; do
  dpkg-deb --extract "$package" .
  echo "$package"
  rm "$package"
done
