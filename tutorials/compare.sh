#!/usr/bin/env bash
# compare.sh PROGRAM FOLDER: PROGRAM must print FOLDER/expected.txt, byte for byte, and the pictures it makes must stand in FOLDER.
set -euo pipefail
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
"$1" "$made" >"$made/printed.txt"
diff -u "$2/expected.txt" "$made/printed.txt" || {
  echo "what the tutorial prints has changed (+); if it should, write the new output to ${2##*/}/expected.txt" >&2
  exit 1
}
for picture in "$made"/*.svg; do
  [[ -s $2/${picture##*/} ]] || { echo "${picture##*/} is not in ${2##*/}; let the program write it there" >&2; exit 1; }
done
